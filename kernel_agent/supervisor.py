"""Owns the kernel's life: starts its processes, ends them, and acts on their death."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Set, Tuple, Union

import zmq

from kernel_agent.activity import Activity, ExecutionState
from kernel_agent.backlog import Backlog
from kernel_agent.cgroup import OomCounter
from kernel_agent.command import Attachment
from kernel_agent.interrupts import NO_REACTION, REACTION_TIME, InterruptWatch
from kernel_agent.lifecycle import ExitReason, Lifecycle, Next, Phase
from kernel_agent.link import KernelLink
from kernel_agent.message import CONTROL, Message
from kernel_agent.notices import MessageFactory, timestamp
from kernel_agent.process import SpawnError
from kernel_agent.reaper import Reaper
from kernel_agent.relay import Relay
from kernel_agent.settings import AgentSettings

if TYPE_CHECKING:
    from kernel_agent.launcher import KernelProcess, Launcher

OUTPUT_TIMEOUT = 0.2
"""Seconds for the last output of a dead process; children that outlived it may keep it open."""

logger = logging.getLogger(__name__)


class KernelDeadError(Exception):
    """The kernel is dead, or died while something was done with it.

    Attributes:
        reason: why, if known.
    """

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
        launcher: "Launcher",
        reaper: Reaper,
        relay: Relay,
        factory: MessageFactory,
        changed: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._launcher = launcher
        self._reaper = reaper
        self._relay = relay
        self._factory = factory
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._context: "zmq.Context[zmq.Socket[bytes]]" = zmq.Context(io_threads=1)
        self._oom = OomCounter()
        self._activity = Activity()
        self._interrupts = InterruptWatch()
        self._reaction: Optional[asyncio.TimerHandle] = None
        self._link: Optional[KernelLink] = None
        self._process: "Optional[KernelProcess]" = None
        self._exited: Optional["asyncio.Future[int]"] = None
        self._held: List[Tuple[bytes, List[bytes]]] = []
        self._ending: Optional["asyncio.Task[None]"] = None
        self._waiters: List["asyncio.Future[None]"] = []
        self._wake_up = asyncio.Event()
        self.backlog = Backlog()
        self.lifecycle = Lifecycle(
            autorestart=settings.autorestart,
            restart_limit=settings.restart_limit,
            can_start_again=not isinstance(settings.kernel, Attachment),
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

    async def run(
        self, first: "Union[KernelProcess, ExitReason]", on_ready: Callable[[], None]
    ) -> Next:
        """Live the kernel's life, from its first process, or why there is none, to its end.

        Args:
            first: just spawned.
            on_ready: called whenever a process became ready.

        Returns:
            END, STOP, LOSE or FAIL.
        """
        current = first
        try:
            while True:
                if isinstance(current, ExitReason):
                    reason = current
                else:
                    reason = await self._live(current, on_ready)
                is_requested = self.lifecycle.phase is Phase.RESTARTING
                step = self.lifecycle.process_ended(self._loop.time(), reason)
                logger.info("kernel %s: %s", self._settings.kernel_id, reason.message)
                while step is Next.STAY_DEAD:
                    self._announce(ExecutionState.DEAD)
                    self._fail_waiters(reason)
                    self._drop_held()
                    self._wake_up.clear()
                    await self._wake_up.wait()
                    step = self.lifecycle.leave_death()
                    is_requested = True
                if step is not Next.START:
                    return step
                # front ends show the status as a crash, so no requested restart may send it
                if not is_requested:
                    self._announce(ExecutionState.RESTARTING)
                try:
                    current = self._launcher.spawn()
                except SpawnError as exc:
                    current = ExitReason(str(exc))
        finally:
            self._fail_waiters(self.lifecycle.reason)
            if self._process is not None and self._exited is not None and not self._exited.done():
                self._process.kill()
            self._launcher.release()
            self._context.destroy(linger=0)

    def submit(self, channel: bytes, parts: List[bytes], *, may_wait: bool) -> None:
        """Send a client's message to the kernel.

        Until the kernel is ready, and from the end of a process to the next one, messages that may
        wait are held; a kernel that is dead or being ended gets none.
        """
        phase = self.lifecycle.phase
        has_exited = self._exited is None or self._exited.done()
        if phase is Phase.RUNNING and self._link is not None and not has_exited:
            self._link.send(channel, parts)
        elif may_wait and phase in (Phase.STARTING, Phase.RUNNING, Phase.RESTARTING):
            self.backlog.add(sum(map(len, parts)))
            self._held.append((channel, parts))

    async def restart(self, *, is_requested_of_kernel: bool = False) -> None:
        """Replace the process; return when the new one is ready. Concurrent calls share a restart.

        Args:
            is_requested_of_kernel: the kernel was sent a shutdown_request already.

        Raises:
            KernelDeadError: the new process did not become ready, or the kernel is being ended.
        """
        if self.lifecycle.phase is Phase.TERMINATING:
            raise KernelDeadError(self.lifecycle.reason)
        waiter: "asyncio.Future[None]" = self._loop.create_future()
        self._waiters.append(waiter)
        if self.lifecycle.request_restart():
            self._start_ending(is_restart=True, is_requested=is_requested_of_kernel)
        self._wake_up.set()
        self._changed()
        await waiter

    def end(self, *, is_requested_of_kernel: bool = False) -> None:
        """End the kernel for good, as somebody asked; `run` returns when it is gone."""
        is_ending = self.lifecycle.phase is Phase.TERMINATING
        self.lifecycle.request_end()
        self._changed()
        if not is_ending:
            self._end(is_requested_of_kernel=is_requested_of_kernel)

    def stop(self, reason: ExitReason) -> None:
        """End the kernel for good though nobody asked for that; `run` returns when it is gone."""
        is_ending = self.lifecycle.phase is Phase.TERMINATING
        self.lifecycle.request_stop(reason)
        self._changed()
        if not is_ending:
            self._end(is_requested_of_kernel=False)

    async def interrupt(self) -> None:
        """Interrupt what the kernel does; return when the interrupt is delivered.

        Clients are told if it has no effect.

        Raises:
            KernelDeadError: there is nothing to interrupt.
        """
        request = self._activity.interruptible
        await self._interrupt()
        if self._interrupts.begin(request):
            self._forget_reaction()
            self._reaction = self._loop.call_later(REACTION_TIME, self._tell_of_no_reaction)

    async def _interrupt(self) -> None:
        process, link = self._running_process(), self._link
        if not self._settings.interrupt_by_message:
            await process.interrupt(self._settings.interrupt_signal)
            if link is not None and link is self._link:
                link.wake()
        elif link is not None:
            link.interrupt()

    async def signal(self, signum: int) -> None:
        """Send a signal to the kernel; return when it is delivered.

        Raises:
            KernelDeadError: there is nothing to signal.
        """
        await self._running_process().signal(signum)

    def _tell_of_no_reaction(self) -> None:
        request = self._interrupts.end(self._activity.interruptible)
        if request is not None and self.lifecycle.phase is Phase.RUNNING:
            self._relay.broadcast([self._factory.stderr(NO_REACTION, request.header)])

    def _forget_reaction(self) -> None:
        if self._reaction is not None:
            self._reaction.cancel()
            self._reaction = None

    def _running_process(self) -> "KernelProcess":
        if self._process is None or self._exited is None or self._exited.done():
            raise KernelDeadError(self.lifecycle.reason)
        return self._process

    async def _live(self, process: "KernelProcess", on_ready: Callable[[], None]) -> ExitReason:
        """See one process through; return why it ended."""
        exited = process.watch(self._reaper)
        self._process, self._exited = process, exited
        self._activity = Activity()
        self._interrupts = InterruptWatch()
        if self.lifecycle.phase is Phase.TERMINATING:
            self._start_ending(is_restart=False, is_requested=False)
        connecting = self._loop.create_task(self._connect(process))
        is_ready = False
        try:
            failure = await self._await_ready(connecting, exited)
            if self._link is not None and self._link.is_ready:
                is_ready = True
                self._become_ready(self._link, on_ready)
            elif failure is not None:
                process.kill()
            code = await asyncio.shield(exited)
            await self._settle(process, code)
        finally:
            connecting.cancel()
            link, self._link = self._link, None
            if link is not None:
                link.close()
        reason = process.explain_exit(code, out_of_memory=self._oom.has_increased())
        if failure is not None:
            reason = ExitReason(failure, stderr=reason.stderr)
        if not is_ready:
            self._fail_waiters(reason)
        return reason

    async def _connect(self, process: "KernelProcess") -> None:
        """Connect to the process; return when it is ready."""
        info = await process.connect()
        link = KernelLink(
            self._context,
            info,
            self._factory,
            self.backlog,
            on_iopub=self._on_iopub,
            on_reply=self._relay.reply,
        )
        self._link = link
        self._relay.attach(link.channels)
        link.channels.iopub_lost.add_done_callback(lambda _: process.let_go())
        await link.ready

    async def _await_ready(
        self, connecting: "asyncio.Task[None]", exited: "asyncio.Future[int]"
    ) -> Optional[str]:
        """Wait until a process is ready or has ended; return why it is of no use, if it is not."""
        timeout = self._settings.launch_timeout
        either: "Set[asyncio.Future[Any]]" = {exited, connecting}
        await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if connecting.done():
            error = connecting.exception()
            if isinstance(error, SpawnError):
                return str(error)
            connecting.result()
        elif not exited.done() and self._link is not None:
            return f"the kernel did not answer kernel_info in {timeout:g} s"
        elif not exited.done():
            return f"the kernel's launcher did not report how to reach it in {timeout:g} s"
        return None

    async def _settle(self, process: "KernelProcess", code: int) -> None:
        """Collect what is left of a process that has ended."""
        self._relay.detach()
        self._forget_reaction()
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        await self._loop.run_in_executor(None, process.settle, code, OUTPUT_TIMEOUT)
        if self._link is not None:
            await self._link.channels.drain_until_disconnected()

    def _become_ready(self, link: KernelLink, on_ready: Callable[[], None]) -> None:
        self.kernel_info = link.kernel_info
        self.lifecycle.become_ready(self._loop.time())
        self._touch()
        held = self._drop_held()
        for channel, parts in held:
            link.send(channel, parts)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()
        logger.info("kernel %s: ready", self._settings.kernel_id)
        self._changed()
        on_ready()

    def _on_iopub(self, messages: List[Message]) -> None:
        was_busy = self._activity.is_busy
        is_active = False
        for message in messages:
            if self._activity.observe(message):
                is_active = True
        if is_active:
            self._touch()
        if is_active or self._activity.is_busy is not was_busy:
            self._changed()
        self._relay.broadcast(messages)

    def _touch(self) -> None:
        self.last_activity = timestamp()
        self.idle_since = self._loop.time()

    def _announce(self, state: ExecutionState) -> None:
        self._relay.broadcast([self._factory.status(state.value)])
        self._changed()

    def _drop_held(self) -> List[Tuple[bytes, List[bytes]]]:
        held, self._held = self._held, []
        self.backlog.remove(sum(sum(map(len, parts)) for _, parts in held))
        return held

    def _fail_waiters(self, reason: Optional[ExitReason]) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(KernelDeadError(reason))
        self._waiters.clear()

    def _end(self, *, is_requested_of_kernel: bool) -> None:
        logger.info("kernel %s: ending", self._settings.kernel_id)
        self._start_ending(is_restart=False, is_requested=is_requested_of_kernel)
        self._wake_up.set()

    def _start_ending(self, *, is_restart: bool, is_requested: bool) -> None:
        if self._ending is not None:
            self._ending.cancel()
        self._relay.detach()
        ending = self._end_process(is_restart=is_restart, is_requested=is_requested)
        self._ending = self._loop.create_task(ending)

    async def _end_process(self, *, is_restart: bool, is_requested: bool) -> None:
        """End the process: by request, then SIGTERM, then SIGKILL. Cancelled when it is gone."""
        process, exited, link = self._process, self._exited, self._link
        if process is None or exited is None:
            return
        if link is not None and link.is_ready and not exited.done():
            if self._activity.is_busy:
                await self._interrupt()
            if not is_requested:
                link.request(CONTROL, "shutdown_request", restart=is_restart)
            process.let_go()
            await asyncio.wait([exited], timeout=self._settings.shutdown_wait_time)
        for signum in (signal.SIGTERM, signal.SIGKILL):
            if exited.done():
                return
            logger.info("kernel %s: sending %s", self._settings.kernel_id, signum.name)
            await process.signal(signum)
            await asyncio.wait([exited], timeout=self._settings.shutdown_wait_time / 2)


_PHASE_STATES = {
    Phase.STARTING: ExecutionState.STARTING,
    Phase.RESTARTING: ExecutionState.RESTARTING,
    Phase.TERMINATING: ExecutionState.TERMINATING,
    Phase.DEAD: ExecutionState.DEAD,
}
