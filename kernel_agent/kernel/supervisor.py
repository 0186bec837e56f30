"""Owns the kernel's life: starts its processes, ends them, and acts on their end."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Set, Tuple, Union

from kernel_agent.channels.client import KernelClient
from kernel_agent.kernel.activity import ExecutionState, Running
from kernel_agent.kernel.answers import Answers
from kernel_agent.kernel.interrupts import NO_REACTION, REACTION_SECONDS, InterruptWatch
from kernel_agent.kernel.lifecycle import (
    BY_GATEWAY,
    EndedBy,
    KernelDeadError,
    Lifecycle,
    Next,
    Phase,
    announce_end,
)
from kernel_agent.kernel.pending import EXECUTE_REQUEST
from kernel_agent.kernel.relay import Relay
from kernel_agent.kernel.shortages import ShortageWatch
from kernel_agent.kernel.steps import END, KERNEL, SPARE, Steps
from kernel_agent.kernel.waiters import Waiters
from kernel_agent.launch.command import Attachment
from kernel_agent.launch.home import enter_folder
from kernel_agent.process.child import SpawnError
from kernel_agent.process.exits import ExitReason
from kernel_agent.settings import AgentSettings
from kernel_agent.system.cgroup import OomCounter, PidsCounter
from kernel_agent.system.reaper import Reaper
from kernel_agent.wire.agent_messages import MessageFactory, timestamp
from kernel_agent.wire.backlog import Backlog
from kernel_agent.wire.client_sessions import ClientSessions
from kernel_agent.wire.message import CONTROL, EMPTY, SHELL, Message

if TYPE_CHECKING:
    from kernel_agent.process.spawner import KernelProcess, KernelSpawner

OUTPUT_TIMEOUT_SECONDS = 1.0
"""How long to wait for the last output of a dead process; a process that is no descendant of it may
keep it open, and on a busy machine the reader takes its time."""
IOPUB_LOSS_GRACE_SECONDS = 1.0
"""How long to wait, after iopub was lost, for its last messages and the end of the process."""

_log = logging.getLogger(__name__)


class KernelSupervisor:
    """Supervises the one kernel of this agent.

    Attributes:
        lifecycle: its state machine.
        idle_since: time of its last activity for a user, by the event loop's clock.
        steps: of the latest start or restart, which may be under way.
        start: how long the latest that has succeeded took; None before the first.
        notice: a sentence for the user about how the kernel was started, "" if there is none. It is
            shown below the first request to execute.
    """

    def __init__(
        self,
        settings: AgentSettings,
        spawner: "KernelSpawner",
        reaper: Reaper,
        sessions: ClientSessions,
        factory: MessageFactory,
        changed: Callable[[], None],
        active: Callable[[], None],
        steps: Steps,
    ) -> None:
        self._settings = settings
        self._spawner = spawner
        self._reaper = reaper
        self._relay = Relay(settings, sessions, factory, self._on_activity, changed)
        self._factory = factory
        self._changed = changed
        self._active = active
        self._loop = asyncio.get_running_loop()
        self._oom = OomCounter()
        self._collector = ThreadPoolExecutor(1, "collector")
        self._shortages = ShortageWatch(
            self._oom, PidsCounter(), self._is_busy, self._is_alive, self.notify
        )
        self._has_own_group = not settings.listen.startswith("unix:")
        """Local kernels, whose agents have unix sockets, share their control group with others."""
        self._interrupts = InterruptWatch()
        self._reaction_timer: Optional[asyncio.TimerHandle] = None
        self._client: Optional[KernelClient] = None
        self._process: "Optional[KernelProcess]" = None
        self._exited: Optional["asyncio.Future[int]"] = None
        self._held: List[Tuple[bytes, List[bytes]]] = []
        self._ending: Optional["asyncio.Task[None]"] = None
        self._waiters = Waiters()
        self._wake_up = asyncio.Event()
        self.backlog = Backlog()
        self.lifecycle = Lifecycle(
            autorestart=settings.autorestart,
            restart_limit=settings.restart_limit,
            can_start_again=not isinstance(settings.kernel, Attachment),
        )
        self._answers = Answers(self._relay, factory, self.lifecycle)
        self.notice = settings.notice
        self._is_notice_due = bool(settings.notice)
        self._last_active = time.time()
        self.idle_since = self._loop.time()
        self.steps = steps
        self.start: Optional[Dict[str, Any]] = None

    @property
    def execution_state(self) -> ExecutionState:
        """The `execution_state` of the state document."""
        if self.lifecycle.phase is Phase.RUNNING:
            return ExecutionState.BUSY if self._relay.activity.is_busy else ExecutionState.IDLE
        return _PHASE_STATES[self.lifecycle.phase]

    @property
    def kernel_info(self) -> Dict[str, Any]:
        """Content of its latest kernel_info reply."""
        return self._answers.kernel_info

    @property
    def last_activity(self) -> str:
        """Time of its last activity for a user."""
        return timestamp(self._last_active)

    @property
    def running(self) -> List[Running]:
        """The requests that the kernel is running, that of the main shell first."""
        return self._relay.activity.running if self.lifecycle.phase is Phase.RUNNING else []

    @property
    def open_requests(self) -> List[Dict[str, Any]]:
        """The `requests` of the state document."""
        return self._relay.pending.describe()

    @property
    def _running_request(self) -> Optional[Running]:
        """The request that an interrupt stops, even if a stopped kernel did not report it."""
        return self._relay.activity.interruptible or self._relay.pending.running

    async def run(
        self, first: "Union[KernelProcess, ExitReason]", on_ready: Callable[[], None]
    ) -> Next:
        """Run the kernel until its end.

        Args:
            first: its first process, just spawned, or the reason why there is none.
            on_ready: called whenever a process became ready.

        Returns:
            END, STOP, LOSE or FAIL.
        """
        current = first
        # now, as a kernel may take all processes and threads that there may be
        self._collector.submit(int)
        try:
            while True:
                if isinstance(current, ExitReason):
                    reason = current
                else:
                    reason = await self._run_process(current, on_ready)
                    if current.imported_ahead and self.lifecycle.is_awaiting_process:
                        text = "the process that had imported ahead failed (%s); starting anew"
                        _log.warning(text, reason.message)
                        current = await self._respawn()
                        continue
                is_requested = self.lifecycle.phase is Phase.RESTARTING
                step = self.lifecycle.process_ended(self._loop.time(), reason)
                _log.info("kernel %s: %s", self._settings.kernel_id, reason.message)
                for channel, parts in self._answers.after_end(step, is_requested=is_requested):
                    self._hold(channel, parts)
                if step is not Next.START:
                    self._answers.refuse(self._take_held(), step)
                while step is Next.STAY_DEAD:
                    self._announce_state(ExecutionState.DEAD)
                    self._waiters.fail(reason)
                    self._wake_up.clear()
                    await self._wake_up.wait()
                    step = self.lifecycle.leave_death()
                    is_requested = True
                if step is not Next.START:
                    return step
                # front ends show this status as a crash, so a requested restart does not send it
                if not is_requested:
                    self._announce_state(ExecutionState.RESTARTING)
                current = await self._respawn()
        finally:
            self._waiters.fail(self.lifecycle.reason)
            if self._process is not None and self._exited is not None and not self._exited.done():
                self._process.kill()
            self._shortages.stop()
            self._spawner.release()
            self._collector.shutdown(wait=False)

    def notify(self, text: str) -> None:
        """Show clients a text, below the request that runs if there is one."""
        running = self._running_request
        header = running.header if running is not None else EMPTY
        self._relay.send_own([self._factory.stderr(text, header)])

    def submit(self, channel: bytes, parts: List[bytes], *, may_wait: bool) -> None:
        """Send a client's message to the kernel.

        Until the kernel is ready, and between two processes, messages that may wait are held. The
        agent answers for a kernel that is dead or terminating.
        """
        if self._is_notice_due and channel == SHELL:
            self._show_notice(Message(channel, parts))
        phase = self.lifecycle.phase
        has_exited = self._exited is None or self._exited.done()
        if phase is Phase.RUNNING and self._client is not None and not has_exited:
            self._send(self._client, channel, parts)
        elif may_wait and phase in (Phase.STARTING, Phase.RUNNING, Phase.RESTARTING):
            self._hold(channel, parts)
        else:
            step = self.lifecycle.end if phase is Phase.TERMINATING else Next.STAY_DEAD
            self._answers.refuse([(channel, parts)], step)

    def set_up(self, code: str, env: Mapping[str, Optional[str]], cwd: str) -> None:
        """Have the running kernel, and its later processes, use another environment.

        It takes effect before anything that is submitted from now on.

        Args:
            code: sets it in the running process, "" if there is nothing to do.
            env: the variables for later processes.
            cwd: their working directory, "" to stay.
        """
        if code and self._client is not None:
            self._client.execute_silently(code)
        self._spawner.change_environment(env, suits_spare=True)
        self._enter(cwd)
        self._record_activity()
        self._prepare()
        self._changed()

    async def begin_anew(
        self, env: Mapping[str, Optional[str]], cwd: str, *, suits_spare: bool
    ) -> None:
        """Replace the process, which no client has used, by one with another environment.

        Return when that is ready. The former is killed, and no restart is counted.

        Args:
            env: the variables to set; None: to unset.
            cwd: the working directory, "" to stay.
            suits_spare: whether none of them is read by what a spare has imported.

        Raises:
            KernelDeadError: the new process did not become ready, or there is none to replace.
        """
        process = self._running_process()
        self._spawner.change_environment(env, suits_spare=suits_spare)
        self._enter(cwd)
        self.steps = Steps(END, self._loop.time())
        waiter = self._waiters.add()
        self.lifecycle.request_restart(BY_GATEWAY, is_counted=False)
        self._relay.detach()
        process.kill()
        self._changed()
        await waiter

    async def restart(self, by: str, *, is_requested_of_kernel: bool = False) -> None:
        """Replace the process; return when the new one is ready. Concurrent calls share a restart.

        Args:
            by: who requested it, as the end of a passive sentence.
            is_requested_of_kernel: whether a client already sent the kernel a shutdown_request.

        Raises:
            KernelDeadError: the new process did not become ready, or the kernel is terminating.
        """
        if self.lifecycle.phase is Phase.TERMINATING:
            raise KernelDeadError(self.lifecycle.reason)
        waiter = self._waiters.add()
        if self.lifecycle.phase in (Phase.RUNNING, Phase.DEAD):
            self.steps = Steps(END, self._loop.time())
        if self.lifecycle.request_restart(by):
            self._start_ending(is_restart=True, is_requested=is_requested_of_kernel)
        self._wake_up.set()
        self._changed()
        await waiter

    def end(self, by: str, ended_by: EndedBy, *, is_requested_of_kernel: bool = False) -> None:
        """End the kernel for good, as requested; `run` returns when it has ended.

        Args:
            by: who requested it, as the end of a passive sentence.
            ended_by: what requested it.
            is_requested_of_kernel: whether a client already sent the kernel a shutdown_request.
        """
        is_ending = self.lifecycle.phase is Phase.TERMINATING
        self.lifecycle.request_end(by, ended_by)
        self._changed()
        if not is_ending:
            self._end(is_requested_of_kernel=is_requested_of_kernel)

    def stop(self, reason: ExitReason) -> None:
        """End the kernel for good for another reason; `run` returns when it has ended."""
        is_ending = self.lifecycle.phase is Phase.TERMINATING
        self.lifecycle.request_stop(reason)
        self._changed()
        if not is_ending:
            self._end(is_requested_of_kernel=False)

    async def interrupt(self) -> None:
        """Interrupt the kernel; return when the interrupt is delivered.

        Clients get a notice if it has no effect.

        Raises:
            KernelDeadError: no process is running.
        """
        request = self._running_request
        await self._interrupt()
        if self._interrupts.begin(request):
            self._cancel_reaction_check()
            self._reaction_timer = self._loop.call_later(REACTION_SECONDS, self._report_no_reaction)

    async def _interrupt(self) -> None:
        process, client = self._running_process(), self._client
        if not self._settings.interrupt_by_message:
            await process.interrupt(self._settings.interrupt_signal)
            if client is not None and client is self._client:
                client.wake()
        elif client is not None:
            client.interrupt()

    async def signal(self, signum: int) -> None:
        """Send a signal to the kernel; return when it is delivered.

        Raises:
            KernelDeadError: no process is running.
        """
        await self._running_process().signal(signum)

    def _report_no_reaction(self) -> None:
        request = self._interrupts.end(self._running_request)
        if request is not None and self.lifecycle.phase is Phase.RUNNING:
            self._relay.send_own([self._factory.stderr(NO_REACTION, request.header)])

    def _cancel_reaction_check(self) -> None:
        if self._reaction_timer is not None:
            self._reaction_timer.cancel()
            self._reaction_timer = None

    def _running_process(self) -> "KernelProcess":
        if self._process is None or self._exited is None or self._exited.done():
            raise KernelDeadError(self.lifecycle.reason)
        return self._process

    async def _respawn(self) -> "Union[KernelProcess, ExitReason]":
        try:
            process = await self._spawner.respawn()
        except SpawnError as exc:
            return ExitReason(str(exc))
        self.steps.begin(SPARE if process.imported_ahead else KERNEL)
        return process

    async def _run_process(
        self, process: "KernelProcess", on_ready: Callable[[], None]
    ) -> ExitReason:
        """Run one process until its end; return why it ended."""
        exited = process.watch(self._reaper)
        self._process, self._exited = process, exited
        self._relay.reset_activity()
        self._interrupts = InterruptWatch()
        if self.lifecycle.phase is Phase.TERMINATING:
            self._start_ending(is_restart=False, is_requested=False)
        connecting = self._loop.create_task(self._connect(process))
        is_ready = False
        try:
            failure = await self._await_ready(process, connecting, exited)
            if self._client is not None and self._client.is_ready:
                is_ready = True
                self._become_ready(self._client, on_ready)
            elif failure is not None:
                process.kill()
            code = await asyncio.shield(exited)
            if self.lifecycle.phase is Phase.RUNNING:
                self.steps = Steps(END, self._loop.time())
            await self._collect_exit(process, code)
        finally:
            connecting.cancel()
            client, self._client = self._client, None
            if client is not None:
                client.close()
        reason = process.explain_exit(code, out_of_memory=self._shortages.has_ended_kernel())
        if failure is not None:
            reason = ExitReason(failure, stderr=reason.stderr)
        if not is_ready and not process.imported_ahead:
            self._waiters.fail(reason)
        return reason

    async def _connect(self, process: "KernelProcess") -> None:
        """Connect to the process; return when it is ready."""
        info = await process.connect()
        client = KernelClient(
            info,
            self._factory,
            self.backlog,
            on_iopub=self._relay.broadcast,
            on_reply=self._on_reply,
            on_woken=self._answers.after_interrupt,
        )
        self._client = client
        self._relay.attach(client.channels)
        client.channels.iopub_lost.add_done_callback(lambda _: self._on_iopub_lost(process, client))
        await client.ready

    async def _await_ready(
        self,
        process: "KernelProcess",
        connecting: "asyncio.Task[None]",
        exited: "asyncio.Future[int]",
    ) -> Optional[str]:
        """Wait until a process is ready or has ended; return an error if it can never be ready.

        One that imports ahead leaves time for one that does not.
        """
        timeout = self._settings.launch_timeout
        if process.imported_ahead:
            timeout /= 2
        either: "Set[asyncio.Future[Any]]" = {exited, connecting}
        await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if connecting.done():
            error = connecting.exception()
            if isinstance(error, SpawnError):
                return str(error)
            connecting.result()
        elif not exited.done() and self._client is not None:
            return f"the kernel did not answer kernel_info in {timeout:g} s"
        elif not exited.done():
            return f"the kernel's launcher did not report how to reach it in {timeout:g} s"
        return None

    async def _collect_exit(self, process: "KernelProcess", code: int) -> None:
        """Collect the last output and messages of a process that has ended."""
        self._relay.detach()
        self._cancel_reaction_check()
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        collect = partial(process.collect_exit, code, OUTPUT_TIMEOUT_SECONDS)
        await self._loop.run_in_executor(self._collector, collect)
        if self._client is not None:
            await self._client.channels.drain_until_disconnected()

    def _become_ready(self, client: KernelClient, on_ready: Callable[[], None]) -> None:
        self._answers.kernel_info = client.kernel_info
        self.lifecycle.become_ready(self._loop.time())
        self.start = self.steps.describe()
        self._record_activity()
        for channel, parts in self._take_held():
            self._send(client, channel, parts)
        self._waiters.release()
        _log.info("kernel %s: ready", self._settings.kernel_id)
        self._changed()
        on_ready()
        self._prepare()

    def _prepare(self) -> None:
        self._spawner.prepare(self._reaper, self._oom, self._is_quiet, self._changed)

    def _is_busy(self) -> bool:
        return self._relay.activity.is_busy

    def _is_alive(self) -> bool:
        return self._exited is not None and not self._exited.done()

    def _is_quiet(self, seconds: float) -> bool:
        is_idle = not self._relay.activity.is_busy
        return is_idle and self._loop.time() >= self.idle_since + seconds

    def _on_activity(self) -> None:
        if self._has_own_group:
            self._shortages.begin()
        self._record_activity()
        self._active()

    def _on_reply(self, message: Message) -> None:
        self._shortages.acquit_kernel()
        self._relay.reply(message)
        client = self._client
        if client is not None and client.channels.is_iopub_lost:
            self._loop.call_later(IOPUB_LOSS_GRACE_SECONDS, self._answer_for_lost_iopub, client)

    def _on_iopub_lost(self, process: "KernelProcess", client: KernelClient) -> None:
        process.release_parent()
        self._loop.call_later(IOPUB_LOSS_GRACE_SECONDS, self._answer_for_lost_iopub, client)

    def _answer_for_lost_iopub(self, client: KernelClient) -> None:
        is_running = self.lifecycle.phase is Phase.RUNNING and self._exited is not None
        if client is self._client and client.channels.is_iopub_lost and is_running:
            self._answers.after_iopub_loss()

    def _send(self, client: KernelClient, channel: bytes, parts: List[bytes]) -> None:
        self._relay.pending.add(Message(channel, parts))
        self._changed()
        client.send(channel, parts)

    def _enter(self, cwd: str) -> None:
        """Enter the user's folder, or have the next request say why it was not entered."""
        self.notice = enter_folder(cwd)
        self._is_notice_due = bool(self.notice)

    def _show_notice(self, message: Message) -> None:
        """Show the notice below a request, if a user sees what that executes."""
        if message.msg_type == EXECUTE_REQUEST and not message.content().get("silent"):
            self._is_notice_due = False
            text = f"{self.notice}\n"
            self._relay.send_own([self._factory.stderr(text, message.parts[0])])

    def _hold(self, channel: bytes, parts: List[bytes]) -> None:
        self.backlog.add(sum(map(len, parts)))
        self._held.append((channel, parts))

    def _record_activity(self) -> None:
        self._last_active = time.time()
        self.idle_since = self._loop.time()

    def _announce_state(self, state: ExecutionState) -> None:
        self._relay.send_own([self._factory.status(state.value)])
        self._changed()

    def _take_held(self) -> List[Tuple[bytes, List[bytes]]]:
        held, self._held = self._held, []
        self.backlog.remove(sum(sum(map(len, parts)) for _, parts in held))
        return held

    def _end(self, *, is_requested_of_kernel: bool) -> None:
        _log.info("kernel %s: ending", self._settings.kernel_id)
        self._start_ending(is_restart=False, is_requested=is_requested_of_kernel)
        self._wake_up.set()

    def _start_ending(self, *, is_restart: bool, is_requested: bool) -> None:
        if self._ending is not None:
            self._ending.cancel()
        self._relay.detach()
        ending = self._end_process(is_restart=is_restart, is_requested=is_requested)
        self._ending = self._loop.create_task(ending)

    async def _end_process(self, *, is_restart: bool, is_requested: bool) -> None:
        """End the process by request, then SIGTERM, then SIGKILL; cancelled once it has ended."""
        process, exited, client = self._process, self._exited, self._client
        if process is None or exited is None:
            return
        if client is not None and client.is_ready and not exited.done():
            running = self._running_request
            if running is not None:
                # what the kernel says of the interrupt does not name its cause
                notice = announce_end(self.lifecycle, is_restart=is_restart)
                self._relay.send_own([self._factory.stderr(notice, running.header)])
            if self._relay.activity.is_busy:
                await self._interrupt()
            if not is_requested:
                client.request(CONTROL, "shutdown_request", restart=is_restart)
            process.release_parent()
            await asyncio.wait([exited], timeout=self._settings.shutdown_wait_time)
        for signum in (signal.SIGTERM, signal.SIGKILL):
            if exited.done():
                return
            _log.info("kernel %s: sending %s", self._settings.kernel_id, signum.name)
            await process.signal(signum)
            await asyncio.wait([exited], timeout=self._settings.shutdown_wait_time / 2)


_PHASE_STATES = {
    Phase.STARTING: ExecutionState.STARTING,
    Phase.RESTARTING: ExecutionState.RESTARTING,
    Phase.TERMINATING: ExecutionState.TERMINATING,
    Phase.DEAD: ExecutionState.DEAD,
}
