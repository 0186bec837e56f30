"""Reads JSON from servers that the operator has named, within bounds."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import TypeVar

import aiohttp
import msgspec

from enterprise_gateway.errors import UNREADABLE_JSON, UnavailableError

TIMEOUT_SECONDS = 5.0
MAX_BYTES = 1024 * 1024

_REFUSALS = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})

T = TypeVar("T")


class JSONClient:
    """A client for HTTP servers. It follows no redirects: they could lead a token elsewhere."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def get(
        self, what: str, url: str, kind: type[T], headers: Mapping[str, str] | None = None
    ) -> T | None:
        """Return the JSON at a URL as a `kind`; None if the server refuses it: 401 or 403.

        Args:
            what: The server's name, for messages.
            url: Where it is.
            kind: The shape of the JSON.
            headers: Headers of the request.

        Raises:
            UnavailableError: The server does not answer, or answers something else.
        """
        return await self._ask("GET", what, url, kind, _REFUSALS, headers=headers)

    async def post(self, what: str, url: str, kind: type[T], form: Mapping[str, str]) -> T | None:
        """Return the JSON for a form; None if the server refuses it: 400, 401 or 403.

        Args:
            what: The server's name, for messages.
            url: Where it is.
            kind: The shape of the JSON.
            form: The fields, which may be secret: no message has them.

        Raises:
            UnavailableError: The server does not answer, or answers something else.
        """
        refusals = _REFUSALS | {HTTPStatus.BAD_REQUEST}  # RFC 6749, section 5.2
        return await self._ask("POST", what, url, kind, refusals, data=form)

    async def _ask(
        self,
        method: str,
        what: str,
        url: str,
        kind: type[T],
        refusals: frozenset[HTTPStatus],
        *,
        headers: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
    ) -> T | None:
        if self._session is None:
            # without cookies: a server's must not go with the next user's token
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(TIMEOUT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # a small answer must not become a large one
                headers={"Accept-Encoding": "identity"},
            )
        try:
            async with self._session.request(
                method, url, headers=headers, data=data, allow_redirects=False
            ) as answer:
                if answer.status in refusals:
                    return None
                if answer.status != HTTPStatus.OK:
                    raise UnavailableError(f"{what} answers {answer.status} at {url}.")
                raw = await _read(answer)
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            cause = "not in time" if isinstance(exc, TimeoutError) else str(exc)
            raise UnavailableError(f"{what} does not answer at {url}: {cause}.") from exc
        try:
            return msgspec.json.decode(raw, type=kind)
        except UNREADABLE_JSON as exc:
            raise UnavailableError(f"{what} answers nothing usable at {url}: {exc}.") from exc


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > MAX_BYTES:
            raise ValueError(f"the answer has more than {MAX_BYTES} bytes")
    return bytes(body)
