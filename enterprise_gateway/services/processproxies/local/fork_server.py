"""The gateway's client of the fork server, from which agents are forked.

docs/agent-interface.md, section 7, has the messages.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from enterprise_gateway.services.processproxies.helper import HelperProcess, is_over
from enterprise_gateway.services.processproxies.local.processes import ProcessIdentity, boot_id
from enterprise_gateway.services.processproxies.scripts.runner import describe_wait_status
from enterprise_gateway.services.tasks import BackgroundTasks

_NUMBER_BYTES = 8
_IDENTITY_BYTES = 16
_EXIT_BYTES = _NUMBER_BYTES + 4
_DEADLINE_SECONDS = 10.0
"""How long the fork server may take to start and to fork. It needs 0.1 s of CPU time for that."""
_STOP_SECONDS = 5.0
_SHOWN_BYTES = 512
"""Room for what /proc shows of an agent's environment: it cannot exceed the fork server's own."""

_log = logging.getLogger(__name__)


class ForkServerError(Exception):
    """No agent runs, nor will one: the launch can be made in another way."""


@dataclass(frozen=True, slots=True)
class AgentProcess:
    """The process of an agent.

    Attributes:
        exit: its exit reason, if it is no child of the gateway. Cancelled if it will not be known.
    """

    identity: ProcessIdentity
    exit: asyncio.Future[str] | None = None


class ForkServer:
    """Keeps a fork server running."""

    def __init__(self, env: Mapping[str, str]) -> None:
        """Take the environment of the fork server, for what concerns Python and its libraries."""
        self._env = env
        self._server: asyncio.Task[_Server] | None = None
        self._tasks = BackgroundTasks()

    def start(self) -> asyncio.Task["_Server"]:
        """Begin to start the fork server, unless it runs; also done by the first `fork`."""
        if self._server is None or is_over(self._server):
            self._server = self._tasks.begin(_Server.start(self._env, self._tasks))
        return self._server

    async def close(self) -> None:
        """End the fork server; agents continue."""
        if self._server is not None:
            with contextlib.suppress(OSError):
                (await self._server).end()
            self._server = None
        await self._tasks.finish()

    async def fork(
        self, arguments: Sequence[str], env: Mapping[str, str], cwd: str, log: int
    ) -> AgentProcess:
        """Fork an agent. If this is cancelled there is none.

        Args:
            arguments: of the command `kernel_agent`.
            env: its environment.
            cwd: its working directory.
            log: a file descriptor, its stdout and stderr.

        Raises:
            ForkServerError: it could not be forked, or not in time.
        """
        server = None
        command = {"argv": list(arguments), "env": dict(env), "cwd": cwd}
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                server = await asyncio.shield(self.start())
                return await server.fork(json.dumps(command).encode(), log)
        except TimeoutError as exc:
            if server is not None:
                server.kill()
            raise ForkServerError(f"no answer within {_DEADLINE_SECONDS:.0f} s") from exc
        except OSError as exc:
            raise ForkServerError(exc.strerror or str(exc)) from exc


class _Server:
    """One process."""

    def __init__(self, helper: HelperProcess, tasks: BackgroundTasks) -> None:
        self._helper = helper
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count()
        self._exits: dict[int, asyncio.Future[str]] = {}
        self.is_over = False
        helper.socket.setblocking(False)  # noqa: FBT003 - its only parameter
        self._loop.add_reader(helper.socket, self._receive)

    @classmethod
    async def start(cls, env: Mapping[str, str], tasks: BackgroundTasks) -> "_Server":
        env = {**env, "EG_AGENT_ROOM": "-" * _SHOWN_BYTES}
        # -E: the agent must not import modules from the kernel's PYTHONPATH.
        helper = await HelperProcess.start(
            "kernel_agent.fork_server", socket.SOCK_SEQPACKET, "-E", env=env
        )
        return cls(helper, tasks)

    async def fork(self, command: bytes, log: int) -> AgentProcess:
        number = next(self._numbers)
        ended = self._exits[number] = self._loop.create_future()
        ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        try:
            with ours:
                with theirs:
                    parts = [number.to_bytes(_NUMBER_BYTES, "big")]
                    socket.send_fds(self._helper.socket, parts, [theirs.fileno(), log])
                ours.setblocking(False)  # noqa: FBT003 - its only parameter
                identity = _read_identity(await self._loop.sock_recv(ours, _IDENTITY_BYTES))
                # The agent runs from here on: nothing may fail or be cancelled after this.
                _hand_over(command, ours)
        except BaseException:
            self._exits.pop(number, None)
            ended.cancel()
            raise
        return AgentProcess(identity, ended)

    def kill(self) -> None:
        if not self.is_over:
            _log.warning("The fork server does not answer; it is killed and will be replaced")
            self._helper.kill()
            self.end()

    def end(self) -> None:
        """Have it end, and no longer wait for exits."""
        if self.is_over:
            return
        self.is_over = True
        self._loop.remove_reader(self._helper.socket)
        self._helper.socket.close()
        self._tasks.begin(self._helper.wait(_STOP_SECONDS))
        for ended in self._exits.values():
            ended.cancel()
        self._exits.clear()

    def _receive(self) -> None:
        try:
            while len(message := self._helper.socket.recv(_EXIT_BYTES)) == _EXIT_BYTES:
                number = int.from_bytes(message[:_NUMBER_BYTES], "big")
                status = int.from_bytes(message[_NUMBER_BYTES:], "big")
                if ended := self._exits.pop(number, None):
                    ended.set_result(describe_wait_status(status))
        except BlockingIOError:
            return
        except OSError:
            pass
        _log.warning("The fork server ended; the next local kernel starts another one")
        self.end()


def _read_identity(answer: bytes) -> ProcessIdentity:
    """Return whose answer it is: pid and start time.

    Raises:
        ConnectionError: no process has answered.
    """
    if len(answer) != _IDENTITY_BYTES:
        raise ConnectionError("no agent was forked")
    pid, start_time = (int.from_bytes(part, "big") for part in (answer[:8], answer[8:]))
    return ProcessIdentity(pid, start_time, boot_id())


def _hand_over(command: bytes, agent: socket.socket) -> None:
    """Send what to run, in a file of memory that only the agent reads."""
    descriptor = os.memfd_create("kernel_agent")
    with os.fdopen(descriptor, "w+b") as file:
        file.write(command)
        file.flush()
        file.seek(0)
        socket.send_fds(agent, [b"\0"], [descriptor])
