"""The network of a private engine."""

from ipaddress import IPv4Network

import pytest

from devtools.bridge import free_subnet, rules
from devtools.console import SetupError


def test_free_subnet_avoids_networks_in_use() -> None:
    """Neither a network inside nor one around a candidate is overlapped."""
    taken = [IPv4Network("10.213.0.128/25"), IPv4Network("10.213.1.0/24")]
    assert free_subnet(taken) == IPv4Network("10.213.2.0/24")


def test_free_subnet_none_left_is_an_error() -> None:
    """A machine that uses all of 10.0.0.0/8 is told so."""
    with pytest.raises(SetupError, match="no address left"):
        free_subnet([IPv4Network("10.0.0.0/8")])


def test_rules_concern_the_own_bridge_only() -> None:
    """Each rule names the bridge, by which it is found again and removed."""
    for rule in rules("eg-test0", IPv4Network("10.213.0.0/24")):
        assert "eg-test0" in rule.split()
