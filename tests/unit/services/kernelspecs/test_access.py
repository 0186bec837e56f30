"""Who may use which kernelspec."""

import pytest

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.kernelspecs.access import Access, decide_access
from enterprise_gateway.services.processproxies.config import read_config
from enterprise_gateway.settings import KernelSettings

ANY_USER = KernelSettings()
ONLY_ANN = KernelSettings(authorized_users=frozenset({"ann"}))


@pytest.mark.parametrize(
    ("username", "config", "settings", "expected"),
    [
        ("ann", {}, ANY_USER, Access.GRANTED),
        ("", {}, ANY_USER, Access.GRANTED),
        ("root", {}, ANY_USER, Access.DENIED),
        ("bob", {}, ONLY_ANN, Access.NOT_LISTED),
        ("ann", {}, ONLY_ANN, Access.GRANTED),
        ("Ann", {}, ONLY_ANN, Access.NOT_LISTED),
        ("bob", {"authorized_users": "bob,alice"}, ONLY_ANN, Access.GRANTED),
        ("ann", {"authorized_users": "bob,alice"}, ONLY_ANN, Access.NOT_LISTED),
        ("bo", {"authorized_users": "bob,alice"}, ANY_USER, Access.NOT_LISTED),
        ("", {"authorized_users": "bob,alice"}, ANY_USER, Access.NOT_LISTED),
        ("bob", {"authorized_users": [" bob ", "alice"]}, ANY_USER, Access.GRANTED),
        ("bob", {"unauthorized_users": "bob"}, ANY_USER, Access.DENIED),
        ("bobby", {"unauthorized_users": "bob"}, ANY_USER, Access.GRANTED),
        ("root", {"unauthorized_users": "bob"}, ANY_USER, Access.DENIED),
        ("root", {"authorized_users": "root"}, ANY_USER, Access.DENIED),
    ],
)
def test_access_is_by_membership(
    username: str, config: dict[str, object], settings: KernelSettings, expected: Access
) -> None:
    """Names are whole, denial wins, a kernelspec's authorized set replaces the global one."""
    assert decide_access(username, read_config(config, "py"), settings) is expected


@pytest.mark.parametrize("value", [1, {"bob": 1}, [1], None])
def test_access_sets_of_another_type_are_a_configuration_error(value: object) -> None:
    """A kernelspec with a malformed set is not silently open to all."""
    with pytest.raises(ConfigurationError):
        read_config({"authorized_users": value}, "py")
