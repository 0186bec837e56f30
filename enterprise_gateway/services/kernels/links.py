"""The connections to the kernels' agents: one event stream each keeps a record current."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable

from enterprise_gateway.errors import GatewayError, UnavailableError
from enterprise_gateway.services.kernels.agent import Agent
from enterprise_gateway.services.kernels.records import Record
from enterprise_gateway.services.kernels.tokens import derive_agent_token
from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC
from enterprise_gateway.settings import LiveSettings

RETRY_SECONDS = 0.1
MAX_RETRY_SECONDS = 2.0
MAX_LOOK_SECONDS = 10.0
"""How often an engine is asked about a workload whose agent does not answer."""
MAX_CONNECTING_STREAMS = 64
"""First connections at a time: a gateway that starts may find a thousand kernels."""
MAX_QUESTIONS = 16
ANSWER_SECONDS = 2.0
"""How long all agents that are asked together may take to say their state."""

_log = logging.getLogger(__name__)


class AgentLinks:
    """Follows agents."""

    def __init__(
        self,
        live: LiveSettings,
        on_end: Callable[[Record], None],
        on_silence: Callable[[Record], Awaitable[None]],
    ) -> None:
        """Follow nobody yet.

        Args:
            live: where the secret is that the agents' tokens derive from.
            on_end: called when an agent has said that its kernel is dead, and closed its stream.
            on_silence: called from time to time while an agent does not answer; it may raise
                `UnavailableError`.
        """
        self._live = live
        self._on_end = on_end
        self._on_silence = on_silence
        self._connecting = asyncio.Semaphore(MAX_CONNECTING_STREAMS)
        self._questions = asyncio.Semaphore(MAX_QUESTIONS)
        self._reached: set[BaseProcessProxyABC] = set()
        self._closing: set[asyncio.Task[None]] = set()

    def has_reached(self, proxy: BaseProcessProxyABC) -> bool:
        """Say whether any agent of a process proxy has ever answered."""
        return proxy in self._reached

    def attach(self, record: Record) -> None:
        """Connect to the agent where it is now."""
        endpoint = record.workload.endpoint
        if endpoint is None or (record.agent is not None and record.agent.endpoint == endpoint):
            return
        self.detach(record)
        token = derive_agent_token(self._live.current.cluster_secret, record.kernel_id)
        record.agent = Agent(record.kernel_id, endpoint, token)
        record.has_run = True
        record.stream = asyncio.create_task(self._stream(record, record.agent))

    def detach(self, record: Record) -> None:
        """Leave the agent."""
        record.is_silent.set()
        if record.stream is not None and record.stream is not asyncio.current_task():
            record.stream.cancel()
        if record.agent is not None:
            self._begin(record.agent.close())
        record.agent = record.stream = None

    async def ask(self, records: Iterable[Record]) -> None:
        """Ask agents for their state; those that do not answer keep the one that is known."""
        await asyncio.gather(*(self._ask(record) for record in records))

    async def close(self, records: Iterable[Record]) -> None:
        """Leave all agents."""
        streams = [record.stream for record in records if record.stream is not None]
        for record in records:
            self.detach(record)
        await asyncio.gather(*streams, *self._closing, return_exceptions=True)

    async def _ask(self, record: Record) -> None:
        with contextlib.suppress(GatewayError, TimeoutError):
            if record.agent is not None:
                async with asyncio.timeout(ANSWER_SECONDS), self._questions:
                    record.learn(await record.agent.state())

    async def _stream(self, record: Record, agent: Agent) -> None:
        """Keep a record's state current for as long as its agent lives."""
        loop = asyncio.get_running_loop()
        retry = look = RETRY_SECONDS
        next_look = 0.0
        # Nobody queues behind agents that did not answer the first time: a node may be cut off.
        turn: contextlib.AbstractAsyncContextManager[None] = self._connecting
        while record.agent is agent:
            try:
                async with contextlib.AsyncExitStack() as stack:
                    async with turn:
                        states = await stack.enter_async_context(agent.events())
                    self._reached.add(record.proxy)
                    async for state in states:
                        record.learn(state)
                        record.is_silent.clear()
                        retry = look = RETRY_SECONDS
                if record.state is not None and record.state.is_dead:
                    self._on_end(record)  # those were the agent's last words
                    return
            except GatewayError as exc:
                _log.debug("Kernel %s: %s", record.kernel_id, exc)
            finally:
                turn = contextlib.nullcontext()
                if record.agent is agent:
                    record.is_silent.set()
            await asyncio.sleep(retry)
            retry = min(2 * retry, MAX_RETRY_SECONDS)
            if loop.time() >= next_look:
                next_look = loop.time() + look
                look = min(2 * look, MAX_LOOK_SECONDS)
                with contextlib.suppress(UnavailableError):
                    await self._on_silence(record)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
