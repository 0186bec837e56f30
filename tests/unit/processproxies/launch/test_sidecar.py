"""Launches of kernels without an agent: whose report is accepted, and the sidecar's life."""

import asyncio
import contextlib
import json
import ssl
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from harness.agents.launcher_payloads import connection, payload
from harness.engines.fake_containers import FakeContainers
from harness.waiting import eventually

from enterprise_gateway.errors import ConflictError, LaunchError, LaunchTimeoutError
from enterprise_gateway.services.processproxies.contract import LaunchRequest
from enterprise_gateway.services.processproxies.docker_swarm import DockerProcessProxy
from enterprise_gateway.services.processproxies.engine.client import DockerEngine
from enterprise_gateway.services.processproxies.injection.bundle import BundleMaker
from enterprise_gateway.services.processproxies.launch.base import LaunchTools
from enterprise_gateway.services.processproxies.pulls.pulls import Pulls
from enterprise_gateway.services.processproxies.resources import KernelResources
from enterprise_gateway.services.processproxies.responses.listener import ResponseListener
from enterprise_gateway.services.processproxies.scripts.runner import ScriptRunner
from enterprise_gateway.services.processproxies.workloads.containers import (
    AGENT_PORT,
    entries_of_environment,
)
from enterprise_gateway.settings import LiveSettings, ResponseSettings, Settings
from enterprise_gateway.settings.values.amounts import Amounts

TOKEN = "5ec7e7" * 8
KERNEL_IP = "127.0.0.1"
SIDECAR_IP = "127.77.0.2"
STRANGERS_IP = "127.77.0.9"


class Containers(FakeContainers):
    """Containers, of which sidecars report at once.

    Attributes:
        sidecars: the bodies by which sidecars were created.
        failure: why none can be created.
        exit_code: with which a sidecar ends instead of reporting; "" if it does not.
        asked: set once the engine is asked for a sidecar.
        answers: set while the engine answers that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sidecars: list[Mapping[str, Any]] = []
        self.failure: Exception | None = None
        self.exit_code = ""
        self.asked = asyncio.Event()
        self.answers = asyncio.Event()
        self.answers.set()

    async def create(self, name: str, config: Mapping[str, Any]) -> str:
        """See the base class."""
        del name
        self.asked.set()
        await self.answers.wait()
        if self.failure is not None:
            raise self.failure
        self.sidecars.append(config)
        return "sidecar"

    async def start(self, container_id: str) -> None:
        """See the base class."""
        self.put(container_id, sidecar_of="kernel", ip=SIDECAR_IP)
        if self.exit_code:
            self.kill(container_id, is_kept=True, exit_code=self.exit_code)
            return
        environment = environment_of(self.sidecars[-1])
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


def environment_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment in the body of `POST /containers/create`."""
    return entries_of_environment(config["Env"])


class Engine(DockerEngine):
    """An engine whose network is this machine's loopback."""

    async def network(self, name: str) -> Mapping[str, Any]:
        """See the base class."""
        subnet = {"Subnet": "127.0.0.0/8", "Gateway": "127.0.0.1"}
        return {"Name": name, "IPAM": {"Config": [subnet]}}


class Rig:
    """A process proxy, its engine, and what a launcher sends."""

    def __init__(self) -> None:
        self.containers = Containers()
        self.containers.kernel_id = str(uuid.uuid4())
        settings = Settings(response=ResponseSettings(port=0, port_retries=0))
        live = LiveSettings(settings)
        engine = Engine(settings.docker)
        self.tools = LaunchTools(
            ResponseListener(live), ScriptRunner(), engine, BundleMaker(), Pulls(live, engine)
        )
        self.proxy = DockerProcessProxy(live, self.tools, containers=self.containers)

    def request(self, timeout: float = 60.0) -> LaunchRequest:
        """Return a request whose script does nothing: the test creates the container."""
        return LaunchRequest(
            kernel_id=self.containers.kernel_id,
            kernel_name="site",
            username="ann",
            argv=("true",),
            env={},
            resource_dir="",
            config={"image_name": "?"},  # no name of an image: nothing is injected
            agent_settings={},
            agent_token=TOKEN,
            timeout=timeout,
        )

    async def report(self, source: str, **changes: Any) -> None:
        """Send what a launcher sends, from an address."""
        endpoint = await self.tools.responses.open(KERNEL_IP)
        info = connection(kernel_id=self.containers.kernel_id, **changes)
        host, _, port = endpoint.address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port), local_addr=(source, 0))
        writer.write(payload(info, endpoint.public_key))
        writer.write_eof()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A rig; something listens where the sidecar should."""
    rig = Rig()
    rig.tools.responses.start()
    await rig.tools.responses.open(KERNEL_IP)
    await rig.proxy.start()

    def leave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(leave, SIDECAR_IP, AGENT_PORT):
        yield rig
    await rig.proxy.close()
    await rig.tools.scripts.close()
    await rig.tools.responses.close()


async def begin(rig: Rig, **changes: Any) -> "asyncio.Task[Any]":
    """Begin a launch; return when its kernel is expected."""
    launch = asyncio.create_task(rig.proxy.launch(rig.request(**changes)))
    await eventually(lambda: rig.containers.kernel_id in rig.tools.responses._waiters)
    return launch


@pytest.mark.parametrize("is_seen_first", [True, False], ids=["container first", "report first"])
async def test_launchers_report_brings_the_sidecar(rig: Rig, *, is_seen_first: bool) -> None:
    """The workload has the sidecar's address; the kernel's is taken from the engine."""
    launch = await begin(rig)
    if is_seen_first:
        rig.containers.put("kernel", ip=KERNEL_IP)
    await rig.report(STRANGERS_IP, shell_port=6666)
    await rig.report(KERNEL_IP, ip="10.0.0.66")
    if not is_seen_first:
        rig.containers.put("kernel", ip=KERNEL_IP)
    workload = await launch
    assert workload.endpoint is not None
    assert workload.endpoint.host == SIDECAR_IP
    (sidecar,) = rig.containers.sidecars
    attachment = json.loads(environment_of(sidecar)["EG_AGENT_ATTACH"])
    assert (attachment["ip"], attachment["shell_port"]) == (KERNEL_IP, 40001)
    assert await rig.proxy.observe(rig.containers.kernel_id) == workload
    assert await rig.proxy.list() == [workload]
    await rig.proxy.remove(rig.containers.kernel_id)
    assert sorted(rig.containers.removed) == ["kernel", "sidecar"]


async def test_report_of_another_address_is_not_believed(rig: Rig) -> None:
    """The error names both addresses; nothing is left of the launch."""
    launch = await begin(rig, timeout=10.0)
    rig.containers.put("kernel", ip=KERNEL_IP)
    await rig.report(STRANGERS_IP)
    with pytest.raises(LaunchTimeoutError, match=STRANGERS_IP) as failure:
        await launch
    assert KERNEL_IP in str(failure.value)
    assert rig.containers.sidecars == []
    assert rig.containers.removed == ["kernel"]


async def test_sidecar_that_cannot_be_made_fails_the_launch(rig: Rig) -> None:
    """The error includes the engine's message."""
    rig.containers.failure = ConflictError("The Docker engine says: no")
    launch = await begin(rig)
    rig.containers.put("kernel", ip=KERNEL_IP)
    await rig.report(KERNEL_IP)
    words = r"did not start: it needs a sidecar, which .* The Docker engine says: no"
    with pytest.raises(LaunchError, match=words):
        await launch
    assert rig.containers.removed[1:] == ["kernel"]


async def test_script_that_applies_no_limits_fails_the_launch(rig: Rig) -> None:
    """Where the operator has set one; nothing is left of the launch."""
    limits = KernelResources(Amounts(memory=2**30), is_binding=True)
    launch = asyncio.create_task(rig.proxy.launch(replace(rig.request(), resources=limits)))
    await eventually(lambda: rig.containers.kernel_id in rig.tools.responses._waiters)
    rig.containers.put("kernel", ip=KERNEL_IP)
    await rig.report(KERNEL_IP)
    with pytest.raises(LaunchError, match="its launch script does not apply EG_RESOURCES"):
        await launch
    assert sorted(rig.containers.removed) == ["kernel", "sidecar"]


async def test_end_of_a_sidecar_fails_the_launch(rig: Rig) -> None:
    """There is no other sign of it before the kernel is ready."""
    rig.containers.exit_code = "2"
    launch = await begin(rig)
    rig.containers.put("kernel", ip=KERNEL_IP)
    await rig.report(KERNEL_IP)
    with pytest.raises(LaunchError, match="its sidecar ended: exit code 2"):
        await launch
    assert sorted(rig.containers.removed) == ["kernel", "sidecar"]


async def test_sidecar_that_appears_after_the_launch_was_cancelled_is_removed(rig: Rig) -> None:
    """An engine carries out a request although its sender no longer waits for the answer."""
    rig.containers.answers.clear()
    launch = await begin(rig)
    rig.containers.put("kernel", ip=KERNEL_IP)
    await rig.report(KERNEL_IP)
    await rig.containers.asked.wait()
    launch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await launch
    assert rig.containers.removed == ["kernel"]
    rig.containers.put("sidecar", sidecar_of="kernel", ip=SIDECAR_IP)
    await eventually(lambda: rig.containers.removed == ["kernel", "sidecar"])
