"""JSON bodies of requests and responses."""

from collections.abc import Mapping
from typing import TypeVar

import msgspec
from aiohttp import web

from enterprise_gateway.errors import InvalidRequestError

_Body = TypeVar("_Body")
_NOTHING = frozenset({b"", b"null"})


async def decode_body(request: web.Request, kind: type[_Body]) -> _Body:
    """Return the JSON body of a request as a `kind`; an empty body counts as an empty object.

    Raises:
        InvalidRequestError: not JSON, or not of that shape; the text says where and why.
    """
    return decode_json(await request.read(), kind)


def decode_json(raw: bytes, kind: type[_Body]) -> _Body:
    """Return a JSON text as a `kind`; nothing, or null, counts as an empty object.

    Raises:
        InvalidRequestError: as `decode_body`.
    """
    text = raw.strip()
    try:
        return msgspec.json.decode(b"{}" if text in _NOTHING else text, type=kind)
    except msgspec.ValidationError as exc:
        raise InvalidRequestError(f"Invalid body of request: {exc}") from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidRequestError("Invalid JSON in body of request") from exc


def json_response(
    value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a response with a value as JSON."""
    return web.Response(
        body=msgspec.json.encode(value),
        status=status,
        headers=headers,
        content_type="application/json",
    )
