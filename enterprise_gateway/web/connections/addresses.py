"""The address to listen on: as it is written, or the one that this machine has in a network."""

import ipaddress
import socket

from enterprise_gateway.errors import ConfigurationError

_ALL_INTERFACES = frozenset({"", "*"})
_DISCARD_PORT = 9


def listen_host(ip: str) -> str | None:
    """Return the host to bind to, None for all interfaces.

    Args:
        ip: an address, a name, or a network such as `10.0.1.0/24`, which a container is in whose
            address is not known beforehand.

    Raises:
        ConfigurationError: this machine has no address in the network.
    """
    if ip in _ALL_INTERFACES:
        return None
    if "/" not in ip:
        return ip
    network = ipaddress.ip_network(ip, strict=False)
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            # Chooses a route; connecting a datagram socket sends nothing.
            probe.connect((str(network[1]), _DISCARD_PORT))
        except OSError as exc:
            raise _no_address(ip) from exc
        address: str = probe.getsockname()[0]
    if ipaddress.ip_address(address) not in network:
        raise _no_address(ip)
    return address


def _no_address(ip: str) -> ConfigurationError:
    return ConfigurationError(
        f"Cannot listen: this machine has no address in the network {ip} (ip, EG_IP). Set it to an "
        "address, or to a network that this machine or container is in."
    )
