"""The client of one kernel agent's HTTP interface, section 3 of the wire contract."""

import asyncio
import errno
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

import aiohttp
import msgspec

from enterprise_gateway.errors import ConflictError, GatewayError, LaunchError, UnavailableError
from enterprise_gateway.services.kernels.state import AgentState, Annotations
from enterprise_gateway.services.processproxies.contract import AgentEndpoint

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
SILENCE_SECONDS = 40.0
"""An agent's event stream is never silent for more than 15 s."""
MAX_LINE_BYTES = 512 * 1024

_Document = TypeVar("_Document")
_TRANSPORT_ERRORS = (aiohttp.ClientError, TimeoutError, OSError, ValueError, RuntimeError)
"""aiohttp raises RuntimeError after `close`, ValueError for an endless line."""


class NotInPlaceError(ConflictError):
    """The agent is not in the kernel's container, and cannot restart what is there."""


class Agent:
    """One agent. Every call has a deadline; what it cannot reach is an `UnavailableError`.

    Attributes:
        endpoint: where it listens.
        token: what its `Authorization: Bearer` takes.
        gone: done once nobody should talk to it any more: its workload has ended, or moved.
        refused_since: since when nothing has listened at the endpoint, as far as was tried, by the
            event loop's clock. None: something has, or nothing is known.
    """

    def __init__(self, kernel_id: str, endpoint: AgentEndpoint, token: str) -> None:
        self.endpoint = endpoint
        self.token = token
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.refused_since: float | None = None
        self._kernel_id = kernel_id
        connector = (
            aiohttp.UnixConnector(endpoint.unix_path)
            if endpoint.unix_path
            else aiohttp.TCPConnector(use_dns_cache=False)
        )
        authority = (
            "agent" if endpoint.unix_path else f"{_bracketed(endpoint.host)}:{endpoint.port}"
        )
        self._session = aiohttp.ClientSession(
            f"http://{authority}",
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Authorization": f"Bearer {token}"},
            read_bufsize=MAX_LINE_BYTES // 2,
        )

    async def close(self) -> None:
        """Close the connections."""
        if not self.gone.done():
            self.gone.set_result(None)
        await self._session.close()

    async def state(self) -> AgentState:
        """Return the state document."""
        return self._decode(await self._call("GET", "/v1/state"), AgentState)

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[AgentState]]:
        """Open the stream of state documents: the present one, then one after every change.

        The iteration ends when the agent ends, and raises `UnavailableError` when it is lost.
        """
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
        try:
            async with self._session.get("/v1/events", timeout=timeout) as response:
                if response.status != 200:
                    raise self._failure(response.status, await response.read())
                self.refused_since = None
                yield self._states(response)
        except _TRANSPORT_ERRORS as exc:
            raise self._unreachable(exc) from exc

    async def interrupt(self) -> None:
        """Interrupt the kernel.

        Raises:
            ConflictError: the kernel is dead.
        """
        await self._call("POST", "/v1/interrupt")

    async def restart(self, seconds: float) -> AgentState:
        """Restart the kernel, and return its state when it answers again.

        Raises:
            LaunchError: it did not come up again.
            NotInPlaceError: a new workload has to be launched for that.
        """
        return self._decode(await self._call("POST", "/v1/restart", seconds), AgentState)

    async def shutdown(self, seconds: float) -> None:
        """End the kernel gracefully, then by force. The agent ends too."""
        await self._call("POST", "/v1/shutdown", seconds)

    async def set_culling(self, settings: Mapping[str, object]) -> None:
        """Replace some of the `cull_*` settings."""
        await self._call("PUT", "/v1/culling", body=settings)

    async def write_annotations(self, document: Mapping[str, object], revision: int) -> Annotations:
        """Replace the annotations if their revision is still the given one.

        Returns:
            What the agent has now: the new document with a new revision, or, if somebody else was
            faster, theirs.
        """
        raw = await self._call(
            "PUT", "/v1/annotations", body=document, headers={"If-Match": f'"{revision}"'}
        )
        return self._decode(raw, Annotations)

    async def _states(self, response: aiohttp.ClientResponse) -> AsyncIterator[AgentState]:
        while line := await response.content.readline():
            if line.strip():
                yield self._decode(line, AgentState)

    async def _call(
        self,
        method: str,
        path: str,
        seconds: float = ANSWER_SECONDS,
        *,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)
        try:
            async with self._session.request(
                method, path, json=body, headers=headers, timeout=timeout
            ) as response:
                raw = await response.read()
        except _TRANSPORT_ERRORS as exc:
            raise self._unreachable(exc) from exc
        self.refused_since = None
        if response.status >= 400 and response.status != 412:
            raise self._failure(response.status, raw)
        return raw

    def _decode(self, raw: bytes, kind: type[_Document]) -> _Document:
        try:
            return msgspec.json.decode(raw, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise UnavailableError(
                f"The agent of kernel {self._kernel_id} gave an answer that is not understood"
            ) from exc

    def _failure(self, status: int, raw: bytes) -> GatewayError:
        message = _message(raw)
        if status == 409:
            return ConflictError(message or f"Kernel {self._kernel_id} is dead")
        if status == 501:
            return NotInPlaceError(message or f"Kernel {self._kernel_id} cannot be restarted")
        if status == 500:
            return LaunchError(message or f"Kernel {self._kernel_id} failed")
        return UnavailableError(
            f"The agent of kernel {self._kernel_id} refused a request (status {status}). {message}"
        )

    def _unreachable(self, exc: Exception) -> UnavailableError:
        is_refusal = isinstance(exc, OSError) and exc.errno == errno.ECONNREFUSED
        if not is_refusal:
            self.refused_since = None
        elif self.refused_since is None:
            self.refused_since = asyncio.get_running_loop().time()
        return UnavailableError(
            f"The agent of kernel {self._kernel_id} does not answer ({type(exc).__name__})"
        )


class _Failure(msgspec.Struct):
    message: str = ""


def _message(raw: bytes) -> str:
    try:
        return msgspec.json.decode(raw, type=_Failure).message
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
