"""The client of one kernel agent's HTTP interface, section 3 of the wire contract."""

import asyncio
import errno
import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import NamedTuple

import msgspec

from enterprise_gateway.errors import ConflictError, GatewayError, LaunchError, UnavailableError
from enterprise_gateway.services.kernels.agents.exchange import (
    DOCUMENTS,
    OUTPUT,
    Answer,
    OutOfContractError,
    Pace,
    Request,
    exchange,
)
from enterprise_gateway.services.kernels.agents.state import (
    AgentState,
    Annotations,
    DocumentError,
    Taken,
    failure_message,
    parse_document,
    parse_state,
)
from enterprise_gateway.services.processproxies.contract import AgentEndpoint
from enterprise_gateway.services.processproxies.steps import StartTimes

ANSWER_SECONDS = 10.0
CLAIM_SECONDS = 5.0
LAST_OUTPUT_SECONDS = 1.0
"""How long after a kernel's end the rest of its output may still arrive."""
SHUN_SECONDS = 5.0
"""How long an agent that broke the contract gets no requests."""

_log = logging.getLogger(__name__)


class BrokenAgentError(UnavailableError):
    """The agent has broken the contract, and gets no requests for a while."""


class RefusedError(UnavailableError):
    """The agent refused a request."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class NotInPlaceError(ConflictError):
    """The agent is not in the kernel's container, and cannot restart the kernel there."""


class Written(NamedTuple):
    """The result of a write of annotations."""

    is_done: bool
    """False: the revision was not the newest, since another replica has written."""
    annotations: Annotations
    """The annotations that the agent has now."""


class Output:
    """An answer of an agent that is passed on to a client.

    Attributes:
        status: its status code.
        content_type: the type of its body, "" if it names none.
    """

    def __init__(self, agent: "Agent", answer: Answer, silence_seconds: float) -> None:
        self.status = answer.status
        self.content_type = answer.content_type
        self._agent = agent
        self._answer = answer
        self._silence_seconds = silence_seconds

    async def next_data(self) -> bytes:
        """Return the next piece, b"" at the end.

        Raises:
            UnavailableError: the agent is silent, or has broken the contract.
        """
        with self._agent.guarded():
            async with asyncio.timeout(self._silence_seconds):
                return await self._answer.next_data()

    async def refusal(self) -> str:
        """Return the message of an error answer.

        Raises:
            UnavailableError: as `next_data`.
        """
        with self._agent.guarded():
            async with asyncio.timeout(ANSWER_SECONDS):
                return failure_message(await self._answer.read())


class Agent:
    """The client of one agent. Every call has a deadline; failures raise `UnavailableError`.

    Attributes:
        endpoint: where it listens.
        token: its bearer token.
        gone: done once no request must be sent to it: its workload has ended, or moved.
        refused_since: since when the endpoint has refused every connection, by the event loop's
            clock; None: it has not refused the last one, or was not tried.
        is_failing: whether it did not answer the last request, or broke the contract.
        is_changed: whether a WebSocket to it was opened or closed since it was asked for its state.
            The event stream reports that only a moment later.
    """

    def __init__(
        self, kernel_id: str, endpoint: AgentEndpoint, token: str, silence_seconds: float = 40.0
    ) -> None:
        """Connect to nothing yet.

        Args:
            kernel_id: the kernel.
            endpoint: where its agent listens.
            token: the agent's bearer token.
            silence_seconds: for how long the event stream may be silent.
        """
        self.endpoint = endpoint
        self.token = token
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.refused_since: float | None = None
        self.is_failing = False
        self.is_changed = False
        self._kernel_id = kernel_id
        self._silence_seconds = silence_seconds
        self._connections = self.gone.get_loop().create_future()
        """When it is done, all open connections are cut."""
        self._shunned_until = 0.0
        self._is_reported = False

    def close(self) -> None:
        """Cut all connections, and open no more."""
        if not self.gone.done():
            self.gone.set_result(None)
        self._cut()

    def mark_changed(self) -> None:
        """Remember that a WebSocket to it was opened or closed."""
        self.is_changed = True

    async def state(self) -> AgentState:
        """Return the state document."""
        # A change from here on may be missing in the answer.
        was_changed, self.is_changed = self.is_changed, False
        try:
            _, raw = await self._call("GET", "/v1/state")
            return self._parse_state(raw)
        except BaseException:
            self.is_changed |= was_changed
            raise

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[AgentState]]:
        """Open the stream of state documents: the present one, then one after every change.

        The iteration ends when the agent ends, and raises `UnavailableError` when it is lost.
        """
        with self.guarded():
            async with asyncio.timeout(self._silence_seconds) as deadline:
                async with self._exchange(Request("GET", "/v1/events", self.token)) as answer:
                    if answer.status != 200:
                        raise self._failure("GET", answer.status, await answer.read())
                    deadline.reschedule(None)  # from here on each line has one
                    yield self._states(answer)

    @asynccontextmanager
    async def output(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> AsyncIterator[Output]:
        """Make a request whose answer is for a client, at the client's pace.

        It is cut a moment after the kernel's end.

        Raises:
            UnavailableError: there is no answer.
        """
        loop = self.gone.get_loop()
        end: asyncio.Future[None] = loop.create_future()

        def end_soon(_: asyncio.Future[None]) -> None:
            loop.call_later(LAST_OUTPUT_SECONDS, end.cancel)

        self.gone.add_done_callback(end_soon)
        try:
            async with AsyncExitStack() as stack:
                with self.guarded():
                    async with asyncio.timeout(ANSWER_SECONDS):
                        request = Request(method, path, self.token, body, headers)
                        exchanged = self._exchange(request, OUTPUT, end)
                        answer = await stack.enter_async_context(exchanged)
                yield Output(self, answer, self._silence_seconds)
        finally:
            self.gone.remove_done_callback(end_soon)

    async def claim(self, start: StartTimes | None) -> None:
        """Tell it that a client has claimed the kernel, which would end by itself otherwise.

        Args:
            start: how long the kernel's start took, for the agent to tell other replicas; None if
                another replica has launched it.
        """
        body = None if start is None else {"start": start}
        await self._call("POST", "/v1/claim", CLAIM_SECONDS, body=body)

    async def take(self, takeover: object, seconds: float) -> AgentState:
        """Take the kernel from its pool for a user.

        Args:
            takeover: what changes with that: the body of `POST /v1/take`.
            seconds: how long that may take.

        Raises:
            ConflictError: it is in none, or not any more.
            LaunchError: it was taken, and the process that was to be the user's did not come up.
        """
        _, raw = await self._call("POST", "/v1/take", seconds, body=takeover)
        return self._parse_state(raw)

    async def taken(self) -> Taken:
        """Return whether the kernel was taken from a pool, and what changed with that."""
        _, raw = await self._call("GET", "/v1/taken")
        with self.guarded():
            return parse_document(raw, Taken)

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
        _, raw = await self._call("POST", "/v1/restart", seconds)
        return self._parse_state(raw)

    async def shutdown(self, seconds: float, *, only_pooled: bool = False) -> None:
        """End the kernel gracefully, then by force. The agent ends too.

        Raises:
            ConflictError: only a kernel in a pool was to be ended, and it is in none any more.
        """
        body = {"only_pooled": True} if only_pooled else None
        await self._call("POST", "/v1/shutdown", seconds, body=body)

    async def set_culling(self, settings: Mapping[str, object]) -> None:
        """Replace some of the `cull_*` settings."""
        await self._call("PUT", "/v1/culling", body=settings)

    async def write_annotations(self, document: object, revision: int) -> Written:
        """Replace the annotations if their revision is still the given one.

        Args:
            document: the new annotations, a JSON object.
            revision: the revision of the annotations that they replace.
        """
        status, raw = await self._call(
            "PUT", "/v1/annotations", body=document, headers={"If-Match": f'"{revision}"'}
        )
        with self.guarded():
            return Written(status != 412, parse_document(raw, Annotations))

    async def revoke(self, credentials: Sequence[str], seconds: float = ANSWER_SECONDS) -> None:
        """Have it close what was opened with credentials that are valid no more.

        Args:
            credentials: the credentials.
            seconds: how long that may take.

        Raises:
            RefusedError: It is older than this gateway, and cannot.
            UnavailableError: It does not answer.
        """
        await self._call("POST", "/v1/revoke", seconds, body={"credentials": credentials})

    async def _states(self, answer: Answer) -> AsyncIterator[AgentState]:
        while (line := await answer.next_line(self._silence_seconds)) is not None:
            if line.strip():
                yield self._parse_state(line)

    def _parse_state(self, raw: bytes) -> AgentState:
        with self.guarded():
            return parse_state(raw, self._kernel_id, time.time())

    async def _call(
        self,
        method: str,
        path: str,
        seconds: float = ANSWER_SECONDS,
        *,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Return status and body of an answer; an error is raised."""
        content = b"" if body is None else msgspec.json.encode(body)
        request = Request(method, path, self.token, content, headers or {})
        with self.guarded():
            async with asyncio.timeout(seconds), self._exchange(request) as answer:
                raw = await answer.read()
        if answer.status not in (200, 204, 412):
            raise self._failure(method, answer.status, raw)
        return answer.status, raw

    @asynccontextmanager
    async def _exchange(
        self,
        request: Request,
        pace: Pace = DOCUMENTS,
        end: asyncio.Future[None] | None = None,
    ) -> AsyncIterator[Answer]:
        if self.gone.done():
            raise ConnectionAbortedError("the kernel has ended")
        if asyncio.get_running_loop().time() < self._shunned_until:
            raise BrokenAgentError(
                f"The agent of kernel {self._kernel_id} has broken its contract; the gateway's log "
                "says how"
            )
        async with exchange(self.endpoint, request, end or self._connections, pace) as answer:
            self.refused_since = None
            self.is_failing = False
            yield answer

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Convert an agent's failures to `UnavailableError`."""
        try:
            yield
        except (OutOfContractError, DocumentError) as exc:
            raise self._broken(exc) from exc
        except OSError as exc:  # a TimeoutError, too
            raise self._unreachable(exc) from exc

    def _failure(self, method: str, status: int, raw: bytes) -> GatewayError:
        if status < 400:
            return self._broken(OutOfContractError(f"it answers with status {status}"))
        message = failure_message(raw)
        if method == "POST":
            if status == 409:
                return ConflictError(message or f"Kernel {self._kernel_id} is dead")
            if status == 501:
                return NotInPlaceError(message or f"Kernel {self._kernel_id} cannot be restarted")
            if status == 500:
                return LaunchError(message or f"Kernel {self._kernel_id} failed")
        return RefusedError(
            f"The agent of kernel {self._kernel_id} refused a request (status {status}). {message}",
            status,
        )

    def _broken(self, exc: Exception) -> BrokenAgentError:
        self.is_failing = True
        self._shunned_until = asyncio.get_running_loop().time() + SHUN_SECONDS
        self._cut()
        if not self._is_reported:
            self._is_reported = True
            _log.warning(
                "Kernel %s: its agent breaks the contract: %s. It is treated as if it did not "
                "answer. End the kernel unless its image is known to do this.",
                self._kernel_id,
                exc,
            )
        return BrokenAgentError(f"The agent of kernel {self._kernel_id} breaks its contract: {exc}")

    def _cut(self) -> None:
        self._connections.set_result(None)
        self._connections = self.gone.get_loop().create_future()

    def _unreachable(self, exc: OSError) -> UnavailableError:
        self.is_failing = True
        if exc.errno != errno.ECONNREFUSED:
            self.refused_since = None
        elif self.refused_since is None:
            self.refused_since = asyncio.get_running_loop().time()
        return UnavailableError(
            f"The agent of kernel {self._kernel_id} does not answer ({type(exc).__name__})"
        )
