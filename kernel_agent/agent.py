"""Puts the agent together and runs it from the kernel's first process to the end."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import TYPE_CHECKING, Any, Dict, Optional, Union

from kernel_agent.activity import ExecutionState
from kernel_agent.codec import Request
from kernel_agent.culling import Culler, Usage
from kernel_agent.delivery import Delivery
from kernel_agent.handshake import Handshake
from kernel_agent.http import HttpServer
from kernel_agent.lifecycle import ExitReason, Next
from kernel_agent.listener import Listener
from kernel_agent.message import decode_object, encode_json
from kernel_agent.notices import MessageFactory, timestamp
from kernel_agent.reaper import Reaper
from kernel_agent.relay import Relay
from kernel_agent.report import ReportAnswer, send_report
from kernel_agent.routes import Routes
from kernel_agent.sessions import Session, Sessions
from kernel_agent.settings import AgentSettings
from kernel_agent.state import State
from kernel_agent.supervisor import KernelDeadError, KernelSupervisor
from kernel_agent.websocket import WebSocket

if TYPE_CHECKING:
    from kernel_agent.launcher import KernelProcess, Launcher

VERSION = 1
"""Of the wire contract, docs/agent-interface.md."""
FLUSH_TIMEOUT = 2.0
"""Seconds at the end for clients to acknowledge the last messages."""
CLOSE_TIMEOUT = 2.0
"""Seconds at the end for requests under way."""
KERNEL_INFO_MAX_BYTES = 60 * 1024
"""A report must not exceed 64 KiB."""
EXIT_CODES = {Next.END: 0, Next.FAIL: 1, Next.LOSE: 3, Next.STOP: 143}
"""The last is that of a process which SIGTERM ended, as shells and engines show it."""
GOING_AWAY = 1001

logger = logging.getLogger(__name__)


class Agent:
    """The composition; it lives as long as the event loop."""

    def __init__(self, settings: AgentSettings, launcher: "Launcher", listener: Listener) -> None:
        self._settings = settings
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._started = timestamp()
        self._restarting: "Optional[asyncio.Task[None]]" = None
        self._reporting: "Optional[asyncio.Task[None]]" = None
        self._expiry: Optional[asyncio.TimerHandle] = None
        self._flushed = asyncio.Event()
        self._factory = MessageFactory()
        self._sessions = Sessions(
            settings.outbox_max_bytes, settings.outbox_max_age, self._loop.time
        )
        self._sessions.subscribe(self._on_progress)
        self._state = State(self._describe)
        self._reaper = Reaper()
        self._supervisor = KernelSupervisor(
            settings,
            launcher,
            self._reaper,
            Relay(settings, self._sessions, self._factory),
            self._factory,
            self._state.changed,
        )
        self._culler = Culler(settings.culling, self._usage, self._cull)
        self._routes = Routes(
            self._supervisor, self._state, launcher.log, self._culler, self._open_channels
        )
        self._http = HttpServer(self._routes.handle, settings.token)

    async def run(self, first: "Union[KernelProcess, ExitReason]") -> int:
        """Serve until the kernel's end; return the agent's exit code.

        Args:
            first: the kernel's first process, or why it could not be spawned.
        """
        server = await self._loop.create_server(self._http, sock=self._listener.sock)
        for signum in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(signum, self._stop, signum)
        self._culler.start()
        try:
            end = await self._supervisor.run(first, self._on_ready)
            if end is Next.FAIL:
                await self._report_failure(self._supervisor.lifecycle.reason)
            return EXIT_CODES[end]
        finally:
            await self._finish()
            server.close()
            self._reaper.close()

    def _describe(self) -> Dict[str, Any]:
        settings, supervisor = self._settings, self._supervisor
        reason = supervisor.lifecycle.reason
        return {
            "version": VERSION,
            "kernel_id": settings.kernel_id,
            "kernel_name": settings.kernel_name,
            "username": settings.username,
            "language": settings.language,
            "execution_state": supervisor.execution_state.value,
            "last_activity": supervisor.last_activity,
            "started": self._started,
            "connections": self._sessions.connections,
            "restarts": supervisor.lifecycle.restarts,
            "reason": reason._asdict() if reason is not None else None,
        }

    def _stop(self, signum: signal.Signals) -> None:
        """End the kernel because whoever runs the agent says so."""
        text = (
            f"the kernel was told to stop from outside ({signum.name}), "
            "as when its node is drained or its Docker engine restarts"
        )
        self._supervisor.stop(ExitReason(text, signal=signum.name))

    def _on_ready(self) -> None:
        if self._reporting is None and self._settings.response_address:
            self._reporting = self._loop.create_task(self._report_ready())

    async def _report_ready(self) -> None:
        """Task root: report, and end a kernel that nobody can know of."""
        kernel_info = self._supervisor.kernel_info
        if len(encode_json(kernel_info)) > KERNEL_INFO_MAX_BYTES:
            kernel_info = {}
        listen = self._listener.address()
        answer = await self._report(status="ready", listen=listen, kernel_info=kernel_info)
        logger.info("kernel %s: its report is %s", self._settings.kernel_id, answer.value)
        is_unknown = answer is ReportAnswer.UNANSWERED and not self._routes.was_asked
        if answer is ReportAnswer.REJECTED or is_unknown:
            self._supervisor.end()

    async def _report_failure(self, reason: Optional[ExitReason]) -> None:
        if reason is not None and self._settings.response_address:
            await self._report(status="failed", reason=reason._asdict())

    async def _report(self, **body: object) -> ReportAnswer:
        settings = self._settings
        report = {
            "version": VERSION,
            "kernel_id": settings.kernel_id,
            "token": settings.token,
            **body,
        }
        return await send_report(
            settings.response_address, settings.public_key, report, settings.report_timeout
        )

    def _open_channels(
        self,
        transport: asyncio.Transport,
        early_data: bytes,
        handshake: Handshake,
        session_id: str,
    ) -> None:
        websocket = WebSocket(
            codec=handshake.codec,
            delivery=Delivery(
                handshake.codec, is_tornado=handshake.is_tornado, factory=self._factory
            ),
            sessions=self._sessions,
            backlog=self._supervisor.backlog,
            max_message_bytes=self._settings.max_message_bytes,
            ping_interval=self._settings.ping_interval,
            receive=self._receive,
        )
        state = self._supervisor.execution_state
        is_dead = state is ExecutionState.DEAD
        greeting = [self._factory.status(state.value)] if is_dead else []
        websocket.open(transport, session_id, early_data, greeting)

    def _receive(self, session: Session, request: Request) -> None:
        """Pass a client's message on to the kernel."""
        msg_type = request.header["msg_type"]
        allowed = self._settings.allowed_message_types
        if allowed and msg_type not in allowed:
            logger.warning("a client's message was dropped: its type is not allowed")
            return
        self._sessions.learn_origin(session, str(request.header.get("session", "")))
        is_shutdown = msg_type == "shutdown_request"
        self._supervisor.submit(request.channel, request.parts, may_wait=not is_shutdown)
        if is_shutdown:
            content = decode_object(request.parts[3]) or {}
            if not content.get("restart"):
                self._supervisor.end(is_requested_of_kernel=True)
            elif not self._supervisor.lifecycle.can_start_again:
                logger.warning("a client asked the kernel itself to restart, which just ends it")
            elif self._restarting is None or self._restarting.done():
                self._restarting = self._loop.create_task(self._restart_for_client())

    async def _restart_for_client(self) -> None:
        """Task root: the client learns the outcome from status messages."""
        try:
            await self._supervisor.restart(is_requested_of_kernel=True)
        except KernelDeadError as exc:
            logger.warning("kernel %s: restart failed: %s", self._settings.kernel_id, exc)

    def _usage(self) -> Usage:
        state = self._supervisor.execution_state
        is_busy = state not in (ExecutionState.IDLE, ExecutionState.DEAD)
        return Usage(self._supervisor.idle_since, is_busy, self._sessions.connections)

    def _cull(self, idle_seconds: float) -> None:
        logger.info("kernel %s: idle for %d s", self._settings.kernel_id, idle_seconds)
        self._supervisor.end()

    def _on_progress(self) -> None:
        """A client took something, came or went."""
        self._state.changed()
        if self._state.has_ended and self._sessions.is_flushed():
            self._flushed.set()
        if self._expiry is None:
            self._forget_expired()

    def _forget_expired(self) -> None:
        self._expiry = None
        delay = self._sessions.forget_expired()
        if delay is not None:
            self._expiry = self._loop.call_later(delay, self._forget_expired)

    async def _finish(self) -> None:
        """Tell everybody that the kernel is gone, and let them go."""
        self._culler.stop()
        for task in (self._reporting, self._restarting):
            if task is not None:
                task.cancel()
        self._sessions.broadcast([self._factory.status(ExecutionState.DEAD.value)])
        self._state.end()
        self._on_progress()
        try:
            await asyncio.wait_for(self._flushed.wait(), FLUSH_TIMEOUT)
        except asyncio.TimeoutError:
            logger.warning("a client did not take the last messages")
        self._sessions.close_all(GOING_AWAY, "the kernel has ended")
        await self._http.close(CLOSE_TIMEOUT)
        if self._expiry is not None:
            self._expiry.cancel()


async def run(
    settings: AgentSettings,
    launcher: "Launcher",
    listener: Listener,
    first: "Union[KernelProcess, ExitReason]",
) -> int:
    """Run the agent; return its exit code."""
    return await Agent(settings, launcher, listener).run(first)
