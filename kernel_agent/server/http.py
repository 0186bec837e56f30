"""The agent's HTTP/1.1 server: I/O and limits around h11."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from typing import (
    Any,
    AsyncGenerator,
    Awaitable,
    Callable,
    Dict,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Set,
    Tuple,
    Union,
)
from urllib.parse import parse_qs, urlsplit

import h11

MAX_HEADER_BYTES = 64 * 1024
MAX_BODY_BYTES = 64 * 1024
REQUEST_TIMEOUT_SECONDS = 10.0
"""How long the client may take to send a request."""
IDLE_TIMEOUT_SECONDS = 120.0
"""How long a connection may stay open between requests."""
JSON_TYPE = "application/json"

REASONS = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    409: "Conflict",
    413: "Request Entity Too Large",
    422: "Unprocessable Content",
    428: "Precondition Required",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}

_log = logging.getLogger(__name__)


class HttpError(Exception):
    """An error response.

    Attributes:
        status: its status code.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Request(NamedTuple):
    """A complete request."""

    method: str
    path: str
    query: Dict[str, str]
    headers: Dict[str, str]
    """Names in lower case."""
    body: bytes

    def json_object(self) -> Dict[str, Any]:
        """Return the body, which must be a JSON object; an empty body is {}.

        Raises:
            HttpError: it is not a JSON object.
        """
        try:
            document = json.loads(self.body or b"{}")
        except (ValueError, RecursionError) as exc:
            raise HttpError(400, "the body is not JSON") from exc
        if not isinstance(document, dict):
            raise HttpError(400, "the body is not a JSON object")
        return document


class Response(NamedTuple):
    """A complete response."""

    status: int
    body: bytes = b""
    content_type: str = JSON_TYPE


class Stream(NamedTuple):
    """A response without a known end, sent in chunks as they come."""

    chunks: AsyncGenerator[bytes, None]
    content_type: str


class Upgrade(NamedTuple):
    """A response that switches the connection to another protocol."""

    headers: Dict[str, str]
    take_over: Callable[[asyncio.Transport, bytes], None]
    """Called with the transport and the bytes that followed the request."""


Answer = Union[Response, Stream, Upgrade]
Handler = Callable[[Request], Awaitable[Answer]]


class HttpServer:
    """Creates connections and closes them."""

    def __init__(self, handler: Handler, token: str, body_limits: Mapping[str, int]) -> None:
        """Prepare.

        Args:
            handler: answers requests.
            token: what they are authorized by.
            body_limits: bytes of the largest body by path, if that is not `MAX_BODY_BYTES`.
        """
        self._handler = handler
        self._body_limits = body_limits
        self._authorization = f"Bearer {token}".encode()
        self._connections: "Set[HttpConnection]" = set()
        self._is_closing = False
        self._all_closed = asyncio.Event()

    def __call__(self) -> HttpConnection:
        """Create the protocol of a new connection."""
        return HttpConnection(self)

    async def answer(self, request: Request) -> Answer:
        """Answer an authenticated request; every exception becomes an error response."""
        try:
            return await self._handler(request)
        except HttpError as exc:
            return error_response(exc)
        except Exception:  # noqa: BLE001 - the root of every request
            _log.exception("%s %s failed", request.method, request.path)
            return error_response(HttpError(500, "the agent failed; see its log"))

    def is_authorized(self, authorization: bytes) -> bool:
        """Return whether a request with this header may be answered."""
        return hmac.compare_digest(authorization, self._authorization)

    def body_limit(self, target: bytes) -> int:
        """Return how many bytes the body of a request for this target may have."""
        path = target.partition(b"?")[0].decode("latin-1")
        return self._body_limits.get(path, MAX_BODY_BYTES)

    def add_connection(self, connection: HttpConnection) -> None:
        """Add an open connection."""
        self._connections.add(connection)

    def discard_connection(self, connection: HttpConnection) -> None:
        """Remove a connection that is closed or no longer HTTP."""
        self._connections.discard(connection)
        if self._is_closing and not self._connections:
            self._all_closed.set()

    async def close(self, timeout: float) -> None:  # noqa: ASYNC109  # for the peers, not for us
        """Wait for requests under way, at most `timeout` seconds, then abort all connections."""
        self._is_closing = True
        for connection in list(self._connections):
            connection.close_when_idle()
        if not self._connections:
            return
        try:
            await asyncio.wait_for(self._all_closed.wait(), timeout)
        except asyncio.TimeoutError:
            for connection in list(self._connections):
                connection.abort()


class HttpConnection(asyncio.Protocol):
    """One client connection; answers its requests one after the other."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER_BYTES)
        self._transport: Optional[asyncio.Transport] = None
        self._request: Optional[h11.Request] = None
        self._body = bytearray()
        self._body_limit = 0
        self._task: "Optional[asyncio.Task[None]]" = None
        self._deadline: Optional[asyncio.TimerHandle] = None
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._is_last = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the deadline of the first request."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
            self._server.add_connection(self)
            self._set_deadline(REQUEST_TIMEOUT_SECONDS)

    def connection_lost(self, exc: Optional[Exception]) -> None:  # noqa: ARG002  # Protocol's
        """Cancel the request under way."""
        self._release_transport()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """Pause a stream until its reader catches up."""
        self._can_write.clear()

    def resume_writing(self) -> None:
        """Resume a stream."""
        self._can_write.set()

    def data_received(self, data: bytes) -> None:
        """Parse bytes from the client."""
        self._h11.receive_data(data)
        self._advance()

    def close_when_idle(self) -> None:
        """Close after the request under way, if any."""
        self._is_last = True
        if self._task is None and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Abort the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _advance(self) -> None:
        """Handle complete events, unless a request is being answered."""
        try:
            while self._task is None and self._transport is not None:
                event = self._h11.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return
                if isinstance(event, h11.ConnectionClosed):
                    self._transport.close()
                    return
                self._handle(event)
        except h11.RemoteProtocolError as exc:
            self._refuse(HttpError(exc.error_status_hint, "malformed request"))
        except HttpError as exc:
            self._refuse(exc)

    def _handle(self, event: object) -> None:
        if isinstance(event, h11.Request):
            self._set_deadline(REQUEST_TIMEOUT_SECONDS)
            self._request = event
            self._body = bytearray()
            self._body_limit = self._server.body_limit(bytes(event.target))
            given = (bytes(value) for name, value in event.headers if name == b"authorization")
            if not self._server.is_authorized(next(given, b"")):
                raise HttpError(401, "the token is missing or wrong")
        elif isinstance(event, h11.Data):
            self._body += event.data
            if len(self._body) > self._body_limit:
                raise HttpError(413, f"the body exceeds {self._body_limit} bytes")
        elif isinstance(event, h11.EndOfMessage) and self._request is not None:
            self._clear_deadline()
            request = _make_request(self._request, bytes(self._body))
            self._task = self._loop.create_task(self._answer(request))

    async def _answer(self, request: Request) -> None:
        """Task root: answer one request."""
        answer = await self._server.answer(request)
        if isinstance(answer, Upgrade):
            self._task = None
            self._upgrade(answer)
            return
        if isinstance(answer, Stream):
            try:
                await self._send_stream(answer)
            except Exception:  # noqa: BLE001 - the root of every stream, whose client must see it
                _log.exception("the stream of %s failed", request.path)
                self.abort()
                return
        else:
            self._send_response(answer)
        self._task = None
        self._finish()

    def _upgrade(self, answer: Upgrade) -> None:
        transport = self._transport
        if transport is None:
            return
        headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        self._write(h11.InformationalResponse(status_code=101, headers=headers))
        early_data, _ = self._h11.trailing_data
        self._release_transport()
        answer.take_over(transport, early_data)

    def _send_response(self, answer: Response, *extra: Tuple[str, str]) -> None:
        headers = [*extra]
        if answer.status != 204:
            headers += [
                ("Content-Type", answer.content_type),
                ("Content-Length", str(len(answer.body))),
            ]
        reason = REASONS.get(answer.status, "").encode()
        self._write(h11.Response(status_code=answer.status, headers=headers, reason=reason))
        if answer.body:
            self._write(h11.Data(data=answer.body))
        self._write(h11.EndOfMessage())

    async def _send_stream(self, answer: Stream) -> None:
        headers = [("Content-Type", answer.content_type), ("Cache-Control", "no-store")]
        self._write(h11.Response(status_code=200, headers=headers))
        try:
            async for chunk in answer.chunks:
                self._write(h11.Data(data=chunk))
                await self._can_write.wait()
        finally:
            await answer.chunks.aclose()
        self._write(h11.EndOfMessage())

    def _finish(self) -> None:
        if self._transport is None:
            return
        is_done = self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE
        if is_done and not self._is_last:
            self._h11.start_next_cycle()
            self._set_deadline(IDLE_TIMEOUT_SECONDS)
            self._advance()
        else:
            self._transport.close()

    def _refuse(self, error: HttpError) -> None:
        if self._transport is None:
            return
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._send_response(error_response(error), ("Connection", "close"))
        self._transport.close()

    def _write(self, event: Any) -> None:  # noqa: ANN401  # whatever h11 sends
        if self._transport is not None:
            data = self._h11.send(event)
            if data:
                self._transport.write(data)

    def _release_transport(self) -> None:
        self._transport = None
        self._clear_deadline()
        self._can_write.set()
        self._server.discard_connection(self)

    def _set_deadline(self, seconds: float) -> None:
        self._clear_deadline()
        if self._transport is not None:
            self._deadline = self._loop.call_later(seconds, self._transport.close)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def json_response(document: Any, status: int = 200) -> Response:  # noqa: ANN401  # any JSON
    """Return a JSON response."""
    return Response(status, json.dumps(document).encode())


def error_response(error: HttpError) -> Response:
    """Return the JSON form of an error."""
    reason = REASONS.get(error.status, "Error")
    return json_response({"reason": reason, "message": str(error)}, error.status)


def _make_request(event: h11.Request, body: bytes) -> Request:
    """Return the request that h11 has read.

    Raises:
        HttpError: its target is no URL.
    """
    try:
        target = urlsplit(bytes(event.target).decode("latin-1"))
    except ValueError as exc:
        raise HttpError(400, "the target of the request is no URL") from exc
    query = parse_qs(target.query, keep_blank_values=True)
    headers: List[Tuple[str, str]] = [
        (bytes(name).decode("latin-1"), bytes(value).decode("latin-1"))
        for name, value in event.headers
    ]
    return Request(
        bytes(event.method).decode("latin-1"),
        target.path,
        {name: values[-1] for name, values in query.items()},
        dict(headers),
        body,
    )
