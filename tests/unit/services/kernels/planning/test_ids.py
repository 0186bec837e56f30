"""As which user and group of the system kernels run."""

import pytest

from enterprise_gateway.errors import ForbiddenError
from enterprise_gateway.services.kernels.planning.ids import check_ids
from enterprise_gateway.services.users import Account
from enterprise_gateway.settings import KernelSettings

ALLOWED = KernelSettings(
    allowed_uids=(range(1000, 1001), range(20000, 30000)), allowed_gids=(range(100, 101),)
)


def is_allowed(
    asked: dict[str, object], account: Account | None = None, settings: KernelSettings = ALLOWED
) -> bool:
    """Say whether a client may ask for ids."""
    try:
        check_ids(asked, account or Account(), settings)
    except ForbiddenError:
        return False
    return True


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, True),
        ({"KERNEL_UID": "1000", "KERNEL_GID": "100"}, True),
        ({"KERNEL_UID": "20000"}, True),
        ({"KERNEL_UID": "29999"}, True),
        ({"KERNEL_UID": "30000"}, False),
        ({"KERNEL_UID": " 0030_000 "}, False),
        ({"KERNEL_UID": "1000", "KERNEL_GID": "1000"}, False),
        ({"KERNEL_GID": "20000"}, False),
        ({"KERNEL_UID": "-1"}, False),
    ],
)
def test_request_names_only_ids_that_are_allowed(
    asked: dict[str, object], *, expected: bool
) -> None:
    """Uids and gids each by their own list; without a list every one, as far as this decides."""
    assert is_allowed(asked) is expected
    assert is_allowed(asked, settings=KernelSettings())


def test_ids_of_the_account_are_not_asked_about() -> None:
    """What the request says in their place has no effect."""
    account = Account(uid=5)
    assert is_allowed({"KERNEL_UID": "30000"}, account)
    assert not is_allowed({"KERNEL_UID": "30000", "KERNEL_GID": "5"}, account)


def test_refusal_names_the_id_and_the_setting() -> None:
    """For the client and the operator."""
    with pytest.raises(ForbiddenError, match=r"KERNEL_UID asks for 5, .*EG_ALLOWED_UIDS"):
        check_ids({"KERNEL_UID": "5"}, Account(), ALLOWED)
