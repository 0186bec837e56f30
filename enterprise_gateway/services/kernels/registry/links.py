"""Keeps the records of kernels current: one event stream from each agent."""

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from enterprise_gateway.errors import GatewayError, UnavailableError
from enterprise_gateway.services.kernels.agents.agent import (
    Agent,
    BrokenAgentError,
)
from enterprise_gateway.services.kernels.agents.state import AgentState
from enterprise_gateway.services.kernels.planning.agent_credentials import (
    derive_agent_token,
    derive_public_key,
    is_marked,
)
from enterprise_gateway.services.kernels.registry.records import Record
from enterprise_gateway.services.processproxies.contract import (
    AgentEndpoint,
    BaseProcessProxyABC,
    Workload,
)
from enterprise_gateway.services.tasks import BackgroundTasks
from enterprise_gateway.settings import LiveSettings

RETRY_SECONDS = 0.1
MAX_RETRY_SECONDS = 2.0
MAX_CHECK_SECONDS = 10.0
"""How often an engine is asked about a workload whose agent does not answer."""
MAX_CONNECTING_STREAMS = 64
"""First connections at a time: a gateway that starts may find a thousand kernels."""
MAX_CONCURRENT_REFRESHES = 64
"""More wait, and their time begins when it is their turn: a flood makes no agent late."""
ANSWER_SECONDS = 2.0
"""How long an agent may take to tell its state when it is asked with others."""
FAILING_SECONDS = 0.25
"""The same for an agent that did not answer last time, so that it delays no other request."""

_log = logging.getLogger(__name__)


class AgentLinks:
    """Follows the agents of kernels.

    Attributes:
        last_activity: the latest of all kernels, ended ones included, as in their models; ""
            before the first.
    """

    def __init__(
        self,
        live: LiveSettings,
        on_state: Callable[[Record, AgentState], None],
        on_end: Callable[[Record], None],
        on_silence: Callable[[Record], Awaitable[None]],
    ) -> None:
        """Follow no agent yet.

        Args:
            live: the settings, with the secret that the agents' tokens derive from.
            on_state: called with each state document that a record has taken over.
            on_end: called when an agent has said that its kernel is dead, and closed its stream.
            on_silence: called now and then while an agent does not answer; it may raise
                `UnavailableError`.
        """
        self._live = live
        self._on_state = on_state
        self._on_end = on_end
        self._on_silence = on_silence
        self._connecting = asyncio.Semaphore(MAX_CONNECTING_STREAMS)
        self._refreshes = asyncio.Semaphore(MAX_CONCURRENT_REFRESHES)
        self._reached: set[BaseProcessProxyABC] = set()
        self._tasks = BackgroundTasks()
        self._streams: dict[Record, asyncio.Task[None]] = {}
        self.last_activity = ""

    def has_reached(self, proxy: BaseProcessProxyABC) -> bool:
        """Say whether any agent of a process proxy has ever answered."""
        return proxy in self._reached

    def attach(self, record: Record) -> None:
        """Use the agent where it is now, and follow it unless it is stopped."""
        secret = self._live.current.cluster_secret
        endpoint = _identify(record.workload, secret)
        if endpoint is None:
            return
        agent = record.agent
        if agent is None or agent.endpoint != endpoint:
            self.detach(record)
            token = derive_agent_token(secret, record.kernel_id, record.workload.launch_id)
            silence_seconds = self._live.current.delays.agent_silence_seconds
            agent = Agent(record.kernel_id, endpoint, token, silence_seconds)
            record.attach(agent)
        if record.is_paused:
            self._unfollow(record)
        elif record not in self._streams:
            self._streams[record] = self._tasks.begin(self._stream(record, agent))

    def detach(self, record: Record) -> None:
        """Disconnect from the agent."""
        agent = record.detach()
        self._unfollow(record)
        if agent is not None:
            agent.close()

    async def refresh(self, records: Iterable[Record]) -> None:
        """Ask agents for their states; a record whose agent does not answer keeps its state."""
        await asyncio.gather(*(self._refresh(record) for record in records))

    def apply_state(self, record: Record, state: AgentState) -> None:
        """Apply a state document of a kernel's agent."""
        record.apply_state(state)
        self._on_state(record, state)
        self.last_activity = max(self.last_activity, state.last_activity)

    async def close(self, records: Iterable[Record]) -> None:
        """Disconnect from all agents."""
        for record in records:
            self.detach(record)
        await self._tasks.cancel()

    async def _refresh(self, record: Record) -> None:
        agent = record.agent
        if agent is None or record.is_paused:
            return
        try:
            async with self._refreshes:
                seconds = FAILING_SECONDS if agent.is_failing else ANSWER_SECONDS
                async with asyncio.timeout(seconds):
                    self.apply_state(record, await agent.state())
        except TimeoutError:
            agent.is_failing = True
        except GatewayError as exc:
            _log.debug("%s", exc)
        except Exception:  # noqa: BLE001 - one agent must not keep the others from being asked
            _log.exception("Asking for the state of kernel %s failed", record.kernel_id)

    def _unfollow(self, record: Record) -> None:
        record.close_stream()
        stream = self._streams.pop(record, None)
        if stream is not None and stream is not asyncio.current_task():
            stream.cancel()

    async def _stream(self, record: Record, agent: Agent) -> None:
        """Keep a record's state current for as long as its agent lives."""
        loop = asyncio.get_running_loop()
        retry = check = RETRY_SECONDS
        next_check = 0.0
        # Only first attempts queue: a node may be cut off, with many agents that do not answer.
        turn: contextlib.AbstractAsyncContextManager[None] = self._connecting
        while self._is_followed_here(record):
            opened = math.inf
            try:
                async with contextlib.AsyncExitStack() as stack:
                    async with turn:
                        states = await stack.enter_async_context(agent.events())
                    self._reached.add(record.proxy)
                    opened = loop.time()
                    async for state in states:
                        self.apply_state(record, state)
                        record.open_stream()
                if record.state is not None and record.state.is_dead:
                    self._on_end(record)  # that was the final state
                    return
            except BrokenAgentError as exc:
                _log.debug("%s", exc)
                opened, retry, check = math.inf, MAX_RETRY_SECONDS, MAX_CHECK_SECONDS
            except GatewayError as exc:
                _log.debug("%s", exc)
            except Exception:  # noqa: BLE001 - a task's root: following must go on after any error
                _log.exception("Following the agent of kernel %s failed", record.kernel_id)
                opened, retry, check = math.inf, MAX_RETRY_SECONDS, MAX_CHECK_SECONDS
            finally:
                turn = contextlib.nullcontext()
                if self._is_followed_here(record):
                    record.close_stream()
            if loop.time() - opened > MAX_RETRY_SECONDS:
                retry = check = RETRY_SECONDS
            await asyncio.sleep(retry)
            retry = min(2 * retry, MAX_RETRY_SECONDS)
            if loop.time() >= next_check:
                next_check = loop.time() + check
                check = min(2 * check, MAX_CHECK_SECONDS)
                await self._report_silence(record)

    def _is_followed_here(self, record: Record) -> bool:
        """Say whether the present task is the one that follows a record's agent."""
        return self._streams.get(record) is asyncio.current_task()

    async def _report_silence(self, record: Record) -> None:
        try:
            await self._on_silence(record)
        except UnavailableError as exc:
            _log.debug("Kernel %s: %s", record.kernel_id, exc)
        except Exception:  # noqa: BLE001 - as above
            _log.exception("Checking on kernel %s, which does not answer, failed", record.kernel_id)


def _identify(workload: Workload, cluster_secret: bytes) -> AgentEndpoint | None:
    """Return where an agent listens, and how it proves to be the kernel's."""
    endpoint = workload.endpoint
    if endpoint is None or endpoint.unix_path or not is_marked(workload.launch_id):
        return endpoint
    key = derive_public_key(cluster_secret, workload.kernel_id, workload.launch_id)
    return replace(endpoint, public_key=key)
