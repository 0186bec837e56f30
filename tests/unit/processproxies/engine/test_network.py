"""The address that kernels in a Docker network report to."""

from ipaddress import ip_network
from typing import Any

import pytest

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.processproxies.engine.network import (
    check_network_name,
    check_not_of_gateways,
    parse_network,
    response_ip,
    source_towards,
)
from enterprise_gateway.settings import ResponseSettings

BRIDGE = {
    "Name": "bridge",
    "IPAM": {"Config": [{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}]},
}


def via(address: str) -> Any:
    """Return a routing table with one entry."""
    return {"172.17.0.1": address}.__getitem__


@pytest.mark.parametrize("source", ["172.17.0.1", "172.17.0.5"])
def test_address_is_the_one_that_this_gateway_has_in_the_network(source: str) -> None:
    """On the engine's host it is the bridge's own, in a container the container's."""
    assert response_ip(parse_network(BRIDGE), ResponseSettings(), via(source)) == source


@pytest.mark.parametrize("source", ["192.168.1.4", ""])
def test_gateway_outside_the_network_is_refused_with_a_reason(source: str) -> None:
    """Kernels that could never be reached are not started."""
    with pytest.raises(ConfigurationError, match="has no address in the Docker network 'bridge'"):
        response_ip(parse_network(BRIDGE), ResponseSettings(), via(source))


def test_operator_may_name_the_address() -> None:
    """EG_RESPONSE_IP is used unchecked."""
    settings = ResponseSettings(ip="10.1.2.3")
    assert response_ip(parse_network(BRIDGE), settings, via("")) == "10.1.2.3"


def test_prohibited_address_is_not_told_to_kernels() -> None:
    """EG_PROHIBITED_LOCAL_IPS holds patterns."""
    settings = ResponseSettings(prohibited_local_ips=(r"172\.17\..*",))
    with pytest.raises(ConfigurationError, match="EG_PROHIBITED_LOCAL_IPS"):
        response_ip(parse_network(BRIDGE), settings, via("172.17.0.1"))


def test_gateway_address_may_be_missing() -> None:
    """An internal network has no gateway: the first address of the subnet serves as well."""
    network = parse_network({"Name": "n", "IPAM": {"Config": [{"Subnet": "10.9.0.0/24"}]}})
    assert network.gateway == "10.9.0.1"


def test_network_of_ipv6_only_is_refused() -> None:
    """Kernels are reached by IPv4."""
    with pytest.raises(ConfigurationError, match="no IPv4"):
        parse_network({"Name": "n", "IPAM": {"Config": [{"Subnet": "fd00::/64"}]}})
    with pytest.raises(ConfigurationError, match="no IPv4"):
        parse_network({"Name": "n", "IPAM": None})


def test_addresses_of_both_kinds_are_compared_with_those_of_proxies() -> None:
    """A network may have IPv6 addresses besides."""
    configs = [{"Subnet": "10.9.0.0/24"}, {"Subnet": "fd00:9::/64"}, {}]
    network = parse_network({"Name": "n", "IPAM": {"Config": configs}})
    check_not_of_gateways(network, [ip_network("10.8.0.0/16"), ip_network("fd00:8::1")])
    for trusted in ("10.9.0.7", "fd00:9::1", "fd00::/16", "0.0.0.0/0", "::/0"):
        with pytest.raises(ConfigurationError, match="trusted_proxies"):
            check_not_of_gateways(network, [ip_network(trusted)])


@pytest.mark.parametrize("name", ["host", "none", "container:x"])
def test_network_without_addresses_of_its_own_is_refused(name: str) -> None:
    """Docker knows these names, but kernels there could not be told apart."""
    with pytest.raises(ConfigurationError, match="EG_DOCKER_NETWORK"):
        check_network_name(name)
    check_network_name("bridge")


def test_source_address_is_found_by_the_route() -> None:
    """Finding the address sends no packet."""
    assert source_towards("127.0.0.1") == "127.0.0.1"
    assert source_towards("255.255.255.255") == ""
