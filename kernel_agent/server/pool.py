"""A kernel's time in a pool: it is ready before any user has asked for it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from enum import Enum
from typing import Any, Callable, Dict, Mapping, Optional

from kernel_agent.kernel.lifecycle import Phase
from kernel_agent.kernel.supervisor import KernelSupervisor
from kernel_agent.launch.setup_code import setup_code
from kernel_agent.settings import SettingsError

MAX_VARIABLES = 4096
OPEN_SECONDS = 1.0
"""How long the gateway that launched the kernel may take to answer its report."""


class NotPooledError(Exception):
    """The kernel is in no pool: it never was, or was taken from it; the text says which."""


class Process(Enum):
    """Which process of the kernel is the user's."""

    RUNNING = "running"
    SPARE = "spare"
    """One that begins now, or the spare."""
    NEW = "new"
    """One that begins now: something is read then."""


class Takeover:
    """What changes with the user who takes a kernel from its pool.

    Attributes:
        username: whose kernel it is.
        env: variables to set; None: to unset.
        cwd: the working directory, "" to stay.
        process: which process is to have them: the one that runs, or a new one.
        ping_interval: seconds between WebSocket pings; None: as before.
    """

    def __init__(self, body: Mapping[str, Any]) -> None:
        """Read the body of `POST /v1/take`.

        Raises:
            SettingsError: a value has the wrong type.
        """
        self.username = _typed(body, "username", str, "")
        self.env: Dict[str, Optional[str]] = _typed(body, "env", dict, {})
        self.cwd = _typed(body, "cwd", str, "")
        try:
            self.process = Process(body.get("process", Process.RUNNING.value))
        except ValueError as exc:
            raise SettingsError("process is none of those that there are") from exc
        interval = body.get("ping_interval")
        if interval is not None and not _is_duration(interval):
            raise SettingsError("ping_interval is no number of seconds")
        self.ping_interval: Optional[float] = interval
        if len(self.env) > MAX_VARIABLES or not all(map(_is_variable, self.env.items())):
            raise SettingsError("env is no object of variables")


class Pool:
    """The pool that the kernel waits in, if any.

    Attributes:
        taken: what the user who took it changed; None: it was not taken.
    """

    def __init__(
        self, supervisor: KernelSupervisor, on_taken: Callable[[], None], *, is_pooled: bool
    ) -> None:
        self._supervisor = supervisor
        self._on_taken = on_taken
        self._is_pooled = is_pooled
        self._opened = asyncio.Event()
        self._is_over = asyncio.Event()
        self.taken: Optional[Takeover] = None

    @property
    def is_waiting(self) -> bool:
        """Whether the kernel is in a pool, and no user has taken it."""
        return self._is_pooled and self.taken is None

    def open(self) -> None:
        """Let users take the kernel: its launch has succeeded."""
        self._opened.set()

    async def wait(self, seconds: float) -> bool:
        """Wait until the kernel is taken; return False if it is not, in so many seconds."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._is_over.wait(), seconds)
        return self.taken is not None  # it may have been at the last moment

    async def take(self, takeover: Takeover) -> None:
        """Give the kernel to a user. What the user sends to the kernel comes after the set-up.

        This waits for the end of the launch, which must be near, and for a new process.

        Raises:
            NotPooledError: another gateway was faster, or the kernel cannot be taken.
            KernelDeadError: it was taken, and its new process did not become ready.
        """
        supervisor = self._supervisor
        if self.is_waiting:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._opened.wait(), OPEN_SECONDS)
        if not (self.is_waiting and self._opened.is_set()):
            raise NotPooledError("the kernel is in no pool")
        if supervisor.lifecycle.phase is not Phase.RUNNING:
            raise NotPooledError(f"the kernel is {supervisor.lifecycle.phase.value}")
        env, cwd = takeover.env, takeover.cwd
        if takeover.process is not Process.RUNNING:
            self._give(takeover)
            suits_spare = takeover.process is Process.SPARE
            await supervisor.begin_anew(env, cwd, suits_spare=suits_spare)
            return
        info = supervisor.kernel_info.get("language_info")
        language = info.get("name") if isinstance(info, dict) else None
        code = setup_code(str(language or ""), env, cwd)
        if code is None:
            raise NotPooledError("a running kernel of its language cannot change its environment")
        self._give(takeover)
        supervisor.set_up(code, env, cwd)

    def _give(self, takeover: Takeover) -> None:
        self.taken = takeover
        self._is_over.set()
        self._on_taken()


def _typed(body: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:  # noqa: ANN401  # as `kind`
    value = body.get(key, default)
    if not isinstance(value, kind):
        raise SettingsError(f"{key} has the wrong type")
    return value


def _is_duration(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


def _is_variable(item: "tuple[object, object]") -> bool:
    name, value = item
    is_text = value is None or (isinstance(value, str) and "\0" not in value)
    return isinstance(name, str) and bool(name) and "=" not in name and "\0" not in name and is_text
