"""CORS headers, and which origins may use the gateway."""

import pytest
from multidict import CIMultiDict

from enterprise_gateway.settings import AccessSettings
from enterprise_gateway.web.access.cors import cors_headers, is_origin_allowed


def test_unset_cors_options_make_no_headers() -> None:
    """Without configuration there are no CORS headers."""
    assert cors_headers(AccessSettings()) == {}


def test_cors_options_are_sent_verbatim() -> None:
    """Each of the six options is the header's value."""
    access = AccessSettings(
        allow_credentials="a", allow_headers="b", allow_methods="c",
        allow_origin="d", expose_headers="e", max_age="f",
    )  # fmt: skip
    assert cors_headers(access) == {
        "Access-Control-Allow-Credentials": "a",
        "Access-Control-Allow-Headers": "b",
        "Access-Control-Allow-Methods": "c",
        "Access-Control-Allow-Origin": "d",
        "Access-Control-Expose-Headers": "e",
        "Access-Control-Max-Age": "f",
    }


@pytest.mark.parametrize(
    ("origin", "allow_origin", "expected"),
    [
        (None, "", True),
        ("http://here:8888", "", True),
        ("https://HERE:8888", "", True),
        ("http://here", "", False),
        ("http://here:88889", "", False),
        ("http://here:8888.evil", "", False),
        ("null", "", False),
        ("http://there", "", False),
        ("http://there", "*", True),
        ("http://there", "http://there", True),
        ("http://there", "http://there/", True),
        ("http://there.evil", "http://there", False),
        ("http://evil/http://there", "http://there", False),
        ("http://[bad", "", False),
    ],
)
def test_origin_is_allowed_if_it_is_ours_or_named(
    origin: str | None, allow_origin: str, *, expected: bool
) -> None:
    """Pages of the gateway's own host and of allow_origin may ask; lookalikes may not."""
    headers = CIMultiDict({"host": "here:8888"} | ({"origin": origin} if origin else {}))
    assert is_origin_allowed(headers, allow_origin) is expected
