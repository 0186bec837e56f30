"""Puts the agent together and runs it from the kernel's first process to the end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from typing import Any, Dict, Optional

from kernel_agent.codec import Codec, Request
from kernel_agent.culling import Usage, decide_culling, next_check
from kernel_agent.http import HttpConnection
from kernel_agent.lifecycle import ExitReason, Phase
from kernel_agent.notices import MessageFactory
from kernel_agent.process import KernelProcess, Launcher
from kernel_agent.reaper import Reaper
from kernel_agent.report import ReportAnswer, send_report
from kernel_agent.routes import Routes
from kernel_agent.sessions import Session, Sessions
from kernel_agent.settings import AgentSettings, CullingSettings
from kernel_agent.state import VERSION, State
from kernel_agent.supervisor import KernelDeadError, KernelSupervisor
from kernel_agent.websocket import WebSocket

FLUSH_TIMEOUT = 2.0
"""Seconds at the end for clients to acknowledge the last messages."""
EXIT_OK = 0
EXIT_FAILED = 1

logger = logging.getLogger(__name__)


class Agent:
    """The composition; everything lives as long as the event loop."""

    def __init__(self, settings: AgentSettings, launcher: Launcher) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._culling = settings.culling
        self._culling_timer: Optional[asyncio.TimerHandle] = None
        self._tasks: "set[asyncio.Task[Any]]" = set()
        self._ended: "asyncio.Future[None]" = self._loop.create_future()
        self._factory = MessageFactory()
        self._sessions = Sessions(
            settings.outbox_max_bytes, settings.outbox_max_age, self._loop.time
        )
        self._state = State(settings, self._sessions)
        self._reaper = Reaper()
        self._supervisor = KernelSupervisor(
            settings, launcher, self._reaper, self._sessions, self._factory, self._state.changed
        )
        self._state.supervisor = self._supervisor
        self._routes = Routes(
            self._supervisor,
            self._state,
            launcher.log,
            self._set_culling,
            lambda: self._culling,
            self._ended,
            self._open_channels,
        )
        self._listen = settings.listen

    async def run(
        self, process: Optional[KernelProcess], spawn_failure: Optional[ExitReason]
    ) -> int:
        """Serve until the kernel's end; return the agent's exit code."""
        sock = bind(self._settings.listen)
        if sock.family == socket.AF_INET:
            host, port = sock.getsockname()[:2]
            self._listen = f"tcp:{host}:{port}"
        server = await self._loop.create_server(
            lambda: HttpConnection(self._routes.handle, self._settings.token), sock=sock
        )
        for signum in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(signum, self._supervisor.end)
        self._check_culling()
        try:
            if process is None:
                await self._report_failure(spawn_failure)
                return EXIT_FAILED
            if await self._supervisor.run(process, self._on_ready):
                return EXIT_OK
            await self._report_failure(self._supervisor.lifecycle.reason)
            return EXIT_FAILED
        finally:
            await self._finish(server)

    def _on_ready(self) -> None:
        if self._supervisor.lifecycle.restarts == 0 and self._settings.response_address:
            self._spawn(self._report_ready())

    async def _report_ready(self) -> None:
        body = {
            "status": "ready",
            "listen": self._listen,
            "kernel_info": self._supervisor.kernel_info,
        }
        answer = await self._report(body)
        logger.info("kernel %s: report %s", self._settings.kernel_id, answer.value)
        if answer is ReportAnswer.REJECTED or (
            answer is ReportAnswer.UNANSWERED and not self._routes.was_asked
        ):
            self._supervisor.end()

    async def _report_failure(self, reason: Optional[ExitReason]) -> None:
        if reason is not None and self._settings.response_address:
            await self._report({"status": "failed", "reason": reason._asdict()})

    async def _report(self, body: Dict[str, Any]) -> ReportAnswer:
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
        codec: Codec,
        is_tornado: bool,
        session_id: str,
    ) -> None:
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        websocket = WebSocket(
            codec=codec,
            is_tornado=is_tornado,
            max_message_bytes=self._settings.max_message_bytes,
            ping_interval=self._settings.ping_interval,
            factory=self._factory,
            receive=self._receive,
            disconnected=self._state.changed,
        )
        websocket.open(transport, self._sessions, session_id, early_data)
        self._state.changed()

    def _receive(self, session: Session, request: Request) -> None:
        msg_type = request.header["msg_type"]
        allowed = self._settings.allowed_message_types
        if allowed and msg_type not in allowed:
            logger.warning("a client's %s was dropped: its type is not allowed", msg_type)
            return
        self._sessions.learn_origin(session, str(request.header.get("session", "")))
        self._supervisor.submit(request.channel, request.parts)
        if msg_type == "shutdown_request":
            self._on_shutdown_request(request)

    def _on_shutdown_request(self, request: Request) -> None:
        if b'"restart"' in request.parts[3] and b"true" in request.parts[3]:
            self._spawn(self._restart_for_client())
        else:
            self._supervisor.end(is_requested_of_kernel=True)

    async def _restart_for_client(self) -> None:
        try:
            await self._supervisor.restart(is_requested_of_kernel=True)
        except KernelDeadError as exc:
            logger.warning("a restart failed: %s", exc)

    def _set_culling(self, culling: CullingSettings) -> None:
        self._culling = culling
        self._check_culling()

    def _check_culling(self) -> None:
        if self._culling_timer is not None:
            self._culling_timer.cancel()
        supervisor = self._supervisor
        is_busy = (
            supervisor.lifecycle.phase not in (Phase.RUNNING, Phase.DEAD) or supervisor.is_busy
        )
        usage = Usage(supervisor.idle_since, is_busy, self._sessions.connections)
        now = self._loop.time()
        if decide_culling(now, usage, self._culling):
            logger.info(
                "kernel %s: idle for %d s", self._settings.kernel_id, now - usage.idle_since
            )
            supervisor.end()
            return
        delay = next_check(now, usage, self._culling)
        if delay is not None:
            self._culling_timer = self._loop.call_later(delay, self._check_culling)

    def _spawn(self, coroutine: Any) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(self, server: asyncio.AbstractServer) -> None:
        self._sessions.broadcast([self._factory.status("dead")])
        self._state.end()
        flushed = asyncio.Event()
        self._sessions.when_flushed(flushed.set)
        try:
            await asyncio.wait_for(flushed.wait(), FLUSH_TIMEOUT)
        except asyncio.TimeoutError:
            logger.warning("a client did not take the last messages")
        self._sessions.close_all(1001, "the kernel has ended")
        self._ended.set_result(None)
        server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._culling_timer is not None:
            self._culling_timer.cancel()
        await asyncio.sleep(0.05)
        self._reaper.close()
        if self._settings.listen.startswith("unix:"):
            os.unlink(self._settings.listen[5:])


def bind(listen: str) -> socket.socket:
    """Open the listening socket that `tcp:HOST:PORT` or `unix:PATH` names."""
    kind, _, rest = listen.partition(":")
    if kind == "unix":
        try:
            os.unlink(rest)
        except FileNotFoundError:
            pass
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old_mask = os.umask(0o177)
        try:
            sock.bind(rest)
        finally:
            os.umask(old_mask)
    else:
        host, _, port = rest.rpartition(":")
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, int(port)))
    sock.setblocking(False)
    return sock


async def run(
    settings: AgentSettings,
    launcher: Launcher,
    process: Optional[KernelProcess],
    failure: Optional[ExitReason],
) -> int:
    """Run the agent; return its exit code."""
    return await Agent(settings, launcher).run(process, failure)
