"""The agent: its composition, and its run from the kernel's first process to its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from typing import TYPE_CHECKING, Any, Dict, Optional, Sequence, Union

from kernel_agent.kernel.activity import ExecutionState, Running
from kernel_agent.kernel.culler import Culler
from kernel_agent.kernel.culling import Usage
from kernel_agent.kernel.executions import Executions
from kernel_agent.kernel.lifecycle import BY_CLIENT, EndedBy, KernelDeadError, Next
from kernel_agent.kernel.lifetime import Lifetime, describe_seconds
from kernel_agent.kernel.pending import EXECUTE_REQUEST
from kernel_agent.kernel.steps import REPORT, Steps
from kernel_agent.kernel.supervisor import KernelSupervisor
from kernel_agent.kernel.viewers import answer_viewer
from kernel_agent.launch.command import Attachment
from kernel_agent.process.exits import ExitReason
from kernel_agent.server.access import Access
from kernel_agent.server.executions import ExecutionRoutes
from kernel_agent.server.executor import Executor
from kernel_agent.server.http import HttpServer
from kernel_agent.server.listener import Listener
from kernel_agent.server.pool import Pool
from kernel_agent.server.report import ReportAnswer, send_report
from kernel_agent.server.routes import Opening, Routes
from kernel_agent.server.state import State
from kernel_agent.settings import AgentSettings
from kernel_agent.system.cgroup import memory_limit
from kernel_agent.system.gpus import GPUWatch
from kernel_agent.system.reaper import Reaper
from kernel_agent.system.spill_files import SpillFiles, find_folder
from kernel_agent.system.usage import UsageMeter, read_descendants, read_own_group
from kernel_agent.wire.agent_messages import MessageFactory, timestamp
from kernel_agent.wire.client_sessions import ClientSession, ClientSessions, Replay
from kernel_agent.wire.codec import Request
from kernel_agent.wire.message import EMPTY, SHELL, Message, decode_object, encode_json
from kernel_agent.wire.message_log import Limits, MessageLog
from kernel_agent.wire.websocket import Limits as WebSocketLimits
from kernel_agent.wire.websocket import WebSocket

if TYPE_CHECKING:
    from kernel_agent.process.spawner import KernelProcess, KernelSpawner

VERSION = 1
"""Version of the wire contract, docs/agent-interface.md."""
FLUSH_TIMEOUT_SECONDS = 2.0
"""How long clients have at the end to acknowledge the last messages."""
CLOSE_TIMEOUT_SECONDS = 2.0
"""How long requests under way may take at the end."""
KERNEL_INFO_MAX_BYTES = 60 * 1024
"""A report must not exceed 64 KiB."""
EXIT_CODES = {Next.END: 0, Next.FAIL: 1, Next.LOSE: 3, Next.STOP: 143}
"""143 is 128 + SIGTERM, as shells and engines report it."""
GOING_AWAY = 1001
LEAST_EXPIRY_SECONDS = 1.0
"""Shortest time between two looks for what is too old."""
USAGE_INTERVAL_SECONDS = 60.0
MEMORY_FRACTION = 16
"""The log takes at most this fraction of the container's memory: it belongs to the kernel."""
LEAST_LOG_BYTES = 1024 * 1024
REPLAY_RUNNING = "running"
"""Value of `replay` that stands for the ids of the requests that run."""

_log = logging.getLogger(__name__)


class Agent:
    """Composes the agent; lives as long as the event loop."""

    def __init__(
        self, settings: AgentSettings, spawner: "KernelSpawner", listener: Listener, steps: Steps
    ) -> None:
        self._settings = settings
        self._spawner = spawner
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._started = timestamp()
        self._restarting: "Optional[asyncio.Task[None]]" = None
        self._reporting: "Optional[asyncio.Task[None]]" = None
        self._expiry: Optional[asyncio.TimerHandle] = None
        self._flushed = asyncio.Event()
        self._kernel_info: Dict[str, Any] = {}
        """What gateways are told: the content of the latest reply, {} if it is too large."""
        self._factory = MessageFactory()
        self._log = _make_log(settings, self._factory)
        self._sessions = ClientSessions(self._log, self._factory.loss)
        self._sessions.subscribe(self._on_progress)
        self._connections = (0, 0)
        self._meter = _make_meter(settings)
        self._usage_timer: Optional[asyncio.TimerHandle] = None
        self._state = State(self._describe)
        self._reaper = Reaper()
        self._supervisor = KernelSupervisor(
            settings,
            spawner,
            self._reaper,
            self._sessions,
            self._factory,
            self._state.mark_changed,
            self._state.mark_active,
            steps,
        )
        self._executions = Executions(timestamp)
        self._log.subscribe(self._executions.record)
        self._gpus = GPUWatch(self._reaper, settings.program_path)
        self._culler = Culler(settings.culling, self._usage, self._cull, self._gpus.start)
        self._lifetime = Lifetime(
            settings.max_kernel_age,
            settings.max_kernel_age_warning,
            self._warn_of_age,
            self._end_by_age,
        )
        is_pooled = settings.pool_ttl > 0 and self._supervisor.lifecycle.can_start_again
        self._pool = Pool(self._supervisor, self._begin_life, is_pooled=is_pooled)
        self._access = Access(time.monotonic)
        self._executor = Executor(settings, self._supervisor, self._executions, self._log)
        self._execution_routes = ExecutionRoutes(
            self._executor,
            self._executions,
            self._log,
            self._factory,
            self._access,
            settings.max_output_bytes,
            self._state.mark_changed,
        )
        self._routes = Routes(
            self._supervisor,
            self._state,
            spawner.log,
            self._culler,
            self._pool,
            self._access,
            self._open_channels,
            self._execution_routes,
        )
        limits = {"/v1/execute": settings.max_message_bytes}
        self._http = HttpServer(self._routes.handle, settings.token, limits)

    async def run(self, first: "Union[KernelProcess, ExitReason]") -> int:
        """Serve until the kernel's end; return the agent's exit code.

        Args:
            first: the kernel's first process, or the reason why it could not be spawned.
        """
        server = await self._loop.create_server(
            self._http, sock=self._listener.sock, ssl=self._listener.context
        )
        for signum in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(signum, self._stop, signum)
        self._culler.start()
        if not self._pool.is_waiting:
            self._begin_life()
        self._expire()
        self._tell_usage()
        try:
            end = await self._supervisor.run(first, self._on_ready)
            if end is Next.FAIL:
                await self._report_failure(self._supervisor.lifecycle.reason)
            return EXIT_CODES[end]
        finally:
            await self._finish()
            server.close()
            self._reaper.close()

    def _begin_life(self) -> None:
        """Count the kernel's age and the idle time of its GPUs from now on."""
        self._lifetime.start()
        self._gpus.begin_anew()

    def _describe(self) -> Dict[str, Any]:
        settings, supervisor = self._settings, self._supervisor
        reason, ended_by = supervisor.lifecycle.reason, supervisor.lifecycle.ended_by
        return {
            "version": VERSION,
            "kernel_id": settings.kernel_id,
            "kernel_name": settings.kernel_name,
            "username": self._username,
            "pooled": self._pool.is_waiting,
            "language": settings.language,
            "execution_state": supervisor.execution_state.value,
            "last_activity": supervisor.last_activity,
            "started": self._started,
            "connections": self._sessions.connections,
            "websockets": self._sessions.websockets,
            "streams": self._execution_routes.streams,
            "restarts": supervisor.lifecycle.restarts,
            "reason": reason._asdict() if reason is not None else None,
            "requests": supervisor.open_requests,
            "start": supervisor.start,
            "notice": supervisor.notice,
            "spare": self._spawner.has_spare,
            "ended_by": ended_by.value if ended_by is not None else "",
            "usage": self._meter.describe() if self._meter is not None else None,
            "kernel_info": self._kernel_info,
        }

    @property
    def _username(self) -> str:
        taken = self._pool.taken
        return taken.username if taken is not None else self._settings.username

    @property
    def _ping_interval(self) -> float:
        interval = self._pool.taken.ping_interval if self._pool.taken is not None else None
        return interval if interval is not None else self._settings.ping_interval

    def _stop(self, signum: signal.Signals) -> None:
        """End the kernel because the agent received a signal to end."""
        text = (
            f"the kernel was told to stop ({signum.name}) by a process in its container, "
            "or from outside, as when its node is drained or its Docker engine restarts"
        )
        self._supervisor.stop(ExitReason(text, signal=signum.name))

    def _on_ready(self) -> None:
        kernel_info = self._supervisor.kernel_info
        is_small = len(encode_json(kernel_info)) <= KERNEL_INFO_MAX_BYTES
        self._kernel_info = kernel_info if is_small else {}
        if not self._settings.response_address:
            self._pool.open()
        elif self._reporting is None:
            self._reporting = self._loop.create_task(self._report_ready())

    async def _report_ready(self) -> None:
        """Task root: report that the kernel is ready; end it if the gateway rejects it."""
        listen = self._listener.address()
        self._supervisor.steps.begin(REPORT)
        answer = await self._report(status="ready", listen=listen, kernel_info=self._kernel_info)
        _log.info("kernel %s: report to the gateway: %s", self._settings.kernel_id, answer.value)
        if answer is ReportAnswer.OK:
            self._pool.open()
            if self._pool.is_waiting and not await self._pool.wait(self._settings.pool_ttl):
                self._supervisor.end("because no user took it from its pool in time", EndedBy.AGENT)
                return
            await self._wait_for_claim()
        elif answer is ReportAnswer.REJECTED or not self._state.claimed.is_set():
            self._supervisor.end("because the gateway gave up its launch", EndedBy.AGENT)

    async def _wait_for_claim(self) -> None:
        """End a kernel that no client claims, as when the gateway that launched it has died."""
        seconds = self._settings.claim_timeout
        if seconds <= 0:
            return  # this gateway does not claim kernels
        try:
            await asyncio.wait_for(self._state.claimed.wait(), seconds)
        except asyncio.TimeoutError:
            _log.warning(
                "kernel %s: ending it, because no client claimed it within %g s",
                self._settings.kernel_id,
                seconds,
            )
            self._supervisor.end("because no client claimed it", EndedBy.AGENT)

    async def _report_failure(self, reason: Optional[ExitReason]) -> None:
        if reason is not None and self._settings.response_address:
            await self._report(status="failed", reason=reason._asdict())

    async def _report(self, **body: object) -> ReportAnswer:
        settings = self._settings
        steps = self._supervisor.steps

        def make_report() -> Dict[str, Any]:
            return {
                "version": VERSION,
                "kernel_id": settings.kernel_id,
                "token": settings.token,
                **body,
                "start": steps.describe(),
            }

        return await send_report(
            settings.response_address, settings.public_key, make_report, settings.report_timeout
        )

    def _open_channels(
        self, transport: asyncio.Transport, early_data: bytes, opening: Opening
    ) -> None:
        replay = opening.replay
        websocket = WebSocket(
            handshake=opening.handshake,
            factory=self._factory,
            sessions=self._sessions,
            backlog=self._supervisor.backlog,
            limits=WebSocketLimits(
                self._settings.max_message_bytes,
                self._settings.max_output_bytes,
                self._ping_interval,
            ),
            receive=self._receive if opening.may_write else self._refuse,
            user=opening.client.user,
            is_viewer=not opening.may_write,
        )
        self._access.watch(opening.client, websocket)
        running = self._supervisor.running
        if replay == REPLAY_RUNNING:
            asked = Replay([str(one.msg_id) for one in running], is_running=True)
        else:
            asked = Replay([replay] if replay else [], is_running=False)
        greeting = self._greeting(running)
        websocket.open(transport, opening.session_id, early_data, greeting, asked)

    def _greeting(self, running: Sequence[Running]) -> Message:
        """Return the status that a new client begins with."""
        state = self._supervisor.execution_state
        if state is ExecutionState.RESTARTING:
            state = ExecutionState.STARTING  # front ends show `restarting` as a crash
        parent_header = running[0].header if running else EMPTY
        return self._factory.status(state.value, parent_header)

    def _receive(self, session: ClientSession, request: Request) -> None:
        """Pass a client's message on to the kernel."""
        msg_type = request.header["msg_type"]
        allowed = self._settings.allowed_message_types
        if allowed and msg_type not in allowed:
            _log.warning("dropped a client's message: its type is not in allowed_message_types")
            return
        header = request.header
        header_session, msg_id = str(header.get("session", "")), str(header.get("msg_id", ""))
        if header_session == self._executor.session:
            _log.warning("dropped a client's message: its session is that of executions over HTTP")
            return
        if not self._sessions.record_request(session, header_session, msg_id):
            _log.warning(
                "dropped a client's message: a request of another user has the same session and "
                "msg_id, and no reply yet"
            )
            return
        if msg_type == EXECUTE_REQUEST and request.channel == SHELL:
            self._executions.add(msg_id, header_session, self._log.position)
        is_shutdown = msg_type == "shutdown_request"
        self._supervisor.submit(request.channel, request.parts, may_wait=not is_shutdown)
        if is_shutdown:
            content = decode_object(request.parts[3]) or {}
            if not content.get("restart"):
                self._supervisor.end(BY_CLIENT, EndedBy.CLIENT, is_requested_of_kernel=True)
            elif not self._supervisor.lifecycle.can_start_again:
                _log.warning(
                    "a client asked to restart a kernel that cannot be started from here: it ends"
                )
            elif self._restarting is None or self._restarting.done():
                self._restarting = self._loop.create_task(self._restart_for_client())

    def _refuse(self, session: ClientSession, request: Request) -> None:
        """Answer a message of a client that may only read; the kernel is not sent it."""
        if session.connection is not None:
            kernel_info = self._supervisor.kernel_info
            session.connection.send(answer_viewer(request, kernel_info, self._factory))

    async def _restart_for_client(self) -> None:
        """Task root: restart; status messages tell the client the outcome."""
        try:
            await self._supervisor.restart(BY_CLIENT, is_requested_of_kernel=True)
        except KernelDeadError as exc:
            _log.warning("kernel %s: restart failed: %s", self._settings.kernel_id, exc)

    def _usage(self) -> Usage:
        state = self._supervisor.execution_state
        is_busy = state not in (ExecutionState.IDLE, ExecutionState.DEAD)
        is_waiting = self._pool.is_waiting
        if is_waiting:
            return Usage(self._loop.time(), is_busy, self._sessions.writers)
        return Usage(
            self._supervisor.idle_since, is_busy, self._sessions.writers, self._gpus.idle_since
        )

    def _cull(self, reason: str) -> None:
        _log.info("kernel %s: ending it, because %s", self._settings.kernel_id, reason)
        self._supervisor.end(f"because {reason}", EndedBy.CULLER)

    def _warn_of_age(self, seconds: float) -> None:
        age = describe_seconds(self._settings.max_kernel_age)
        self._supervisor.notify(
            f"The kernel will be shut down in {describe_seconds(seconds)}: kernels may live for "
            f"{age} here. Save what you need.\n"
        )

    def _end_by_age(self) -> None:
        age = describe_seconds(self._settings.max_kernel_age)
        _log.info("kernel %s: ending it at its longest age, %s", self._settings.kernel_id, age)
        self._supervisor.end(
            f"because it had lived for {age}, the longest time here", EndedBy.CULLER
        )

    def _on_progress(self) -> None:
        """Handle progress of the client sessions: something acknowledged, opened or closed."""
        connections = (self._sessions.connections, self._sessions.websockets)
        if connections != self._connections:
            self._connections = connections
            self._state.mark_changed()
        if self._state.has_ended and self._sessions.is_flushed():
            self._flushed.set()

    def _expire(self) -> None:
        """Drop what is too old in the log, and look again when the next part is."""
        delay = max(self._log.expire(), LEAST_EXPIRY_SECONDS)
        self._expiry = self._loop.call_later(delay, self._expire)

    def _tell_usage(self) -> None:
        """Tell what the kernel has used, also while it computes in silence."""
        self._state.mark_changed()
        self._usage_timer = self._loop.call_later(USAGE_INTERVAL_SECONDS, self._tell_usage)

    async def _finish(self) -> None:
        """Close all connections, once clients have what they are owed.

        Only an end that was requested is told by the status `dead`. Other kernels can be launched
        again, and at that status JupyterLab ends its connection for good: its "Restart Kernel…"
        would do nothing.
        """
        self._culler.stop()
        self._gpus.stop()
        self._lifetime.stop()
        for task in (self._reporting, self._restarting):
            if task is not None:
                task.cancel()
        is_requested = self._supervisor.lifecycle.reason is None
        last = [self._factory.status(ExecutionState.DEAD.value)] if is_requested else []
        self._sessions.broadcast(last, request_ack=True)
        if self._meter is not None:
            self._meter.refresh()
        self._state.end()
        self._on_progress()
        try:
            await asyncio.wait_for(self._flushed.wait(), FLUSH_TIMEOUT_SECONDS)
        except asyncio.TimeoutError:
            _log.warning(
                "closing the WebSockets: a client did not acknowledge the last messages in time"
            )
        self._sessions.close_all(GOING_AWAY, "the kernel has ended")
        await self._http.close(CLOSE_TIMEOUT_SECONDS)
        for timer in (self._expiry, self._usage_timer):
            if timer is not None:
                timer.cancel()


async def run(
    settings: AgentSettings,
    spawner: "KernelSpawner",
    listener: Listener,
    first: "Union[KernelProcess, ExitReason]",
    steps: Steps,
) -> int:
    """Run the agent; return its exit code."""
    return await Agent(settings, spawner, listener, steps).run(first)


def _make_meter(settings: AgentSettings) -> Optional[UsageMeter]:
    """Return what measures the kernel's usage; None: the kernel is in another container."""
    if isinstance(settings.kernel, Attachment):
        return None
    is_container = os.getpid() == 1
    return UsageMeter(read_own_group if is_container else read_descendants)


def _make_log(settings: AgentSettings, factory: MessageFactory) -> MessageLog:
    """Make the kernel's log, within the memory that its container has."""
    memory_bytes = settings.log_memory_bytes
    limit = memory_limit()
    if limit is not None:
        memory_bytes = min(memory_bytes, max(limit // MEMORY_FRACTION, LEAST_LOG_BYTES))
    folder = find_folder(settings.folders) if settings.log_spill_bytes else None
    if settings.log_spill_bytes and folder is None:
        _log.info(
            "kernel %s: its output is kept in memory only: no folder of %s is on a disk",
            settings.kernel_id,
            ", ".join(settings.folders),
        )
    return MessageLog(
        Limits(memory_bytes, settings.log_spill_bytes, settings.log_max_age),
        time.monotonic,
        shrink=factory.lost_reply,
        spill=SpillFiles(folder) if folder is not None else None,
    )
