"""Kernels as local processes, without Docker.

Each kernel has an agent in a process session of its own, which listens on a unix socket. A record
on disk identifies the process, so a gateway that is restarted finds it again. Deaths are noticed by
pidfd.
"""

import asyncio
import json
import logging
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from enterprise_gateway.errors import ConflictError, LaunchError, NotFoundError
from enterprise_gateway.services.processproxies.contract import (
    AgentEndpoint,
    LaunchRequest,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.launch.base import (
    LaunchTools,
    ReportingProcessProxy,
    check_report,
    launch_failure,
    launch_timeout,
)
from enterprise_gateway.services.processproxies.launch.kernelspec import (
    format_argv,
    resolve_port_range,
)
from enterprise_gateway.services.processproxies.local.agents import AgentSpawner
from enterprise_gateway.services.processproxies.local.fork_server import AgentProcess
from enterprise_gateway.services.processproxies.local.processes import (
    ENDED,
    ProcessWatch,
    kill_marked,
    reap,
)
from enterprise_gateway.services.processproxies.local.records import LocalRecord, LocalRecords
from enterprise_gateway.services.processproxies.resources import Usage
from enterprise_gateway.services.processproxies.responses.listener import ResponseEndpoint
from enterprise_gateway.services.processproxies.responses.report import Report
from enterprise_gateway.services.processproxies.steps import Step
from enterprise_gateway.services.processproxies.workloads.feed import WorkloadFeed
from enterprise_gateway.services.processproxies.workloads.names import (
    escape_username,
    workload_name,
)
from enterprise_gateway.settings import LiveSettings, Settings

_RESPONSE_IP = "127.0.0.1"
_ERROR_LOG_BYTES = 2048
"""What an error shows of the log of an agent that died."""
_LOG_FILE_BYTES = 1024 * 1024
_MARK = "EG_LOCAL_KERNEL"
"""The variable that all processes of a local kernel inherit from its agent.

As in a container, no process outlives the kernel. The value is unique to a launch, so no other
process is killed by mistake.
"""

_log = logging.getLogger(__name__)


class LocalProcessProxy(ReportingProcessProxy):
    """Launches kernels as local processes that survive the gateway."""

    keeps_pools = True

    def __init__(self, settings: LiveSettings, tools: LaunchTools) -> None:
        super().__init__(settings, tools)
        self._records = LocalRecords(
            settings.current.runtime_dir, settings.current.host.temp_folder
        )
        self._agents = AgentSpawner(_account_environment(settings.current))
        self._feed = WorkloadFeed()
        self._watched: dict[str, ProcessWatch] = {}
        self._ended: dict[str, str] = {}
        """The exit reasons of kernels whose files are being removed."""

    async def start(self) -> None:
        """Watch the kernels of an earlier gateway, and clean up after those that died."""
        await asyncio.to_thread(self._records.prepare)
        await asyncio.to_thread(self._records.remove_strays)
        for record in await asyncio.to_thread(self._records.read_all):
            self._clean_up_upon_death(record, self._watch_process(record))

    async def close(self) -> None:
        """Stop watching; kernels continue."""
        for kernel_id in list(self._watched):
            self._unwatch(kernel_id)
        await super().close()
        await self._agents.close()
        await asyncio.to_thread(self._records.close)

    def expect_launches(self) -> None:
        """See the base class."""
        self._agents.prepare()

    async def check(self) -> None:
        """Do nothing: local processes need no engine."""

    async def launch(self, request: LaunchRequest) -> Workload:
        """See the base class."""
        port_range = resolve_port_range(request.config, self.settings.current.kernels)
        endpoint = await self.tools.responses.open(_RESPONSE_IP)
        # Within this context no other call in this gateway launches this kernel.
        with self.tools.responses.expect(request.kernel_id, request.tokens) as report:
            await self._finish_earlier(request.kernel_id)
            request.steps.begin(Step.CREATE)
            spawning = self._tasks.begin(self._spawn(request, endpoint, port_range))
            try:
                async with asyncio.timeout(request.timeout):
                    record, agent = await asyncio.shield(spawning)
                    request.steps.begin(Step.BOOT)
                    death = self._watch_process(record, agent.exit)
                    await self._until_ready(request, report, death)
            except BaseException as exc:
                await asyncio.shield(
                    self._tasks.begin(self._clean_up_failed(request.kernel_id, spawning))
                )
                if isinstance(exc, TimeoutError):
                    raise launch_timeout(
                        request, "its process runs, but the kernel has not answered yet."
                    ) from exc
                raise
        self._clean_up_upon_death(record, death)
        _log.info("Kernel %s runs as local process %d", request.kernel_id, record.process.pid)
        workload = _workload(record, WorkloadState.RUNNING)
        self._feed.publish(workload)
        return workload

    async def assign(self, workload: Workload, username: str) -> Workload:
        """Write the user into the kernel's record."""
        return await self._tasks.run(self._assign(workload, username))

    async def _assign(self, workload: Workload, username: str) -> Workload:
        record = await asyncio.to_thread(self._records.read, workload.kernel_id)
        if record is None:
            raise NotFoundError(f"Kernel does not exist: {workload.kernel_id}")
        if not _workload(record, WorkloadState.RUNNING).is_pooled:
            raise ConflictError(f"Kernel {workload.kernel_id} is in no pool any more.")
        assigned = msgspec.structs.replace(
            record,
            name=workload_name(username, record.kernel_id),
            username=escape_username(username),
        )
        await asyncio.to_thread(self._records.write, assigned)
        if not record.process.is_running():  # its files may have been removed meanwhile
            await asyncio.to_thread(self._records.remove, record.kernel_id)
            raise NotFoundError(f"Kernel does not exist: {workload.kernel_id}")
        result = _workload(assigned, WorkloadState.RUNNING)
        self._feed.publish(result)
        return result

    async def _until_ready(
        self, request: LaunchRequest, report: asyncio.Future[Report], death: asyncio.Future[str]
    ) -> None:
        either: set[asyncio.Future[Any]] = {report, death}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if report.done():
            check_report(report.result(), request)
            return
        tail = await asyncio.to_thread(self._records.read_log, request.kernel_id, _ERROR_LOG_BYTES)
        raise launch_failure(request, f"its agent ended ({death.result()}).\n{tail}")

    async def observe(self, kernel_id: str) -> Workload | None:
        """See the base class."""
        record = await asyncio.to_thread(self._records.read, kernel_id)
        return await self._observe(record) if record is not None else None

    async def list(self) -> list[Workload]:
        """See the base class."""
        records = await asyncio.to_thread(self._records.read_all)
        observed = [await self._observe(record) for record in records]
        return [workload for workload in observed if workload is not None]

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
            await self._clean_up_once(record, "removed")

    async def _spawn(
        self, request: LaunchRequest, endpoint: ResponseEndpoint, port_range: str
    ) -> tuple[LocalRecord, AgentProcess]:
        """Start the agent, and record it."""
        mark = uuid.uuid4().hex
        log = await asyncio.to_thread(self._records.make_files, request.kernel_id)
        try:
            agent = await self._agents.spawn(
                _kernel_command(request, endpoint, port_range),
                self._environment(request, endpoint, port_range, mark),
                await asyncio.to_thread(_find_cwd, request, self.settings.current),
                log,
            )
        finally:
            os.close(log)
        record = LocalRecord(
            kernel_id=request.kernel_id,
            name=workload_name(request.username, request.kernel_id),
            username=escape_username(request.username),
            created=time.time(),
            socket_path=str(self._records.socket_path(request.kernel_id)),
            mark=mark,
            launch_id=request.launch_id,
            pool=request.pool,
            groups=request.resources.groups,
            process=agent.identity,
        )
        await asyncio.to_thread(self._records.write, record)
        return record, agent

    def _environment(
        self, request: LaunchRequest, endpoint: ResponseEndpoint, port_range: str, mark: str
    ) -> dict[str, str]:
        """Return the environment of the agent, which passes on most of it to the kernel."""
        agent_settings = {**request.agent_settings, "output_file_max_bytes": _LOG_FILE_BYTES}
        return {
            **_account_environment(self.settings.current),
            **request.env,
            # The folder is removed with the kernel, even if the agent is killed.
            "EG_AGENT_FOLDER": str(self._records.agent_folder(request.kernel_id)),
            "EG_AGENT_LISTEN": f"unix:{self._records.socket_path(request.kernel_id)}",
            "EG_AGENT_SETTINGS": json.dumps(agent_settings),
            "EG_AGENT_TOKEN": request.launch_token or request.agent_token,
            _MARK: mark,
            "KERNEL_ID": request.kernel_id,
            "KERNEL_USERNAME": request.username,
            "PORT_RANGE": port_range,
            "PUBLIC_KEY": endpoint.public_key,
            "RESPONSE_ADDRESS": endpoint.address,
        }

    async def _clean_up_failed(
        self, kernel_id: str, spawning: asyncio.Task[tuple[LocalRecord, AgentProcess]]
    ) -> None:
        """Remove everything that a failed launch created."""
        try:
            record, _ = await spawning
        except LaunchError:
            await asyncio.to_thread(self._records.remove, kernel_id)
        else:
            await self._clean_up_once(record, "the launch failed")

    async def _finish_earlier(self, kernel_id: str) -> None:
        """Clean up after an earlier process of a kernel, so that the next one keeps its files.

        Raises:
            ConflictError: that process runs.
        """
        record = await asyncio.to_thread(self._records.read, kernel_id)
        present = await self._observe(record) if record is not None else None
        if record is None or present is None:
            return
        if present.state is not WorkloadState.DEAD:
            raise ConflictError(f"Kernel {kernel_id} exists already.")
        await self._clean_up_once(record, present.exit_reason)

    async def _clean_up_once(self, record: LocalRecord, reason: str) -> None:
        """Clean up after a process, or wait for the clean-up that has begun."""
        await self._tasks.wait(
            self._tasks.begin_once(record.mark, lambda: self._clean_up(record, reason))
        )

    async def _clean_up(self, record: LocalRecord, reason: str) -> None:
        """Kill the processes, remove the files, publish the death."""
        watch = self._unwatch(record.kernel_id)
        self._ended[record.kernel_id] = reason
        try:
            await asyncio.to_thread(record.process.kill)
            reap(record.process.pid)
            await asyncio.to_thread(kill_marked, f"{_MARK}={record.mark}")
            await asyncio.to_thread(self._records.remove, record.kernel_id)
        finally:
            self._ended.pop(record.kernel_id, None)
        self._feed.publish(_workload(record, WorkloadState.DEAD, reason))
        if watch is not None:
            watch.end(reason)

    def _watch_process(
        self, record: LocalRecord, told: asyncio.Future[str] | None = None
    ) -> asyncio.Future[str]:
        """Return a future with the exit reason of the process."""
        watch = self._watched[record.kernel_id] = ProcessWatch(record.process, told)
        return watch.death

    async def _observe(self, record: LocalRecord) -> Workload | None:
        """Return a kernel as it is now; None if it ended and was removed since `record` was read.

        A watched process may have ended without the event loop knowing it yet.
        """
        kernel_id = record.kernel_id
        if record.process.is_running():
            return _workload(record, WorkloadState.RUNNING)
        if watch := self._watched.get(kernel_id):
            reason = watch.poll()
            if reason is None:
                return _workload(record, WorkloadState.RUNNING)
            return _workload(record, WorkloadState.DEAD, reason)
        if kernel_id in self._ended:
            return _workload(record, WorkloadState.DEAD, self._ended[kernel_id])
        stored = await asyncio.to_thread(self._records.read, kernel_id)
        if stored == record:
            return _workload(record, WorkloadState.DEAD, ENDED)
        return await self._observe(stored) if stored is not None else None

    def _unwatch(self, kernel_id: str) -> ProcessWatch | None:
        watch = self._watched.pop(kernel_id, None)
        if watch is not None:
            watch.stop()
        return watch

    def _clean_up_upon_death(self, record: LocalRecord, death: asyncio.Future[str]) -> None:
        def clean_up(ended: asyncio.Future[str]) -> None:
            watch = self._watched.get(record.kernel_id)
            if watch is None or watch.death is not ended:
                return  # it has been cleaned up
            _log.info("Local kernel %s ended: %s", record.kernel_id, ended.result())
            self._tasks.begin(self._clean_up_once(record, ended.result()))

        death.add_done_callback(clean_up)


def _kernel_command(
    request: LaunchRequest, endpoint: ResponseEndpoint, port_range: str
) -> list[str]:
    return format_argv(
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


def _find_cwd(request: LaunchRequest, settings: Settings) -> str:
    is_there = request.cwd and Path(request.cwd).is_dir()
    return request.cwd if is_there else str(settings.host.home)


def _account_environment(settings: Settings) -> dict[str, str]:
    return {"PATH": settings.host.executable_path, **settings.kernels.account_env}


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
        launch_id=record.launch_id,
        pool=record.pool,
        usage=Usage(groups=record.groups),
    )
