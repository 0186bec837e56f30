"""The gateway's client of the launch server: runs launch scripts, and kills them."""

import asyncio
import contextlib
import itertools
import json
import logging
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from enterprise_gateway.errors import UnavailableError
from enterprise_gateway.services.processproxies.helper import HelperProcess, is_over

_LENGTH_BYTES = 4
_STOP_SECONDS = 15.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ScriptResult:
    """How a launch script ended."""

    succeeded: bool
    ending: str
    """Such as "exit code 1", "killed by SIGKILL", or "lost" if the launch server ended first."""
    output: str
    """The end of its output."""

    @property
    def was_cut_short(self) -> bool:
        """Whether it was killed, so that the engine may still carry out its requests."""
        return not self.ending.startswith("exit code")


class ScriptRun:
    """A launch script under way."""

    def __init__(self, server: "_Server", run_id: int) -> None:
        self._server = server
        self._run_id = run_id
        self.result: asyncio.Future[ScriptResult] = asyncio.get_running_loop().create_future()

    async def kill(self) -> None:
        """Kill the script and wait until it has ended; harmless if it has ended already."""
        if not self.result.done():
            self._server.send({"id": self._run_id, "kill": True})
            await asyncio.wait({self.result})


class ScriptRunner:
    """Keeps a launch server running."""

    def __init__(self) -> None:
        self._server: asyncio.Task[_Server] | None = None

    def start(self) -> None:
        """Begin to start the launch server ahead of the first launch."""
        if self._server is None or is_over(self._server):
            self._server = asyncio.get_running_loop().create_task(_Server.start())

    async def close(self) -> None:
        """Stop the launch server once the scripts under way have ended."""
        if self._server is not None:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await (await self._server).close()
            self._server = None

    async def run(self, argv: Sequence[str], env: Mapping[str, str], cwd: str) -> ScriptRun:
        """Start a launch script.

        Raises:
            UnavailableError: no process can be started on this machine now.
        """
        self.start()
        assert self._server is not None  # noqa: S101 - start() has just set it
        try:
            server = await asyncio.shield(self._server)
        except OSError as exc:
            raise UnavailableError(f"The launch server cannot be started: {exc.strerror}.") from exc
        return server.run(argv, env, cwd)


class _Server:
    def __init__(
        self,
        helper: HelperProcess,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._helper = helper
        self._reader = reader
        self._writer = writer
        self._run_ids = itertools.count()
        self._runs: dict[int, ScriptRun] = {}
        self._receiving = asyncio.get_running_loop().create_task(self._receive())

    @classmethod
    async def start(cls) -> "_Server":
        helper = await HelperProcess.start(
            "enterprise_gateway.services.processproxies.scripts.server", socket.SOCK_STREAM
        )
        try:
            reader, writer = await asyncio.open_unix_connection(sock=helper.socket)
        except BaseException:
            helper.socket.close()
            raise
        return cls(helper, reader, writer)

    @property
    def is_over(self) -> bool:
        return self._receiving.done()

    def run(self, argv: Sequence[str], env: Mapping[str, str], cwd: str) -> ScriptRun:
        run_id = next(self._run_ids)
        run = ScriptRun(self, run_id)
        self._runs[run_id] = run
        self.send({"id": run_id, "argv": list(argv), "env": dict(env), "cwd": cwd})
        return run

    def send(self, message: Mapping[str, object]) -> None:
        payload = json.dumps(message).encode()
        self._writer.write(len(payload).to_bytes(_LENGTH_BYTES, "big") + payload)

    async def close(self) -> None:
        self._writer.close()
        await self._helper.wait(_STOP_SECONDS)
        await self._receiving

    async def _receive(self) -> None:
        try:
            while True:
                length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES), "big")
                message = json.loads(await self._reader.readexactly(length))
                run = self._runs.pop(message["id"])
                status = message["status"]
                run.result.set_result(
                    ScriptResult(
                        succeeded=status == 0,
                        ending=describe_wait_status(status),
                        output=message["output"],
                    )
                )
        except (asyncio.IncompleteReadError, OSError):
            for run in self._runs.values():
                run.result.set_result(
                    ScriptResult(succeeded=False, ending="lost", output="the launch server ended")
                )
            if self._runs:
                _log.warning(
                    "The launch server ended while %d launch scripts were running", len(self._runs)
                )
            self._runs.clear()
        finally:
            self._writer.close()


def describe_wait_status(status: int) -> str:
    """Say how a process ended, from what `waitpid` returned."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
