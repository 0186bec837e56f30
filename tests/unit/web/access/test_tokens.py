"""Which tokens a request carries."""

import base64
import time

import pytest
from aiohttp.test_utils import make_mocked_request

from enterprise_gateway.web.access.tokens import has_basic, present_tokens

FIELD_BYTES = 16 * 1024
"""The longest field that the server takes."""
DEADLINE_SECONDS = 0.2
"""A regular expression that tries each way to divide the spaces takes longer than this."""


def tokens(authorization: str, path: str = "/api/kernels") -> list[str]:
    """Return the tokens of a request with an `Authorization` field."""
    return list(present_tokens(make_mocked_request("GET", path, {"Authorization": authorization})))


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        ("token abc", ["abc"]),
        ("Bearer abc", ["abc"]),
        ("BEARER \t abc  ", ["abc"]),
        (" token abc", ["abc"]),
        ("token a b", ["a b"]),
        ("Basic " + base64.b64encode(b"user:abc").decode(), ["abc"]),
        ("Basic " + base64.b64encode(b"user:a:b").decode(), ["a:b"]),
        ("Basic abc", []),
        ("token", []),
        ("token ", []),
        ("Bearerabc", []),
        ("Digest abc", []),
        ("", []),
    ],
)
def test_token_is_found_in_each_form(authorization: str, expected: list[str]) -> None:
    """All schemes of Jupyter clients are known, in any case of their letters."""
    assert tokens(authorization) == expected


def test_tokens_of_field_and_url_are_found() -> None:
    """A request may carry several, and each counts once."""
    assert tokens("token a", "/api/kernels?token=b&token=a&token=") == ["a", "b"]


def test_requests_with_http_basic_are_told_apart() -> None:
    """A client is told about its settings if it uses HTTP Basic."""
    assert has_basic(make_mocked_request("GET", "/", {"Authorization": "basic abc"}))
    assert not has_basic(make_mocked_request("GET", "/", {"Authorization": "basic"}))
    assert not has_basic(make_mocked_request("GET", "/", {}))


@pytest.mark.parametrize("filler", [" ", "\t", "token ", "a ", "\u00a0"])
def test_longest_field_is_read_at_once(filler: str) -> None:
    """No field keeps the gateway from other requests."""
    field = f"token a{filler * (FIELD_BYTES // len(filler))}b"
    begin = time.process_time()
    tokens(field)
    assert time.process_time() - begin < DEADLINE_SECONDS
