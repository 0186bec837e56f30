"""Parsers of options."""

from ipaddress import ip_network

import pytest

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.settings import parse


@pytest.mark.parametrize(
    ("text", "expected"), [("", "/"), ("//", "/"), ("a", "/a/"), ("/a//b/", "/a/b/")]
)
def test_url_path_has_one_slash_at_each_end(text: str, expected: str) -> None:
    """It does not matter how an operator writes it."""
    assert parse.url_path(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("", (0, 0)), ("1..2", (1, 2)), (" 40000 .. 41000 ", (40000, 41000))]
)
def test_port_range_is_two_numbers(text: str, expected: tuple[int, int]) -> None:
    """An empty text is any port."""
    assert parse.port_range(text) == expected


@pytest.mark.parametrize("text", ["8", "1...2", "1-2", "-1..2", "a..b"])
def test_other_port_range_is_an_error(text: str) -> None:
    """The message names the option."""
    with pytest.raises(ConfigurationError, match="port_range"):
        parse.port_range(text)


def test_ids_are_numbers_and_ranges() -> None:
    """A range has both of its ends."""
    expected = (range(5, 6), range(20, 31), range(7, 8))
    assert parse.id_ranges("allowed_uids", ["5", "", " 20 - 30 ", "7-7"]) == expected


@pytest.mark.parametrize("text", ["x", "-1", "1-", "1..2", "2-1", "1-2-3", "9" * 11])
def test_other_ids_are_an_error(text: str) -> None:
    """The message names the option."""
    with pytest.raises(ConfigurationError, match="allowed_uids"):
        parse.id_ranges("allowed_uids", [text])


def test_address_is_a_network_of_one() -> None:
    """Empty items are left by a trailing comma."""
    expected = (ip_network("10.0.0.0/8"), ip_network("10.1.2.3/32"), ip_network("::1"))
    assert parse.networks(["10.0.0.1/8", " 10.1.2.3", "", "::1"]) == expected


def test_other_network_is_an_error() -> None:
    """The message names the option."""
    with pytest.raises(ConfigurationError, match="trusted_proxies 'proxy'"):
        parse.networks(["proxy"])


def test_pattern_must_be_a_regular_expression() -> None:
    """The message names the option."""
    assert parse.patterns(["", "10[.].*"]) == ("10[.].*",)
    with pytest.raises(ConfigurationError, match="prohibited_local_ips '\\['"):
        parse.patterns(["["])
