"""Request bodies, decoded into typed structs."""

from typing import TypeVar

import msgspec
from aiohttp import web

from enterprise_gateway.errors import InvalidRequestError

_Body = TypeVar("_Body")


async def decode_body(request: web.Request, kind: type[_Body]) -> _Body:
    """Return the JSON body of a request as a `kind`; an empty body counts as an empty object.

    Raises:
        InvalidRequestError: not JSON, or not of that shape; the text says where and why.
    """
    return decode_json(await request.read(), kind)


def decode_json(raw: bytes, kind: type[_Body]) -> _Body:
    """Return a JSON text as a `kind`; white space alone counts as an empty object.

    Raises:
        InvalidRequestError: as `decode_body`.
    """
    try:
        return msgspec.json.decode(raw if raw.strip() else b"{}", type=kind)
    except msgspec.ValidationError as exc:
        raise InvalidRequestError(f"Invalid body of request: {exc}") from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidRequestError("Invalid JSON in body of request") from exc
