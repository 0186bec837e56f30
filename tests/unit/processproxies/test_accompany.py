"""A launch whose kernel has no agent: who is believed, and what is made of it."""

import asyncio
import contextlib
import ipaddress
import json
import ssl
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from harness.agent import eventually
from harness.fake_containers import FakeContainers
from harness.launcher_payloads import connection, payload

from enterprise_gateway.errors import LaunchError, LaunchTimeoutError
from enterprise_gateway.services.processproxies.agent_bundle import BundleMaker
from enterprise_gateway.services.processproxies.companion import Companion
from enterprise_gateway.services.processproxies.contract import LaunchRequest
from enterprise_gateway.services.processproxies.docker_network import KernelNetwork
from enterprise_gateway.services.processproxies.docker_swarm import DockerProcessProxy
from enterprise_gateway.services.processproxies.docker_watch import DockerWatch
from enterprise_gateway.services.processproxies.docker_workloads import AGENT_PORT
from enterprise_gateway.services.processproxies.engine_removal import LateRemovals
from enterprise_gateway.services.processproxies.reporting import LaunchTools
from enterprise_gateway.services.processproxies.responses import ResponseListener
from enterprise_gateway.services.processproxies.scripts import ScriptRunner
from enterprise_gateway.settings import LiveSettings, ResponseSettings, Settings

TOKEN = "5ec7e7" * 8
KERNEL_IP = "127.0.0.1"
COMPANION_IP = "127.77.0.2"
STRANGERS_IP = "127.77.0.9"


class Engine(FakeContainers):
    """Containers, of which companions report at once; `failure` is why none can be made."""

    def __init__(self) -> None:
        super().__init__()
        self.companions: list[Companion] = []
        self.failure: LaunchError | None = None

    async def create_companion(self, companion: Companion) -> None:
        """See the base class."""
        if self.failure is not None:
            raise self.failure
        self.companions.append(companion)
        self.put("companion", companion_of="kernel", ip=COMPANION_IP)
        environment = companion.environment
        report = {
            "version": 1,
            "kernel_id": environment["KERNEL_ID"],
            "token": environment["EG_AGENT_TOKEN"],
            "status": "ready",
        }
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        host, _, port = environment["RESPONSE_ADDRESS"].partition(":")
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        writer.write(json.dumps(report).encode() + b"\n")
        assert json.loads(await reader.readline()) == {"status": "ok"}
        writer.close()


class Proxy(DockerProcessProxy):
    """The Docker process proxy on such an engine, in a network that this machine is in."""

    def __init__(self, settings: LiveSettings, tools: LaunchTools, engine: Engine) -> None:
        super().__init__(settings, tools)
        self._containers = engine
        self._workloads = engine
        self._watch = DockerWatch(tools.engine, engine, lambda: "bridge")
        self._late_removals = LateRemovals(self._watch)

    async def _kernel_network(self, name: str) -> KernelNetwork:
        return KernelNetwork(name, (ipaddress.IPv4Network("127.0.0.0/8"),), "127.0.0.1")


class Rig:
    """A process proxy, its engine, and what a launcher sends."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.engine.kernel_id = str(uuid.uuid4())
        settings = Settings(response=ResponseSettings(port=0, port_retries=0))
        live = LiveSettings(settings)
        self.tools = LaunchTools(
            ResponseListener(live), ScriptRunner(), self.engine._engine, BundleMaker()
        )
        self.proxy = Proxy(live, self.tools, self.engine)

    def request(self, timeout: float = 20.0) -> LaunchRequest:
        """Return a request whose script does nothing: the test makes the container."""
        return LaunchRequest(
            kernel_id=self.engine.kernel_id,
            kernel_name="site",
            username="ann",
            argv=("true",),
            env={},
            resource_dir="",
            config={"image_name": "?"},  # no name of an image: nothing is lent
            agent_settings={},
            agent_token=TOKEN,
            timeout=timeout,
        )

    async def report(self, source: str, **changes: Any) -> None:
        """Send what a launcher sends, from an address."""
        endpoint = await self.tools.responses.open(KERNEL_IP)
        info = connection(kernel_id=self.engine.kernel_id, **changes)
        host, _, port = endpoint.address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port), local_addr=(source, 0))
        writer.write(payload(info, endpoint.public_key))
        writer.write_eof()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A rig; something listens where the companion should."""
    rig = Rig()
    rig.tools.responses.start()
    await rig.tools.responses.open(KERNEL_IP)
    await rig.proxy.start()

    def leave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(leave, COMPANION_IP, AGENT_PORT):
        yield rig
    await rig.proxy.close()
    await rig.tools.scripts.close()
    await rig.tools.responses.close()


async def begin(rig: Rig, **changes: Any) -> "asyncio.Task[Any]":
    """Begin a launch; return when its kernel is expected."""
    launch = asyncio.create_task(rig.proxy.launch(rig.request(**changes)))
    await eventually(lambda: rig.engine.kernel_id in rig.tools.responses._waiters)
    return launch


@pytest.mark.parametrize("is_seen_first", [True, False], ids=["container first", "report first"])
async def test_launchers_report_brings_the_companion(rig: Rig, *, is_seen_first: bool) -> None:
    """It is the workload's address; the kernel's is the engine's word, not the launcher's."""
    launch = await begin(rig)
    if is_seen_first:
        rig.engine.put("kernel", ip=KERNEL_IP)
    await rig.report(STRANGERS_IP, shell_port=6666)
    await rig.report(KERNEL_IP, ip="10.0.0.66")
    if not is_seen_first:
        rig.engine.put("kernel", ip=KERNEL_IP)
    workload = await launch
    assert workload.endpoint is not None
    assert workload.endpoint.host == COMPANION_IP
    (companion,) = rig.engine.companions
    attachment = json.loads(companion.environment["EG_AGENT_ATTACH"])
    assert (attachment["ip"], attachment["shell_port"]) == (KERNEL_IP, 40001)
    assert await rig.proxy.observe(rig.engine.kernel_id) == workload
    assert await rig.proxy.list() == [workload]
    await rig.proxy.remove(rig.engine.kernel_id)
    assert sorted(rig.engine.removed) == ["companion", "kernel"]


async def test_report_of_another_address_is_not_believed(rig: Rig) -> None:
    """The launch says what it waits for; nothing is left of it."""
    launch = await begin(rig, timeout=2.0)
    rig.engine.put("kernel", ip=KERNEL_IP)
    await rig.report(STRANGERS_IP)
    with pytest.raises(LaunchTimeoutError, match=STRANGERS_IP) as failure:
        await launch
    assert KERNEL_IP in str(failure.value)
    assert rig.engine.companions == []
    assert rig.engine.removed == ["kernel"]


async def test_companion_that_cannot_be_made_fails_the_launch(rig: Rig) -> None:
    """In the engine's words."""
    rig.engine.failure = LaunchError("it needs a companion, but there is no image")
    launch = await begin(rig)
    rig.engine.put("kernel", ip=KERNEL_IP)
    await rig.report(KERNEL_IP)
    with pytest.raises(LaunchError, match="did not start: it needs a companion, but"):
        await launch
    assert rig.engine.removed == ["kernel"]


async def test_end_of_a_companion_fails_the_launch(rig: Rig) -> None:
    """Before its kernel was ready nobody else would say so."""
    rig.engine.create_companion = AsyncCompanion(rig.engine)  # type: ignore[method-assign] # silent
    launch = await begin(rig)
    rig.engine.put("kernel", ip=KERNEL_IP)
    await rig.report(KERNEL_IP)
    with pytest.raises(LaunchError, match="its companion ended: exit code 2"):
        await launch
    assert sorted(rig.engine.removed) == ["companion", "kernel"]


class AsyncCompanion:
    """Makes a companion that ends at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def __call__(self, companion: Companion) -> None:
        """Have it, and have it end."""
        del companion
        self._engine.put("companion", companion_of="kernel", ip=COMPANION_IP)
        self._engine.kill("companion", is_kept=True, exit_code="2")
