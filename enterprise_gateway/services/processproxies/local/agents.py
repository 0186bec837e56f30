"""The processes of agents: forked from a fork server or, if that fails, executed."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence

from enterprise_gateway.errors import LaunchError
from enterprise_gateway.services.processproxies.local.fork_server import (
    AgentProcess,
    ForkServer,
    ForkServerError,
)
from enterprise_gateway.services.processproxies.local.processes import ProcessIdentity

_log = logging.getLogger(__name__)


class _DetachedProcess(subprocess.Popen[bytes]):
    """A process that is meant to outlive this one; the base class would warn about that."""

    def __del__(self) -> None:
        pass


class AgentSpawner:
    """Starts agents, each in a process session of its own."""

    def __init__(self, env: Mapping[str, str]) -> None:
        """Take the environment of the account, for what concerns Python and its libraries."""
        self._forks = ForkServer(env)

    def prepare(self) -> None:
        """Prepare for agents to come, in the background."""
        self._forks.start()

    async def close(self) -> None:
        """Release what has been prepared; agents continue."""
        await self._forks.close()

    async def spawn(
        self, kernel: Sequence[str], env: Mapping[str, str], cwd: str, log: int
    ) -> AgentProcess:
        """Start an agent.

        Args:
            kernel: the kernel's command.
            env: the agent's environment.
            cwd: its working directory.
            log: a file descriptor, its stdout and stderr.

        Raises:
            LaunchError: no process can be started, or not in that working directory.
        """
        arguments = ["--", *kernel]
        try:
            return await self._forks.fork(arguments, env, cwd, log)
        except ForkServerError as exc:
            _log.warning("An agent is started without the fork server: %s", exc)
            return await asyncio.to_thread(_execute, arguments, env, cwd, log)


def _execute(arguments: Sequence[str], env: Mapping[str, str], cwd: str, log: int) -> AgentProcess:
    try:
        # -P, -E: the agent must not import modules from the user's folder or the kernel's
        # PYTHONPATH.
        process = _DetachedProcess(
            [sys.executable, "-P", "-E", "-m", "kernel_agent", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
    except OSError as exc:
        raise LaunchError(f"The kernel agent could not be started: {exc.strerror}.") from exc
    # If it has died already, it is still a zombie child, so its pid is not reused.
    return AgentProcess(ProcessIdentity.of(process.pid) or ProcessIdentity.gone(process.pid))
