"""The Docker network that kernels are in, and this gateway's address in it."""

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.settings import ResponseSettings

_UNUSABLE = re.compile(r"host|none|container:.*")
_DISCARD_PORT = 9
_GATEWAYS = {"app": "enterprise-gateway", "component": "gateway-network"}
"""Labels of the stack's network for clients' requests."""


@dataclass(frozen=True, slots=True)
class KernelNetwork:
    """A Docker network, as `docker network inspect` describes it."""

    name: str
    subnets: tuple[ipaddress.IPv4Network, ...]
    gateway: str
    """An address in the network that no kernel has; the route to it leads into the network."""
    is_of_swarm: bool = False
    """Whether it spans the nodes of a swarm."""
    is_attachable: bool = False
    """For a network of a swarm: whether containers outside of services may join it."""
    is_ingress: bool = False
    """Whether it is the swarm's network for published ports."""
    is_internal: bool = False
    """Whether no way leads out of it."""
    ipv6_subnets: tuple[ipaddress.IPv6Network, ...] = ()
    is_of_gateways: bool = False
    """Whether its labels say that it is for gateways and their load balancers only."""

    @property
    def capacity(self) -> int:
        """The number of addresses for containers and nodes: of each subnet three are reserved."""
        return sum(max(0, subnet.num_addresses - 3) for subnet in self.subnets)


def check_network_name(name: str) -> None:
    """Raise `ConfigurationError` for a network mode in which kernels cannot be reached."""
    if _UNUSABLE.fullmatch(name):
        raise ConfigurationError(
            f"Kernels cannot run in the Docker network '{name}': each needs an address of its own "
            "that the gateway can reach. Set EG_DOCKER_NETWORK to a bridge or overlay network."
        )


def parse_network(inspected: Mapping[str, Any]) -> KernelNetwork:
    """Return the network in an answer to `GET /networks/NAME`.

    Raises:
        ConfigurationError: the network has no IPv4 addresses.
    """
    configs = (inspected.get("IPAM") or {}).get("Config") or []
    subnets = []
    ipv6_subnets = []
    gateway = ""
    for config in configs:
        if not config.get("Subnet"):
            continue
        subnet = ipaddress.ip_network(config["Subnet"], strict=False)
        if isinstance(subnet, ipaddress.IPv4Network):
            subnets.append(subnet)
            gateway = gateway or config.get("Gateway", "").partition("/")[0] or str(subnet[1])
        else:
            ipv6_subnets.append(subnet)
    if not subnets:
        raise ConfigurationError(f"The Docker network '{inspected['Name']}' has no IPv4 addresses.")
    return KernelNetwork(
        inspected["Name"],
        tuple(subnets),
        gateway,
        is_of_swarm=inspected.get("Scope") == "swarm",
        is_attachable=inspected.get("Attachable", False),
        is_ingress=inspected.get("Ingress", False),
        is_internal=inspected.get("Internal", False),
        ipv6_subnets=tuple(ipv6_subnets),
        is_of_gateways=_GATEWAYS.items() <= (inspected.get("Labels") or {}).items(),
    )


def check_not_of_gateways(
    network: KernelNetwork, trusted: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]
) -> None:
    """Check a network that a kernelspec has chosen instead of the kernels'.

    Args:
        network: as it was inspected.
        trusted: `trusted_proxies`, whose headers say who a client is.

    Raises:
        ConfigurationError: a kernel in it could pass for a proxy of the gateways.
    """
    if network.is_of_gateways:
        raise ConfigurationError(
            f"Kernels cannot be in the Docker network '{network.name}', which is for gateways and "
            "their load balancers (its label component=gateway-network). Name another one in "
            "network of the kernelspec."
        )
    subnets: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = (
        *network.subnets,
        *network.ipv6_subnets,
    )
    for subnet in subnets:
        for each in trusted:
            if each.overlaps(subnet):
                raise ConfigurationError(
                    f"Kernels cannot be in the Docker network '{network.name}': its addresses "
                    f"{subnet} are among those of trusted_proxies (EG_TRUSTED_PROXIES), {each}, so "
                    "a kernel could say who its requests are from. Name another network in the "
                    "kernelspec, or list only the addresses of proxies."
                )


def response_ip(
    network: KernelNetwork, settings: ResponseSettings, source_towards: Callable[[str], str]
) -> str:
    """Return the address that kernels in the network report to.

    Args:
        network: the kernels' network.
        settings: the operator's choice.
        source_towards: returns this machine's address on the route to another one, "" if there is
            no route.

    Raises:
        ConfigurationError: this gateway is not in the network, so it and kernels could not reach
            each other.
    """
    if settings.ip:
        return settings.ip
    source = source_towards(network.gateway)
    if not source or not any(ipaddress.ip_address(source) in subnet for subnet in network.subnets):
        # The engine's host is not in its own overlay networks.
        where = "" if network.is_of_swarm else "on the engine's own host or "
        raise ConfigurationError(
            f"This gateway has no address in the Docker network '{network.name}' "
            f"({', '.join(map(str, network.subnets))}), so kernels in it could not be reached. "
            f"Run the gateway {where}in a container of that network, set EG_DOCKER_NETWORK to a "
            "network that it is in, or set EG_RESPONSE_IP if there is another way."
        )
    if any(re.match(pattern, source) for pattern in settings.prohibited_local_ips):
        raise ConfigurationError(
            f"The only address of this gateway in the Docker network '{network.name}', {source}, "
            "is prohibited by EG_PROHIBITED_LOCAL_IPS. Set EG_RESPONSE_IP to the one to use."
        )
    return source


def source_towards(address: str) -> str:
    """Return the local address from which packets to `address` leave; "" if there is no route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Chooses a route; connecting a datagram socket sends nothing.
            probe.connect((address, _DISCARD_PORT))
        except OSError:
            return ""
        source: str = probe.getsockname()[0]
        return source
