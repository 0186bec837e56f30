"""The headers with which a proxy reports its client."""

import pytest

from enterprise_gateway.web.access.xheaders import forwarded_remote, forwarded_scheme


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"X-Real-IP": "10.0.0.1"}, "10.0.0.1"),
        ({"X-Forwarded-For": "1.1.1.1, 10.0.0.2"}, "10.0.0.2"),
        ({"X-Real-IP": "10.0.0.1", "X-Forwarded-For": "10.0.0.2"}, "10.0.0.1"),
        ({"X-Real-IP": "::1"}, "::1"),
        ({"X-Real-IP": "evil\tname"}, None),
    ],
)
def test_proxy_names_the_client(headers: dict[str, str], expected: str | None) -> None:
    """X-Real-IP precedes the last of X-Forwarded-For; malformed addresses are ignored."""
    assert forwarded_remote(headers) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"X-Scheme": "HTTPS"}, "https"),
        ({"X-Forwarded-Proto": "http, https"}, "https"),
        ({"X-Scheme": "gopher"}, None),
    ],
)
def test_proxy_names_the_scheme(headers: dict[str, str], expected: str | None) -> None:
    """X-Scheme precedes the last of X-Forwarded-Proto; other schemes are ignored."""
    assert forwarded_scheme(headers) == expected
