"""Request bodies."""

import pytest

from enterprise_gateway.errors import InvalidRequestError
from enterprise_gateway.services.kernels.planning.launches import StartRequest
from enterprise_gateway.services.rest import decode_json


@pytest.mark.parametrize("raw", [b"", b"  \n", b"null", b"{}"])
def test_no_body_is_an_empty_object(raw: bytes) -> None:
    """Clients that have nothing to say may say nothing."""
    assert decode_json(raw, StartRequest) == StartRequest()


@pytest.mark.parametrize(
    "raw",
    [b"{", b"\xff", b'{"x":' * 100_000, b"{'a': 1}", b'{"name": "\\ud800"}', b"{}{}", b"\0"],
)
def test_what_is_not_json_is_refused(raw: bytes) -> None:
    """Neither truncation, encoding nor depth gets past the decoder."""
    with pytest.raises(InvalidRequestError, match="Invalid JSON"):
        decode_json(raw, StartRequest)


@pytest.mark.parametrize("raw", [b"[]", b'"x"', b"1", b'{"name": 1}', b'{"env": []}'])
def test_what_has_another_shape_is_refused_with_the_place(raw: bytes) -> None:
    """The message says what was expected where, and does not quote the value."""
    with pytest.raises(InvalidRequestError, match="Expected"):
        decode_json(raw, StartRequest)


def test_unknown_keys_do_not_matter() -> None:
    """Clients of other servers send more than we know."""
    assert decode_json(b'{"name": "x", "new": 1}', StartRequest).name == "x"
