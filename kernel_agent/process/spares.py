"""The spare of a kernel: a process that has imported what the next one needs, and waits."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
from contextlib import suppress
from typing import Callable, Dict, FrozenSet, Mapping, Optional, Sequence

from kernel_agent.process import spare_script
from kernel_agent.process.ahead import spawn_ahead
from kernel_agent.process.child import Child, OutputTail, SpawnError, changed_environment
from kernel_agent.process.spare_command import SpareCommand
from kernel_agent.system.cgroup import OomCounter, memory_limit
from kernel_agent.system.memory import make_expendable, own_bytes, physical_bytes, set_oom_score
from kernel_agent.system.reaper import Reaper

QUIET_SECONDS = 2.0
"""For so long a kernel is left alone before its spare is started."""
LOOK_SECONDS = 0.5
LONGEST_SECONDS = 30.0
"""A kernel that is never quiet gets one after so long."""
ANSWER_SECONDS = 1.0
"""A spare that does not go on within so long is ended."""
MEMORY_FRACTION = 8
"""It may take at most this fraction of the memory: that belongs to the kernel."""
MAX_WORD_BYTES = 64

_log = logging.getLogger(__name__)


class Spare:
    """One process that waits.

    Attributes:
        child: the process.
        exited: its exit code, once it has ended.
        is_ready: whether its imports are done.
        is_anew: once it goes on: whether it does so without its imports, as files have changed.
    """

    def __init__(
        self,
        child: Child,
        exited: "asyncio.Future[int]",
        channel: socket.socket,
        on_ready: "Callable[[Spare], None]",
    ) -> None:
        self.child = child
        self.exited = exited
        self.is_ready = False
        self.is_anew = False
        self._channel = channel
        self._on_ready = on_ready
        self._oom_score = make_expendable(child.pid)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(channel, self._on_word)
        exited.add_done_callback(lambda done: child.reaped(done.result()))

    def _on_word(self) -> None:
        self._loop.remove_reader(self._channel)
        with suppress(OSError):
            self.is_ready = self._channel.recv(MAX_WORD_BYTES) == spare_script.READY
        if self.is_ready:
            self._on_ready(self)

    async def go(self, env: Mapping[str, Optional[str]]) -> bool:
        """Have it go on in the agent's working directory; return whether it does.

        If not, it is ended.

        Args:
            env: variables to set; None: to unset.
        """
        is_going = False
        try:
            if self.is_ready and not self.exited.done():
                is_going = await self._go(env)
        finally:
            self._close()
            if not is_going:
                self.end()
        return is_going

    async def _go(self, env: Mapping[str, Optional[str]]) -> bool:
        word = json.dumps({"env": env, "cwd": os.getcwd()}).encode()
        try:
            if self._oom_score is not None:
                set_oom_score(self.child.pid, self._oom_score)
            self.child.signal_group(signal.SIGCONT)
            self._channel.send(word)
            reading = self._loop.sock_recv(self._channel, MAX_WORD_BYTES)
            word = await asyncio.wait_for(reading, ANSWER_SECONDS)
        except (OSError, asyncio.TimeoutError):
            return False
        self.is_anew = word == spare_script.ANEW
        return self.is_anew or word == spare_script.GOING

    def end(self) -> None:
        """End it."""
        self.is_ready = False
        self._close()
        if not self.exited.done():
            self.child.signal_group(signal.SIGKILL)

    def _close(self) -> None:
        if self._channel.fileno() >= 0:
            self._loop.remove_reader(self._channel)
            self._channel.close()


class Spares:
    """Starts a spare whenever a kernel is ready and quiet, and gives it away at its restart."""

    def __init__(
        self,
        command: SpareCommand,
        env: Dict[str, str],
        log: OutputTail,
        output_file_max_bytes: int,
    ) -> None:
        self._command = command
        self._env = env
        self._changes: Dict[str, Optional[str]] = {}
        """The variables that have changed since the spare was started."""
        self._log = log
        self._output_file_max_bytes = output_file_max_bytes
        self._spare: Optional[Spare] = None
        self._preloaded: Sequence[str] = ()
        """What the latest spare imports besides the modules of the kernel."""
        self._timer: Optional[asyncio.TimerHandle] = None
        self._is_too_large = False

    @property
    def pids(self) -> FrozenSet[int]:
        """The process that is to survive the kernel's. Called by other threads."""
        spare = self._spare
        return frozenset() if spare is None or spare.exited.done() else frozenset({spare.child.pid})

    @property
    def is_ready(self) -> bool:
        """Whether a restart would take a spare."""
        spare = self._spare
        return spare is not None and spare.is_ready and not spare.exited.done()

    def schedule(
        self,
        preload: Sequence[str],
        reaper: Reaper,
        oom: OomCounter,
        is_quiet: Callable[[float], bool],
        changed: Callable[[], None],
    ) -> None:
        """Start a spare once the kernel is quiet; it is started once, even if it dies.

        It takes the place of one that imports other modules.

        Args:
            preload: modules to import besides those of the kernel.
            reaper: reaps it.
            oom: is told of a spare that was ended for want of memory.
            is_quiet: returns whether the kernel had nothing to do for some seconds.
            changed: called when `is_ready` has changed.
        """
        loop = asyncio.get_running_loop()
        latest = loop.time() + LONGEST_SECONDS
        self._cancel()

        def consider() -> None:
            if is_quiet(QUIET_SECONDS) or loop.time() >= latest:
                self._start(preload, reaper, oom, changed)
            else:
                self._timer = loop.call_later(LOOK_SECONDS, consider)

        is_due = self._spare is None or self._preloaded != preload
        if is_due and not self._is_too_large:
            self._timer = loop.call_later(QUIET_SECONDS, consider)

    async def take(self) -> Optional[Spare]:
        """Return the spare, which goes on from now; None if there is none that can."""
        self._cancel()
        spare, self._spare = self._spare, None
        changes, self._changes = self._changes, {}
        return spare if spare is not None and await spare.go(changes) else None

    def change_environment(self, changes: Mapping[str, Optional[str]]) -> None:
        """Set variables for the spare when it goes on, and for later ones; None: unset."""
        self._env = changed_environment(self._env, changes)
        self._changes.update(changes)

    def discard(self) -> None:
        """End the spare; another one may be started later."""
        spare, self._spare = self._spare, None
        self._changes = {}
        if spare is not None:
            spare.end()

    def end(self) -> None:
        """End the spare, and start none any more."""
        self._cancel()
        if self._spare is not None:
            self._spare.end()

    def _start(
        self,
        preload: Sequence[str],
        reaper: Reaper,
        oom: OomCounter,
        changed: Callable[[], None],
    ) -> None:
        if self._spare is not None:
            self.discard()
            changed()
        limit = self._output_file_max_bytes
        try:
            child, channel = spawn_ahead(
                self._command, preload, self._env, self._log, limit, waits=True
            )
        except (OSError, SpawnError) as exc:
            _log.warning("no spare for the next restart: %s", exc)
            return

        def on_ready(spare: Spare) -> None:
            self._measure(spare)
            changed()

        def on_exit(exited: "asyncio.Future[int]") -> None:
            if self._spare is spare:  # it has not become the kernel
                self._lose(spare, exited.result(), oom)
                changed()

        self._changes = {}
        self._preloaded = preload
        self._spare = spare = Spare(child, reaper.watch(child.pid), channel, on_ready)
        spare.exited.add_done_callback(on_exit)

    def _measure(self, spare: Spare) -> None:
        """Keep a spare that is ready only if it leaves the kernel enough memory."""
        taken, limit = own_bytes(spare.child.pid), memory_limit() or physical_bytes()
        self._is_too_large = taken > limit // MEMORY_FRACTION
        if self._is_too_large:
            spare.end()
            text = "no spare for restarts: it takes %d MiB of a memory of %d MiB"
            _log.info(text, taken >> 20, limit >> 20)

    def _lose(self, spare: Spare, code: int, oom: OomCounter) -> None:
        self._spare = None
        spare.end()
        if code == -signal.SIGKILL:
            oom.discount()
        _log.info("the spare for the next restart has ended with %d", code)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
