"""Process proxies under test: how to ask for a kernel, and what is really there of it."""

import asyncio
import dataclasses
import json
import os
import signal
import sys
import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from enterprise_gateway.app.process import find_host
from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC
from enterprise_gateway.services.processproxies.processproxy import (
    AgentEndpoint,
    LaunchRequest,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.registry import (
    LOCAL_PROCESS_PROXY,
    ProxyRegistry,
)
from enterprise_gateway.settings import DockerSettings, LiveSettings, ResponseSettings, Settings
from harness.delays import change_delays
from harness.engines.leftovers import find_processes, kill_local_kernels
from harness.waiting import wait_in_thread

ROOT = Path(__file__).resolve().parents[3]
RUN_ID = f"egt{uuid.uuid4().hex[:8]}"
"""At the head of every user name, hence of every container's name, that this test run makes."""
TOKEN = "70ce7" * 8
EVENT_DEADLINE = 120.0
LAUNCH_TIMEOUT = 120.0


class ProxyRig(ABC):
    """One kind of process proxy with everything that a test does to it.

    It is made with a folder, followed by `arguments`.
    """

    class_name = ""
    """As in `metadata.process_proxy.class_name` of a kernelspec."""
    removal_deadline = EVENT_DEADLINE
    """Seconds within which nothing is left of a kernel that was removed or has ended."""
    needs_cleanup = False
    """Whether ended workloads stay until a gateway removes them."""
    steps: tuple[str, ...] = ("create",)
    """The steps of a start that the process proxy begins by itself."""
    arguments: tuple[str, ...] = ()
    """What it takes, besides a folder, to make the same rig in another process."""

    def __init__(self, folder: Path, docker_settings: DockerSettings) -> None:
        self.folder = folder
        self.username = f"{RUN_ID}{uuid.uuid4().hex[:6]}"
        # Not in the test's own folder: paths of sockets must be short.
        self._runtime = tempfile.TemporaryDirectory(prefix="egt")
        self.settings = Settings(
            docker=docker_settings,
            response=ResponseSettings(port=0, port_retries=0),
            host=find_host(),
            runtime_dir=Path(self._runtime.name) / "kernels",
        )
        self._lives: list[LiveSettings] = []
        self._registries: list[ProxyRegistry] = []

    @property
    def scratch(self) -> str:
        """A folder with a short path, removed with the rig."""
        return self._runtime.name

    async def open_proxy(self) -> BaseProcessProxyABC:
        """Return a process proxy as a gateway that has just been started has it."""
        live = LiveSettings(self.settings)
        self._lives.append(live)
        registry = ProxyRegistry(live)
        self._registries.append(registry)
        await registry.start()
        return registry.get(self.class_name)

    def change_delays(self, **seconds: float) -> None:
        """Change delays, also of the gateways that run; the names are those of `DelaySettings`."""
        delays = dataclasses.replace(self.settings.delays, **seconds)
        self.settings = dataclasses.replace(self.settings, delays=delays)
        for live in self._lives:
            change_delays(live, **seconds)

    async def close(self) -> None:
        """Close the gateways, and remove what they left."""
        await self.close_gateways()
        await asyncio.to_thread(self.remove_kernels)
        self._runtime.cleanup()

    async def close_gateways(self) -> None:
        """Close the gateways; their kernels go on."""
        self._lives.clear()
        while self._registries:
            await self._registries.pop().close()

    async def until_gone(self, kernel_id: str) -> None:
        """Wait until nothing is left of a kernel."""
        await wait_in_thread(lambda: not self.traces(kernel_id), self.removal_deadline)

    @abstractmethod
    def request(self, **changes: Any) -> LaunchRequest:
        """Return the request for a Python kernel, changed."""

    @abstractmethod
    def failing_request(self) -> LaunchRequest:
        """Return the request for a kernel that ends at once, saying `no kernel today`."""

    @abstractmethod
    def stubborn_request(self) -> LaunchRequest:
        """Return the request for a kernel that only SIGKILL ends, as its child."""

    @abstractmethod
    def traces(self, kernel_id: str) -> list[str]:
        """Return what is there of a kernel, asked of the engine or the machine itself."""

    @abstractmethod
    def kill(self, kernel_id: str) -> None:
        """Kill the kernel's workload behind the process proxy's back."""

    @abstractmethod
    def remove_kernels(self) -> None:
        """Remove what is left of the kernels of `username`, by force."""

    def make_request(self, **changes: Any) -> LaunchRequest:
        """Return a request that lacks only the fields that depend on the kind."""
        request = LaunchRequest(
            kernel_id=str(uuid.uuid4()),
            kernel_name="under_test",
            username=self.username,
            argv=(),
            env={"KERNEL_LANGUAGE": "python", "KERNEL_USERNAME": self.username},
            resource_dir=str(self.folder),
            config={},
            agent_settings={"kernel_name": "under_test", "language": "python"},
            agent_token=TOKEN,
            timeout=LAUNCH_TIMEOUT,
        )
        return dataclasses.replace(request, **changes)


class LocalRig(ProxyRig):
    """Local processes."""

    class_name = LOCAL_PROCESS_PROXY

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, DockerSettings(host=os.environ.get("DOCKER_HOST", "")))

    def request(self, **changes: Any) -> LaunchRequest:
        """See the base class."""
        argv = ("python", "-m", "ipykernel_launcher", "-f", "{connection_file}")
        return self.make_request(**{"argv": argv, **changes})

    def failing_request(self) -> LaunchRequest:
        """See the base class."""
        return self.request(argv=("python", "-c", "import sys; sys.exit('no kernel today')"))

    def stubborn_request(self) -> LaunchRequest:
        """See the base class."""
        return self.request(argv=stubborn_kernel(sys.executable))

    def traces(self, kernel_id: str) -> list[str]:
        """See the base class."""
        files = self.settings.runtime_dir.glob(f"*{kernel_id}*")
        return [*map(str, files), *map(str, find_processes(f"KERNEL_ID={kernel_id}"))]

    def kill(self, kernel_id: str) -> None:
        """See the base class."""
        with suppress(ProcessLookupError):
            os.kill(self.agent_pid(kernel_id), signal.SIGKILL)  # its kernel ends, too

    def agent_pid(self, kernel_id: str) -> int:
        """Return the process of a kernel's agent, which may have ended."""
        record = json.loads((self.settings.runtime_dir / f"{kernel_id}.kernel").read_text())
        return int(record["process"]["pid"])

    def remove_kernels(self) -> None:
        """See the base class."""
        kill_local_kernels(self.username)


def stubborn_kernel(python: str) -> tuple[str, ...]:
    """Return the command of a kernel that goes on when its agent has died."""
    kernel = f"{python} -m ipykernel_launcher -f {{connection_file}}"
    ignore = "trap '' INT TERM HUP; unset JPY_PARENT_PID"
    return ("sh", "-c", f"{ignore}; setsid sleep 1000 & {kernel}; sleep 1000")


async def ask_agent(endpoint: AgentEndpoint | None, path: str, token: str = TOKEN) -> Any:
    """Return the JSON answer of a kernel agent to a GET."""
    async with _answer(endpoint, "GET", path, token) as response:
        return await response.json()


async def restart_by_agent(endpoint: AgentEndpoint | None) -> Any:
    """Have a kernel agent restart its kernel; return its state after that."""
    async with _answer(endpoint, "POST", "/v1/restart", TOKEN) as response:
        return await response.json()


async def end_by_agent(endpoint: AgentEndpoint | None) -> None:
    """Ask a kernel agent to end its kernel and itself, as a client does."""
    async with _answer(endpoint, "POST", "/v1/shutdown", TOKEN):
        pass


@asynccontextmanager
async def _answer(
    endpoint: AgentEndpoint | None, method: str, path: str, token: str
) -> AsyncIterator[aiohttp.ClientResponse]:
    assert endpoint is not None
    connector: aiohttp.BaseConnector
    if endpoint.unix_path:
        connector, base = aiohttp.UnixConnector(endpoint.unix_path), "http://localhost"
    else:
        connector, base = aiohttp.TCPConnector(), f"http://{endpoint.host}:{endpoint.port}"
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession(connector=connector, headers=headers) as session,
        session.request(method, f"{base}{path}") as response,
    ):
        response.raise_for_status()
        yield response


class Watcher:
    """Follows a process proxy and remembers what it tells."""

    def __init__(self, proxy: BaseProcessProxyABC) -> None:
        self._latest: dict[str, Workload] = {}
        self._changed = asyncio.Condition()
        self._task = asyncio.create_task(self._follow(proxy))

    async def _follow(self, proxy: BaseProcessProxyABC) -> None:
        async for workload in proxy.watch():
            async with self._changed:
                self._latest[workload.kernel_id] = workload
                self._changed.notify_all()

    async def until(self, kernel_id: str, state: WorkloadState) -> Workload:
        """Return the kernel's workload once it is in a state; fail if that takes too long.

        A slow follower is told at once that a kernel was dead, and that it is gone.
        """
        states = (state, WorkloadState.GONE) if state is WorkloadState.DEAD else (state,)
        async with asyncio.timeout(EVENT_DEADLINE), self._changed:
            await self._changed.wait_for(
                lambda: kernel_id in self._latest and self._latest[kernel_id].state in states
            )
        return self._latest[kernel_id]

    async def close(self) -> None:
        """Stop following."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
