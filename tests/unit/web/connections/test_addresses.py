"""The address that a gateway listens on."""

import pytest

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.settings import parse
from enterprise_gateway.web.connections.addresses import listen_host


@pytest.mark.parametrize(
    ("ip", "host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost"),
        ("0.0.0.0", "0.0.0.0"),
        ("", None),
        ("*", None),
        ("127.0.0.0/8", "127.0.0.1"),
    ],
)
def test_host_is_as_written_or_the_one_in_the_network(ip: str, host: str | None) -> None:
    """A container learns its address in a network when it starts."""
    assert listen_host(parse.listen_address(ip)) == host


def test_network_that_the_machine_is_not_in_ends_the_start() -> None:
    """With the network, and the option."""
    with pytest.raises(ConfigurationError, match=r"no address in the network 198.51.100.0/24"):
        listen_host("198.51.100.0/24")


def test_network_that_is_none_is_refused() -> None:
    """When the configuration is read."""
    with pytest.raises(ConfigurationError, match="neither an address nor a network"):
        parse.listen_address("10.0.0/99")
