"""Kernels as processes of this machine; needs no Docker.

Each kernel is a kernel agent in a session of its own, which serves on a unix socket. The gateway
may die and come back: the record on disk says which process it is. Deaths are seen by pidfd.
"""

import asyncio
import contextlib
import json
import logging
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enterprise_gateway.errors import ConflictError, LaunchError
from enterprise_gateway.services.processproxies.argv import format_argv
from enterprise_gateway.services.processproxies.contract import (
    AgentEndpoint,
    LaunchRequest,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.feed import WorkloadFeed
from enterprise_gateway.services.processproxies.local_records import LocalRecord, LocalRecords
from enterprise_gateway.services.processproxies.names import escape_username, workload_name
from enterprise_gateway.services.processproxies.port_range import resolve_port_range
from enterprise_gateway.services.processproxies.processes import (
    ProcessIdentity,
    describe_wait_status,
    kill_marked,
)
from enterprise_gateway.services.processproxies.reporting import (
    LaunchTools,
    ReportingProcessProxy,
    check_report,
    launch_timeout,
)
from enterprise_gateway.services.processproxies.reports import Report
from enterprise_gateway.services.processproxies.responses import ResponseEndpoint
from enterprise_gateway.settings import LiveSettings

_RESPONSE_IP = "127.0.0.1"
_ERROR_LOG_BYTES = 2048
_LOG_FILE_BYTES = 1024 * 1024
_MARK = "EG_LOCAL_KERNEL"
"""Variable that all processes of a local kernel inherit.

As with a container, none outlives the kernel. What the variable holds is unique to one launch, so
nobody else's process is ever taken for one of the kernel's.
"""

_log = logging.getLogger(__name__)


class _DetachedProcess(subprocess.Popen[bytes]):
    """A process that outlives this one by intention; the base class would warn of it."""

    def __del__(self) -> None:
        pass


@dataclass(slots=True)
class _Watch:
    """The event loop's eye on one process."""

    descriptor: int | None
    """A pidfd, which becomes readable when the process ends; None once that is known."""
    death: asyncio.Future[str]

    def stop(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.descriptor is not None:
            loop.remove_reader(self.descriptor)
            os.close(self.descriptor)
            self.descriptor = None


class LocalProcessProxy(ReportingProcessProxy):
    """Launches kernels as local processes that survive the gateway."""

    def __init__(self, settings: LiveSettings, tools: LaunchTools) -> None:
        super().__init__(settings, tools)
        self._records = LocalRecords(settings.current.runtime_dir)
        self._feed = WorkloadFeed()
        self._watched: dict[str, _Watch] = {}

    async def start(self) -> None:
        """Take up the kernels of an earlier gateway process, and clean up after those that died."""
        await asyncio.to_thread(self._records.prepare)
        await asyncio.to_thread(self._records.remove_strays)
        for record in await asyncio.to_thread(self._records.read_all):
            self._bury_upon_death(record, self._watch_process(record))

    async def close(self) -> None:
        """Stop watching; the kernels go on."""
        for kernel_id in list(self._watched):
            self._unwatch(kernel_id)
        await super().close()
        await asyncio.to_thread(self._records.close)

    async def check(self) -> None:
        """Local processes are always to be had."""

    async def launch(self, request: LaunchRequest) -> Workload:
        """See the base class."""
        port_range = resolve_port_range(request.config, self.settings.current.kernels)
        endpoint = await self.tools.responses.open(_RESPONSE_IP)
        # From here on nobody else in this gateway launches this kernel.
        with self.tools.responses.expect(request.kernel_id, request.agent_token) as report:
            present = await self.observe(request.kernel_id)
            if present is not None and present.state is not WorkloadState.DEAD:
                raise ConflictError(f"Kernel {request.kernel_id} exists already.")
            spawning = self._begin(asyncio.to_thread(self._spawn, request, endpoint, port_range))
            try:
                async with asyncio.timeout(request.timeout):
                    record = await asyncio.shield(spawning)
                    death = self._watch_process(record)
                    await self._until_ready(request, report, death)
            except BaseException as exc:
                await asyncio.shield(self._begin(self._discard(request.kernel_id, spawning)))
                if isinstance(exc, TimeoutError):
                    raise launch_timeout(
                        request, "its process runs, but the kernel has not answered yet."
                    ) from exc
                raise
        self._bury_upon_death(record, death)
        _log.info("Kernel %s runs as local process %d", request.kernel_id, record.process.pid)
        workload = _workload(record, WorkloadState.RUNNING)
        self._feed.publish(workload)
        return workload

    async def _until_ready(
        self, request: LaunchRequest, report: asyncio.Future[Report], death: asyncio.Future[str]
    ) -> None:
        either: set[asyncio.Future[Any]] = {report, death}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if report.done():
            check_report(report.result(), request)
            return
        tail = await asyncio.to_thread(self._records.read_log, request.kernel_id, _ERROR_LOG_BYTES)
        raise LaunchError(
            f"Kernel {request.kernel_id} ({request.kernel_name}) did not start: "
            f"its agent ended ({death.result()}).\n{tail}".rstrip()
        )

    async def observe(self, kernel_id: str) -> Workload | None:
        """See the base class."""
        record = await asyncio.to_thread(self._records.read, kernel_id)
        return _observed(record) if record is not None else None

    async def list(self) -> list[Workload]:
        """See the base class."""
        return [_observed(record) for record in await asyncio.to_thread(self._records.read_all)]

    async def watch(self) -> AsyncIterator[Workload]:
        """See the base class."""
        with self._feed.follow() as changes:
            for workload in await self.list():
                yield workload
            async for workload in changes:
                yield workload

    async def read_log(self, kernel_id: str, max_bytes: int) -> str:
        """See the base class."""
        return await asyncio.to_thread(self._records.read_log, kernel_id, max_bytes)

    async def remove(self, kernel_id: str) -> None:
        """See the base class."""
        record = await asyncio.to_thread(self._records.read, kernel_id)
        if record is not None:
            await asyncio.shield(self._begin(self._bury(record, "removed")))

    def _spawn(
        self, request: LaunchRequest, endpoint: ResponseEndpoint, port_range: str
    ) -> LocalRecord:
        socket_path = self._records.socket_path(request.kernel_id)
        argv = format_argv(
            request.argv,
            {
                "kernel_id": request.kernel_id,
                "port_range": port_range,
                "prefix": sys.prefix,
                "public_key": endpoint.public_key,
                "resource_dir": request.resource_dir,
                "response_address": endpoint.address,
            },
        )
        mark = uuid.uuid4().hex
        agent_settings = {**request.agent_settings, "output_file_max_bytes": _LOG_FILE_BYTES}
        env = {
            "PATH": os.pathsep.join(os.get_exec_path()),
            **request.env,
            # Its end takes the folder along, even if nobody lets the agent clean up.
            "EG_AGENT_FOLDER": str(self._records.make_agent_folder(request.kernel_id)),
            "EG_AGENT_LISTEN": f"unix:{socket_path}",
            "EG_AGENT_SETTINGS": json.dumps(agent_settings),
            "EG_AGENT_TOKEN": request.agent_token,
            _MARK: mark,
            "KERNEL_ID": request.kernel_id,
            "KERNEL_USERNAME": request.username,
            "PORT_RANGE": port_range,
            "PUBLIC_KEY": endpoint.public_key,
            "RESPONSE_ADDRESS": endpoint.address,
        }
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        log = os.open(self._records.log_path(request.kernel_id), flags, 0o600)
        try:
            # -P: a file of the user's folder must not pass for a module of the agent's.
            process = _DetachedProcess(
                [sys.executable, "-P", "-m", "kernel_agent", "--", *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                cwd=request.cwd if request.cwd and Path(request.cwd).is_dir() else Path.home(),
                start_new_session=True,
            )
        except OSError as exc:
            raise LaunchError(f"The kernel agent could not be started: {exc.strerror}.") from exc
        finally:
            os.close(log)
        record = LocalRecord(
            kernel_id=request.kernel_id,
            name=workload_name(request.username, request.kernel_id),
            username=escape_username(request.username),
            created=time.time(),
            socket_path=str(socket_path),
            mark=mark,
            # One that has died already is still a zombie of ours: its number cannot be anybody
            # else's.
            process=ProcessIdentity.of(process.pid) or ProcessIdentity.gone(process.pid),
        )
        self._records.write(record)
        return record

    async def _discard(self, kernel_id: str, spawning: asyncio.Task[LocalRecord]) -> None:
        """Leave nothing of a launch that failed, wherever it failed."""
        try:
            record = await spawning
        except LaunchError:
            await asyncio.to_thread(self._records.remove, kernel_id)
        else:
            await self._bury(record, "the launch failed")

    async def _bury(self, record: LocalRecord, reason: str) -> None:
        """Kill what runs, remove what is stored, tell who follows. Twice is fine."""
        watch = self._unwatch(record.kernel_id)
        await asyncio.to_thread(record.process.kill)
        _reap(record.process.pid)
        await asyncio.to_thread(kill_marked, f"{_MARK}={record.mark}")
        await asyncio.to_thread(self._records.remove, record.kernel_id)
        self._feed.publish(_workload(record, WorkloadState.DEAD, reason))
        if watch is not None and not watch.death.done():
            watch.death.set_result(reason)

    def _watch_process(self, record: LocalRecord) -> asyncio.Future[str]:
        """Return a future that says how the process ended once it has."""
        loop = asyncio.get_running_loop()
        watch = _Watch(record.process.open(), loop.create_future())
        self._watched[record.kernel_id] = watch
        if watch.descriptor is None:
            watch.death.set_result(_reap(record.process.pid))
            return watch.death

        def on_death() -> None:
            watch.stop(loop)
            watch.death.set_result(_reap(record.process.pid))

        loop.add_reader(watch.descriptor, on_death)
        return watch.death

    def _unwatch(self, kernel_id: str) -> "_Watch | None":
        watch = self._watched.pop(kernel_id, None)
        if watch is not None:
            watch.stop(asyncio.get_running_loop())
        return watch

    def _bury_upon_death(self, record: LocalRecord, death: asyncio.Future[str]) -> None:
        def bury(ended: asyncio.Future[str]) -> None:
            watch = self._watched.get(record.kernel_id)
            if watch is None or watch.death is not ended:
                return  # whoever took it out of the books has buried it
            _log.info("Local kernel %s ended: %s", record.kernel_id, ended.result())
            self._begin(self._bury(record, ended.result()))

        death.add_done_callback(bury)


def _reap(pid: int) -> str:
    """Take a dead child off the process table; "the process ended" if it was no child of ours."""
    with contextlib.suppress(ChildProcessError):
        reaped, status = os.waitpid(pid, os.WNOHANG)
        if reaped:
            return describe_wait_status(status)
    return "the process ended"


def _observed(record: LocalRecord) -> Workload:
    if record.process.is_running():
        return _workload(record, WorkloadState.RUNNING)
    return _workload(record, WorkloadState.DEAD, "the process ended")


def _workload(record: LocalRecord, state: WorkloadState, exit_reason: str = "") -> Workload:
    return Workload(
        kernel_id=record.kernel_id,
        name=record.name,
        username=record.username,
        state=state,
        created=record.created,
        endpoint=AgentEndpoint(unix_path=record.socket_path)
        if state is WorkloadState.RUNNING
        else None,
        exit_reason=exit_reason,
    )
