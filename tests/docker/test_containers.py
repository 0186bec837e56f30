"""What a kernel's container is like."""

import asyncio
import contextlib
import dataclasses
import functools
import hashlib
import json
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from harness.proxies.engine_rigs import DockerRig
from harness.proxies.rigs import TOKEN, ask_agent, restart_by_agent
from harness.waiting import eventually

from enterprise_gateway.errors import ConflictError, LaunchError, NotFoundError
from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC
from enterprise_gateway.services.processproxies.processproxy import LaunchRequest, Workload
from enterprise_gateway.settings import DockerSettings

pytestmark = pytest.mark.docker


def with_env(request: LaunchRequest, **env: str) -> LaunchRequest:
    """Return the request with more in its environment."""
    return dataclasses.replace(request, env={**request.env, **env})


async def inspect(rig: DockerRig, proxy: BaseProcessProxyABC, request: LaunchRequest) -> Any:
    """Launch a kernel and return what the engine says of its container."""
    workload = await proxy.launch(request)
    await ask_agent(workload.endpoint, "/v1/state")
    containers = await asyncio.to_thread(rig.containers, request.kernel_id)
    assert len(containers) == 1
    return containers[0].attrs


async def test_container_is_named_labelled_and_owned_as_documented(
    rig: DockerRig, proxy: BaseProcessProxyABC
) -> None:
    """Operators and other gateways find it by these."""
    request = rig.request()
    container = await inspect(rig, proxy, request)
    name = f"{rig.username}-{request.kernel_id}"
    assert container["Name"] == f"/{name}"
    assert container["Config"]["Hostname"] == name
    assert container["Config"]["User"] == "1000:100"
    assert container["HostConfig"]["GroupAdd"] == ["100", "100"]
    assert container["HostConfig"]["AutoRemove"] is False
    labels = container["Config"]["Labels"]
    assert labels["enterprise-gateway.remove"] == "true"
    assert labels["app"] == "enterprise-gateway"
    assert labels["component"] == "kernel"
    assert labels["kernel_id"] == request.kernel_id
    listed = next(each for each in await proxy.list() if each.kernel_id == request.kernel_id)
    assert listed.image == container["Config"]["Image"]


async def test_token_is_in_the_environment_only(rig: DockerRig, proxy: BaseProcessProxyABC) -> None:
    """Neither labels nor argv nor name hold it, nor does the log."""
    request = rig.request()
    container = await inspect(rig, proxy, request)
    assert f"EG_AGENT_TOKEN={TOKEN}" in container["Config"].pop("Env")
    assert TOKEN not in json.dumps(container)
    assert TOKEN not in await proxy.read_log(request.kernel_id, 65536)


PEEK = """
for name in environ mem; do
    cat /proc/1/$name >/dev/null 2>&1 && echo "$name can be read"
    (: >>/proc/1/$name) 2>/dev/null && echo "$name can be opened for writing"
done
cd /tmp && exec python3 -m ipykernel_launcher -f "$0"
"""


async def test_agent_is_hidden_from_the_first_line_of_its_kernel(rig: DockerRig) -> None:
    """What runs before the kernel's own code cannot get the agent's token, and act as it."""
    kernel = ["sh", "-c", PEEK, "{connection_file}"]
    command = ["python3", "-I", "-m", "kernel_agent", "--", *kernel]
    proxy = await rig.open_proxy()
    for _ in range(3):
        request = rig.edited_request("command", repr(command))
        await inspect(rig, proxy, request)
        assert " can be " not in await proxy.read_log(request.kernel_id, 65536)


async def test_gateways_own_environment_stays_outside(
    rig: DockerRig, proxy: BaseProcessProxyABC
) -> None:
    """The container has the image's PATH, and no way to the engine."""
    container = await inspect(rig, proxy, with_env(rig.request(), X="1", PATH="/gateway/bin"))
    env = dict(entry.split("=", 1) for entry in container["Config"]["Env"])
    assert env["X"] == "1"
    assert env["PATH"].startswith("/opt/kernel/bin:")
    assert not {name for name in env if name.startswith("DOCKER_")}


async def test_arguments_may_be_spelled_the_new_way(
    rig: DockerRig, proxy: BaseProcessProxyABC
) -> None:
    """`--kernel-id` and `--RemoteProcessProxy.kernel-id` are the same."""
    argv = tuple(part.replace("--RemoteProcessProxy.", "--") for part in rig.spec["argv"])
    assert argv != tuple(rig.spec["argv"])
    await inspect(rig, proxy, rig.request(argv=argv))


@pytest.mark.parametrize("ids", [{}, {"KERNEL_UID": "12345", "KERNEL_GID": "54321"}])
async def test_kernel_restarts_from_a_spare(
    rig: DockerRig, proxy: BaseProcessProxyABC, ids: dict[str, str]
) -> None:
    """The image's own command has one, whatever user it runs as; the kernel's processes are two."""
    settings = {**rig.request().agent_settings, "restart_spare": True, "preload": ["pandas"]}
    workload = await proxy.launch(with_env(rig.request(agent_settings=settings), **ids))

    async def has_spare() -> bool:
        return bool((await ask_agent(workload.endpoint, "/v1/state"))["spare"])

    for _ in range(2):
        await eventually(has_spare)
        state = await restart_by_agent(workload.endpoint)
        assert set(state["start"]["steps"]) == {"end", "spare"}


async def test_kernel_may_run_as_any_user(rig: DockerRig, proxy: BaseProcessProxyABC) -> None:
    """An id that the image does not know has a home to write to all the same."""
    request = with_env(rig.request(), KERNEL_UID="12345", KERNEL_GID="54321")
    container = await inspect(rig, proxy, request)
    assert container["Config"]["User"] == "12345:54321"
    assert container["HostConfig"]["GroupAdd"] == ["54321", "100"]


@pytest.mark.parametrize(
    ("asked", "entered"),
    [
        ("/tmp", "/tmp"),
        ("/home/jovyan/no such", "/home/jovyan"),
        ("/tmp/{{x}}", "/home/jovyan"),
        ("/root", "/home/jovyan"),
        ("/etc/passwd", "/home/jovyan"),
        ("C:\\Users\\ann", "/home/jovyan"),
        ("~", "/home/jovyan"),
        (".cache", "/home/jovyan"),
    ],
)
async def test_working_directory_is_mirrored_where_there_is_one(
    rig: DockerRig, asked: str, entered: str
) -> None:
    """With EG_MIRROR_WORKING_DIRS; the engine would make a folder that is missing, for root."""
    docker = dataclasses.replace(rig.settings.docker, mirror_working_dirs=True)
    rig.settings = dataclasses.replace(rig.settings, docker=docker)
    proxy = await rig.open_proxy()
    kernel = ["sh", "-c", 'echo "in <$(pwd)>" >&2; exit 3']
    command = ["python3", "-I", "-m", "kernel_agent", "--", *kernel]
    request = with_env(rig.edited_request("command", repr(command)), KERNEL_WORKING_DIR=asked)
    with pytest.raises(LaunchError, match=f"in <{entered}>"):
        await proxy.launch(request)


async def test_proxy_of_the_kernel_is_not_the_scripts(rig: DockerRig) -> None:
    """No proxy listens there; the script asks the engine all the same, and the kernel has it."""
    forward = await asyncio.start_server(
        functools.partial(pass_on, rig.settings.docker.host), "127.0.0.1"
    )
    port = forward.sockets[0].getsockname()[1]
    settings = dataclasses.replace(rig.settings.docker, host=f"tcp://127.0.0.1:{port}")
    rig.settings = dataclasses.replace(rig.settings, docker=settings)
    proxies = {
        "HTTP_PROXY": "http://127.0.0.1:9",
        "no_proxy": "example.org",
        "REQUESTS_CA_BUNDLE": "/no/such.pem",
    }
    try:
        container = await inspect(rig, await rig.open_proxy(), with_env(rig.request(), **proxies))
        environment = dict(entry.split("=", 1) for entry in container["Config"]["Env"])
        assert proxies.items() <= environment.items()
        assert "EG_KERNEL_ENV" not in environment
        await rig.close()
    finally:
        forward.close()


async def pass_on(host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be the engine's socket by TCP."""
    path = host.removeprefix("unix://") or "/var/run/docker.sock"
    engine_reader, engine_writer = await asyncio.open_unix_connection(path)

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError), contextlib.closing(target):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()

    await asyncio.gather(copy(reader, engine_writer), copy(engine_reader, writer))


async def test_context_of_the_docker_command_does_not_count(rig: DockerRig, tmp_path: Path) -> None:
    """The gateway's engine is the script's, also where no DOCKER_HOST is set."""
    name = hashlib.sha256(b"other").hexdigest()
    folder = tmp_path / "contexts" / "meta" / name
    folder.mkdir(parents=True)
    endpoint = {"docker": {"Host": "tcp://127.0.0.1:9", "SkipTLSVerify": False}}
    (folder / "meta.json").write_text(json.dumps({"Name": "other", "Endpoints": endpoint}))
    (tmp_path / "config.json").write_text('{"currentContext": "other"}')
    settings = dataclasses.replace(
        rig.settings.docker, launch_env={"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "other"}
    )
    rig.settings = dataclasses.replace(rig.settings, docker=settings)
    await inspect(rig, await rig.open_proxy(), rig.request())


async def test_kernels_run_in_the_network_of_the_settings(rig: DockerRig) -> None:
    """The gateway finds its address in it by itself."""
    network = await asyncio.to_thread(rig.engine.networks.create, f"{rig.username}-net")
    try:
        docker = DockerSettings(host=rig.settings.docker.host, network=str(network.name))
        rig.settings = dataclasses.replace(rig.settings, docker=docker)
        proxy = await rig.open_proxy()
        container = await inspect(rig, proxy, rig.request())
        assert list(container["NetworkSettings"]["Networks"]) == [network.name]
        await rig.close()
    finally:
        await asyncio.to_thread(network.remove)


async def test_container_that_ended_can_be_kept(rig: DockerRig, proxy: BaseProcessProxyABC) -> None:
    """EG_REMOVE_CONTAINER=False leaves it to be looked into, until the id is used again."""
    request = with_env(rig.request(), EG_REMOVE_CONTAINER="False")
    workload = await proxy.launch(request)
    with pytest.raises(ConflictError):
        await proxy.launch(request)
    await asyncio.to_thread(rig.kill, request.kernel_id)
    dead = await proxy.observe(request.kernel_id)
    assert dead is not None
    assert (dead.state.value, dead.exit_reason) == ("dead", "exit code 137 (killed)")
    assert request.kernel_id in await proxy.read_log(request.kernel_id, 65536)
    again = await proxy.launch(request)
    assert again.created >= workload.created
    await proxy.remove(request.kernel_id)
    assert not await asyncio.to_thread(rig.traces, request.kernel_id)


@pytest.mark.parametrize("is_followed", [True, False])
async def test_container_that_has_ended_is_removed_by_a_gateway(
    rig: DockerRig, *, is_followed: bool
) -> None:
    """Also where none was running when it ended; the engine is not asked to."""
    rig.change_delays(ended_container_seconds=0.5)
    proxy = await rig.open_proxy()
    request = rig.request()
    await proxy.launch(request)
    if not is_followed:
        await rig.close_gateways()
    await asyncio.to_thread(rig.kill, request.kernel_id)
    if not is_followed:
        assert await asyncio.to_thread(rig.traces, request.kernel_id)
        await rig.open_proxy()
    await rig.until_gone(request.kernel_id)


async def test_container_that_no_gateway_will_start_is_removed(rig: DockerRig) -> None:
    """A gateway that was killed between create and start left it; the next one clears it away."""
    kernel_id = await create_only(rig)
    rig.change_delays(stale_container_seconds=0.0)
    await rig.open_proxy()
    await rig.until_gone(kernel_id)


@pytest.mark.parametrize("is_there_before", [True, False])
async def test_container_that_is_never_started_is_removed_in_time(
    rig: DockerRig, *, is_there_before: bool
) -> None:
    """Whether the gateway found it when it started or saw it being made: no event will come."""
    rig.change_delays(stale_container_seconds=3.0, container_check_seconds=0.5)
    if not is_there_before:
        await rig.open_proxy()
    began = time.monotonic()
    kernel_id = await create_only(rig)
    if is_there_before:
        await rig.open_proxy()
    await rig.until_gone(kernel_id)
    assert time.monotonic() - began > 3.0 - 1.0, "the engine tells whole seconds"


async def create_only(rig: DockerRig) -> str:
    """Make a kernel's container without starting it; returns the kernel's id."""
    kernel_id = str(uuid.uuid4())
    labels = {"app": "enterprise-gateway", "component": "kernel", "kernel_id": kernel_id}
    image = rig.spec["metadata"]["process_proxy"]["config"]["image_name"]
    name = f"{rig.username}-{kernel_id}"
    await asyncio.to_thread(lambda: rig.engine.containers.create(image, name=name, labels=labels))
    return kernel_id


async def test_id_asked_of_two_gateways_at_once_is_one_kernel(rig: DockerRig) -> None:
    """The one that comes too late is told so, and leaves the other's container alone."""
    proxies = [await rig.open_proxy() for _ in range(2)]
    request = rig.request()
    outcomes = await asyncio.gather(
        *(proxy.launch(request) for proxy in proxies), return_exceptions=True
    )
    assert [isinstance(outcome, ConflictError) for outcome in outcomes].count(True) == 1, outcomes
    workload = next(outcome for outcome in outcomes if isinstance(outcome, Workload))
    await ask_agent(workload.endpoint, "/v1/state")
    assert await asyncio.to_thread(rig.traces, request.kernel_id) == [workload.name]


async def test_creation_is_known_to_fractions_of_a_second(
    rig: DockerRig, proxy: BaseProcessProxyABC
) -> None:
    """So that of two kernels of the same second the later one gives way to a limit."""
    first, second = [await proxy.launch(rig.request()) for _ in range(2)]
    created = await proxy.created(first)
    assert created < await proxy.created(second)
    assert 0 < created - first.created < 1
    await proxy.remove(first.kernel_id)
    with pytest.raises(NotFoundError):
        await proxy.created(first)
