"""Owns the kernel's life: starts its processes, knows when one is ready, ends it, and acts on its death."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

import zmq

from kernel_agent.activity import Activity, ExecutionState
from kernel_agent.cgroup import OomCounter
from kernel_agent.channels import KernelChannels
from kernel_agent.lifecycle import ExitReason, Lifecycle, Next, Phase
from kernel_agent.message import CONTROL, IOPUB, SHELL, Message
from kernel_agent.notices import MessageFactory, timestamp
from kernel_agent.process import KernelProcess, Launcher, SpawnError
from kernel_agent.reaper import Reaper
from kernel_agent.sessions import Sessions
from kernel_agent.settings import AgentSettings

NUDGE_INTERVAL = 0.1
"""Seconds between kernel_info requests on control while iopub is still silent."""
OUTPUT_TIMEOUT = 0.2
"""Seconds for the last output of a dead process; children that outlived it may keep it open."""

logger = logging.getLogger(__name__)


class KernelDeadError(Exception):
    """The kernel is dead, or died while something was done with it."""

    def __init__(self, reason: Optional[ExitReason]) -> None:
        super().__init__(reason.message if reason is not None else "the kernel is dead")
        self.reason = reason


class KernelSupervisor:
    """The one kernel of this agent.

    Attributes:
        lifecycle: where it is in its life.
        kernel_info: content of its latest kernel_info reply.
        last_activity: when it last did something for a user.
        idle_since: the same by the event loop's clock.
    """

    def __init__(
        self,
        settings: AgentSettings,
        launcher: Launcher,
        reaper: Reaper,
        sessions: Sessions,
        factory: MessageFactory,
        changed: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._launcher = launcher
        self._reaper = reaper
        self._sessions = sessions
        self._factory = factory
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._context: "zmq.Context[Any]" = zmq.Context(io_threads=1)
        self._oom = OomCounter()
        self._activity = Activity()
        self._channels: Optional[KernelChannels] = None
        self._process: Optional[KernelProcess] = None
        self._exited: Optional["asyncio.Future[int]"] = None
        self._ready: "asyncio.Future[None]" = self._loop.create_future()
        self._awaited: Set[bytes] = set()
        self._own_requests: Set[str] = set()
        self._held: List[Tuple[bytes, List[bytes]]] = []
        self._ending: Optional["asyncio.Task[None]"] = None
        self._waiters: List["asyncio.Future[None]"] = []
        self._wake_up = asyncio.Event()
        self.lifecycle = Lifecycle(
            autorestart=settings.autorestart, restart_limit=settings.restart_limit
        )
        self.kernel_info: Dict[str, Any] = {}
        self.last_activity = timestamp()
        self.idle_since = self._loop.time()

    @property
    def execution_state(self) -> ExecutionState:
        """What the state document says."""
        if self.lifecycle.phase is Phase.RUNNING:
            return ExecutionState.BUSY if self._activity.is_busy else ExecutionState.IDLE
        return _PHASE_STATES[self.lifecycle.phase]

    @property
    def is_busy(self) -> bool:
        """Whether a request of a user is running."""
        return self._activity.is_busy

    async def run(self, process: KernelProcess, on_ready: Callable[[], None]) -> bool:
        """Live the kernel's life, from a process just spawned to its end.

        Returns:
            True at an end that somebody asked for, False if the first process never became ready.
        """
        current: Optional[KernelProcess] = process
        try:
            while True:
                if current is not None:
                    reason = await self._live(current, on_ready)
                step = self.lifecycle.process_ended(self._loop.time(), reason)
                if step is not Next.END:
                    logger.info("kernel %s: %s", self._settings.kernel_id, reason.message)
                while step is Next.STAY_DEAD:
                    self._announce(ExecutionState.DEAD)
                    self._fail_waiters(reason)
                    self._held.clear()
                    self._wake_up.clear()
                    await self._wake_up.wait()
                    step = self.lifecycle.leave_death()
                if step is not Next.START:
                    return step is Next.END
                self._announce(ExecutionState.RESTARTING)
                try:
                    current = self._launcher.spawn()
                except SpawnError as exc:
                    current, reason = None, ExitReason(str(exc))
        finally:
            self._fail_waiters(self.lifecycle.reason)
            self._launcher.release()
            self._context.term()

    def submit(self, channel: bytes, parts: List[bytes]) -> None:
        """Send a client's message to the kernel, once it is ready."""
        if self._channels is not None and self._ready.done():
            self._channels.send(channel, parts)
        elif self.lifecycle.phase is not Phase.DEAD:
            self._held.append((channel, parts))

    async def restart(self, *, is_requested_of_kernel: bool = False) -> None:
        """Replace the process; return when the new one is ready. Concurrent calls share one restart.

        Raises:
            KernelDeadError: the new process did not become ready, or the kernel is being ended.
        """
        if self.lifecycle.phase is Phase.TERMINATING:
            raise KernelDeadError(self.lifecycle.reason)
        waiter: "asyncio.Future[None]" = self._loop.create_future()
        self._waiters.append(waiter)
        if self.lifecycle.request_restart():
            self._announce(ExecutionState.RESTARTING)
            self._start_ending(is_restart=True, is_requested=is_requested_of_kernel)
        self._wake_up.set()
        self._changed()
        await waiter

    def end(self, *, is_requested_of_kernel: bool = False) -> None:
        """End the kernel for good; `run` returns when it is gone."""
        if self.lifecycle.phase is Phase.TERMINATING:
            return
        logger.info("kernel %s: ending", self._settings.kernel_id)
        self.lifecycle.request_end()
        self._start_ending(is_restart=False, is_requested=is_requested_of_kernel)
        self._wake_up.set()
        self._changed()

    def interrupt(self) -> None:
        """Interrupt what the kernel does.

        ipykernel takes note of an interrupt during an `await` only when the next shell message arrives; a kernel_info
        request provides it.

        Raises:
            KernelDeadError: there is nothing to interrupt.
        """
        process = self._running_process()
        if self._settings.interrupt_by_message:
            self._request(CONTROL, "interrupt_request")
        else:
            process.signal_group(self._settings.interrupt_signal)
        self._request(SHELL, "kernel_info_request")

    def signal(self, signum: int) -> None:
        """Send a signal to the kernel's process group.

        Raises:
            KernelDeadError: there is nothing to signal.
        """
        self._running_process().signal_group(signum)

    def _running_process(self) -> KernelProcess:
        if self._process is None or self._exited is None or self._exited.done():
            raise KernelDeadError(self.lifecycle.reason)
        return self._process

    async def _live(self, process: KernelProcess, on_ready: Callable[[], None]) -> ExitReason:
        """See one process through; return why it ended."""
        exited = self._reaper.watch(process.pid)
        self._process, self._exited = process, exited
        self._activity = Activity()
        self._ready = self._loop.create_future()
        self._awaited = {SHELL, CONTROL, IOPUB}
        channels = KernelChannels(self._context, process.info, self._on_messages)
        self._channels = channels
        nudge = self._loop.create_task(self._nudge())
        timed_out = False
        try:
            await asyncio.wait(
                {exited, self._ready},
                timeout=self._settings.launch_timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            nudge.cancel()
            if self._ready.done():
                self._become_ready(on_ready)
            elif not exited.done():
                timed_out = True
                process.signal_group(signal.SIGKILL)
            code = await asyncio.shield(exited)
            if self._ending is not None:
                self._ending.cancel()
                self._ending = None
            process.set_exit_code(code)
            process.signal_group(signal.SIGKILL)
            await self._loop.run_in_executor(None, process.wait_for_output, OUTPUT_TIMEOUT)
            await channels.drain_until_disconnected()
        finally:
            nudge.cancel()
            channels.close()
            self._channels = None
        if timed_out:
            text = (
                f"the kernel did not answer kernel_info within {self._settings.launch_timeout:g} s"
            )
            return ExitReason(text, stderr=process.stderr())
        return process.explain_exit(code, out_of_memory=self._oom.has_increased())

    async def _nudge(self) -> None:
        """Ask on shell and control until both answer, and go on asking on control until iopub is seen to be live."""
        self._request(SHELL, "kernel_info_request")
        while True:
            self._request(CONTROL, "kernel_info_request")
            await asyncio.sleep(NUDGE_INTERVAL)
            while CONTROL in self._awaited:
                await asyncio.sleep(NUDGE_INTERVAL)

    def _become_ready(self, on_ready: Callable[[], None]) -> None:
        self.lifecycle.become_ready(self._loop.time())
        self._touch()
        held, self._held = self._held, []
        for channel, parts in held:
            self.submit(channel, parts)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()
        logger.info("kernel %s: ready", self._settings.kernel_id)
        self._changed()
        on_ready()

    def _request(self, channel: bytes, msg_type: str, **content: object) -> None:
        if self._channels is not None:
            _, parts = self._factory.request(msg_type, content)
            self._channels.send(channel, parts)

    def _on_messages(self, messages: List[Message]) -> None:
        if messages[0].channel == IOPUB:
            self._on_iopub(messages)
        else:
            for message in messages:
                if message.parent_session == self._factory.own_session:
                    self._on_own_reply(message)
                else:
                    self._sessions.reply(message)

    def _on_iopub(self, messages: List[Message]) -> None:
        if IOPUB in self._awaited:
            self._note_alive(IOPUB)
        own = self._factory.own_session.encode()
        activity = self._activity
        was_busy = activity.is_busy
        is_active = False
        for_clients: List[Message] = []
        for message in messages:
            if activity.observe(message):
                is_active = True
            elif own in message.parts[1] and message.msg_type == "status":
                continue
            for_clients.append(message)
        self._sessions.broadcast(for_clients)
        if is_active:
            self._touch()
        if is_active or activity.is_busy is not was_busy:
            self._changed()

    def _on_own_reply(self, message: Message) -> None:
        if message.msg_type != "kernel_info_reply":
            return
        self.kernel_info = message.content()
        self._factory.kernel_session = message.session
        self._note_alive(message.channel)

    def _note_alive(self, channel: bytes) -> None:
        self._awaited.discard(channel)
        if not self._awaited and not self._ready.done():
            self._ready.set_result(None)

    def _touch(self) -> None:
        self.last_activity = timestamp()
        self.idle_since = self._loop.time()

    def _announce(self, state: ExecutionState) -> None:
        self._sessions.broadcast([self._factory.status(state.value)])
        self._changed()

    def _fail_waiters(self, reason: Optional[ExitReason]) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(KernelDeadError(reason))
        self._waiters.clear()

    def _start_ending(self, *, is_restart: bool, is_requested: bool) -> None:
        if self._ending is not None:
            self._ending.cancel()
        self._ending = self._loop.create_task(
            self._end_process(is_restart=is_restart, is_requested=is_requested)
        )

    async def _end_process(self, *, is_restart: bool, is_requested: bool) -> None:
        """End the process: by request, then SIGTERM, then SIGKILL. Cancelled when it is gone."""
        process, exited = self._process, self._exited
        if process is None or exited is None:
            return
        if self._ready.done():
            if self._activity.is_busy:
                self.interrupt()
            if not is_requested:
                self._request(CONTROL, "shutdown_request", restart=is_restart)
            await asyncio.wait({exited}, timeout=self._settings.shutdown_wait_time)
        for signum in (signal.SIGTERM, signal.SIGKILL):
            if exited.done():
                return
            logger.info("kernel %s: sending %s", self._settings.kernel_id, signum.name)
            process.signal_group(signum)
            await asyncio.wait({exited}, timeout=self._settings.shutdown_wait_time / 2)


_PHASE_STATES = {
    Phase.STARTING: ExecutionState.STARTING,
    Phase.RESTARTING: ExecutionState.RESTARTING,
    Phase.TERMINATING: ExecutionState.TERMINATING,
    Phase.DEAD: ExecutionState.DEAD,
}
