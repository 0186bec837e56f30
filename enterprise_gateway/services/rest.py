"""What the handlers of REST resources share: JSON bodies, and who may list."""

from collections.abc import Mapping
from typing import TypeVar

import msgspec
from aiohttp import web

from enterprise_gateway.errors import UNREADABLE_JSON, ForbiddenError, InvalidRequestError
from enterprise_gateway.settings import LiveSettings

_Body = TypeVar("_Body")
_NOTHING = frozenset({b"", b"null"})


async def decode_body(request: web.Request, kind: type[_Body]) -> _Body:
    """Return the JSON body of a request as a `kind`; an empty body counts as an empty object.

    Raises:
        InvalidRequestError: not JSON, or not of that shape; the text says where and why.
    """
    return decode_json(await request.read(), kind)


def decode_json(raw: bytes, kind: type[_Body]) -> _Body:
    """Return a JSON text as a `kind`; an empty text, or null, counts as an empty object.

    Raises:
        InvalidRequestError: as `decode_body`.
    """
    text = raw.strip()
    try:
        return msgspec.json.decode(b"{}" if text in _NOTHING else text, type=kind)
    except msgspec.ValidationError as exc:
        raise InvalidRequestError(f"Invalid body of request: {exc}") from exc
    except UNREADABLE_JSON as exc:
        raise InvalidRequestError("Invalid JSON in body of request") from exc


async def write_response(request: web.Request, response: web.Response) -> web.Response:
    """Write a response now, and return it for the handler to return.

    Raises:
        ConnectionError: the client is gone.
    """
    await response.prepare(request)
    await response.write_eof()
    return response


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


def check_listing(live: LiveSettings) -> None:
    """Refuse to list kernels and sessions unless `list_kernels` is set.

    Raises:
        ForbiddenError: it is not.
    """
    if not live.current.access.list_kernels:
        raise ForbiddenError("Forbidden")
