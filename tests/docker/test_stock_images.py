"""Kernels of images that know nothing of this project: the launch injects the agent into them."""

import asyncio
import base64
import dataclasses
import io
import os
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import APIError, NotFound
from harness.engines.engine_proxy import EngineProxy
from harness.engines.image_registry import image_registry
from harness.engines.stock_images import NO_PYTHON, empty_image, stock_image
from harness.proxies.engine_rigs import DockerRig
from harness.proxies.rigs import ask_agent
from harness.waiting import wait_in_thread

from devtools.images import GATEWAY
from enterprise_gateway.errors import LaunchError, LaunchTimeoutError
from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC, LaunchRequest
from enterprise_gateway.services.processproxies.engine import client as docker_engine
from enterprise_gateway.services.processproxies.injection.bundle import (
    FILE,
    FOLDER,
    LABELS,
    AgentBundle,
    build_bundle,
)
from enterprise_gateway.settings import DockerSettings

pytestmark = [pytest.mark.docker, pytest.mark.kernel]


@pytest.fixture(scope="module")
def bundle() -> AgentBundle:
    """The injected agent."""
    return build_bundle()


@pytest.fixture
def empty_engine(rig: DockerRig, bundle: AgentBundle) -> Iterator[docker.DockerClient]:
    """An engine on which no gateway has injected its agent yet."""
    remove_volume(rig.engine, bundle)
    yield rig.engine
    try:
        rig.engine.containers.get(bundle.name).remove(force=True)
    except NotFound:
        return
    pytest.fail(f"container {bundle.name} was left behind")


def remove_volume(client: docker.DockerClient, bundle: AgentBundle) -> None:
    """Remove the agent's volume as an operator does."""
    try:
        client.volumes.get(bundle.name).remove()
    except NotFound:
        pass
    except APIError as exc:
        pytest.fail(f"a container is left that uses it: {exc}")


def stock(rig: DockerRig, variant: str = "stock", **env: str) -> LaunchRequest:
    """Return a request for a kernel in an image without agent."""
    return in_image(rig, stock_image(rig.engine, variant), **env)


def in_image(rig: DockerRig, image: str, **env: str) -> LaunchRequest:
    """Return a request for a kernel in an image."""
    request = rig.request()
    return dataclasses.replace(request, env={**request.env, "KERNEL_IMAGE": image, **env})


async def launched(rig: DockerRig, proxy: BaseProcessProxyABC, request: LaunchRequest) -> Any:
    """Launch a kernel, and return what the engine says of its container."""
    workload = await proxy.launch(request)
    state = await ask_agent(workload.endpoint, "/v1/state")
    assert state["execution_state"] in ("idle", "starting")
    containers = await asyncio.to_thread(rig.containers, request.kernel_id)
    return containers[0].attrs


async def test_stock_image_becomes_a_kernel(
    rig: DockerRig, proxy: BaseProcessProxyABC, bundle: AgentBundle
) -> None:
    """Neither its entry point nor its command is run, and its health check does not count."""
    container = await launched(rig, proxy, stock(rig))
    mount = next(each for each in container["Mounts"] if each["Destination"] == FOLDER)
    assert (mount["Name"], mount["RW"]) == (bundle.name, False)
    assert container["Config"]["Entrypoint"] == ["/bin/sh", f"{FOLDER}/{FILE}"]
    assert container["Config"]["Cmd"] is None
    assert container["Config"]["User"] == "1000:100"
    assert "Health" not in container["State"]
    assert not [entry for entry in container["Config"]["Env"] if "EG_AGENT_VOLUME" in entry]


def showing_imports(request: LaunchRequest, **config: object) -> LaunchRequest:
    """Return a request whose kernel says whether it could import pyspark, and ends."""
    code = "import importlib.util as u; print('found', u.find_spec('pyspark') is not None)"
    argv = ["sh", "-c", f'python3 -c "{code}" >&2; exit 3']
    settings = {**request.agent_settings, "kernel_argv": argv}
    return dataclasses.replace(
        request, agent_settings=settings, config={**request.config, **config}
    )


@pytest.mark.parametrize(
    ("variant", "config", "found"),
    [
        ("docker-stacks", {}, True),
        ("older-docker-stacks", {}, True),
        ("entry", {}, True),
        ("entry", {"entrypoint": "image"}, True),
        ("entry", {"entrypoint": "none"}, False),
        ("docker-stacks", {"entrypoint": "none"}, False),
        ("application", {}, False),
    ],
)
async def test_what_the_entry_point_sets_up_is_there(
    rig: DockerRig,
    proxy: BaseProcessProxyABC,
    variant: str,
    config: dict[str, object],
    *,
    found: bool,
) -> None:
    """If it goes over into the command that it is given: hooks, variables, a conda environment."""
    request = await asyncio.to_thread(stock, rig, variant)
    with pytest.raises(LaunchError, match=f"found {found}"):
        await proxy.launch(showing_imports(request, **config))


async def test_agent_of_an_image_with_an_entry_point_is_process_1(
    rig: DockerRig, proxy: BaseProcessProxyABC
) -> None:
    """The entry point has become the agent, and the kernel runs."""
    container = await launched(rig, proxy, await asyncio.to_thread(stock, rig, "docker-stacks"))
    running = await asyncio.to_thread(rig.engine.containers.get, container["Id"])
    command = await asyncio.to_thread(running.exec_run, ["cat", "/proc/1/cmdline"])
    assert command.output.split(b"\0")[1:3] == [b"-Es", f"{FOLDER}/{FILE}".encode()]


async def test_entry_point_that_is_kept_starts_the_agent(
    rig: DockerRig, proxy: BaseProcessProxyABC
) -> None:
    """`entrypoint: image` in the kernelspec's config."""
    request = await asyncio.to_thread(stock, rig, "entry")
    config = {**request.config, "entrypoint": "image"}
    container = await launched(rig, proxy, dataclasses.replace(request, config=config))
    assert container["Config"]["Entrypoint"] == ["/usr/local/bin/entry.sh"]
    assert container["Config"]["Cmd"] == ["/bin/sh", f"{FOLDER}/{FILE}"]


async def test_image_with_an_agent_gets_none_injected(
    rig: DockerRig, proxy: BaseProcessProxyABC
) -> None:
    """Its label says that it has one."""
    container = await launched(rig, proxy, rig.request())
    assert container["Mounts"] == []
    assert container["Config"]["Entrypoint"] is None


@pytest.mark.parametrize(
    ("variant", "env"),
    [
        ("other-user", {}),
        ("stock", {"KERNEL_UID": "12345", "KERNEL_GID": "54321"}),
        ("other-user", {"KERNEL_UID": "12345"}),
    ],
)
async def test_kernel_may_run_as_any_user(
    rig: DockerRig, proxy: BaseProcessProxyABC, variant: str, env: dict[str, str]
) -> None:
    """Whichever user the image is for, and wherever its home is."""
    container = await launched(rig, proxy, stock(rig, variant, **env))
    assert (
        container["Config"]["User"]
        == f"{env.get('KERNEL_UID', '1000')}:{env.get('KERNEL_GID', '100')}"
    )


async def test_root_file_system_may_be_read_only(
    rig: DockerRig, proxy: BaseProcessProxyABC
) -> None:
    """A site has said so in its copy of the launch script."""
    request = rig.edited_request("read_only", "True")
    env = {**request.env, "KERNEL_IMAGE": stock_image(rig.engine)}
    container = await launched(rig, proxy, dataclasses.replace(request, env=env))
    assert container["HostConfig"]["ReadonlyRootfs"] is True


async def test_agent_behind_an_init_says_what_that_shows(
    rig: DockerRig, proxy: BaseProcessProxyABC
) -> None:
    """A site has switched Docker's init on in its copy of the launch script."""
    request = rig.edited_request("init", "True")
    env = {**request.env, "KERNEL_IMAGE": stock_image(rig.engine)}
    container = await launched(rig, proxy, dataclasses.replace(request, env=env))
    running = await asyncio.to_thread(rig.engine.containers.get, container["Id"])
    assert b"can read the agent's token in /proc/1/environ" in await asyncio.to_thread(running.logs)


async def test_mounts_and_volumes_of_a_site_stay(
    rig: DockerRig, proxy: BaseProcessProxyABC, tmp_path: Path
) -> None:
    """The agent is mounted beside them."""
    request = rig.edited_request(
        "mounts",
        f"[docker.types.Mount('/a', {str(tmp_path)!r}, type='bind')]; "
        f"settings['volumes'] = {{{str(tmp_path)!r}: {{'bind': '/b', 'mode': 'ro'}}}}",
    )
    env = {**request.env, "KERNEL_IMAGE": stock_image(rig.engine)}
    container = await launched(rig, proxy, dataclasses.replace(request, env=env))
    assert {each["Destination"] for each in container["Mounts"]} == {"/a", "/b", FOLDER}


async def test_command_of_a_site_is_run_instead(rig: DockerRig, proxy: BaseProcessProxyABC) -> None:
    """It knows what is in its image."""
    request = rig.edited_request(
        "command", "['-c', 'echo by the site >&2; exit 3']; settings['entrypoint'] = ['sh']"
    )
    env = {**request.env, "KERNEL_IMAGE": stock_image(rig.engine)}
    with pytest.raises(LaunchError, match=r"exit code 3\.\nby the site"):
        await proxy.launch(dataclasses.replace(request, env=env))


async def test_command_of_the_kernelspec_is_the_kernels(
    rig: DockerRig, proxy: BaseProcessProxyABC
) -> None:
    """`argv` in its config, which reaches the agent among its settings."""
    request = stock(rig)
    argv = ["sh", "-c", "echo no kernel today >&2; exit 3"]
    settings = {**request.agent_settings, "kernel_argv": argv}
    with pytest.raises(LaunchError, match="no kernel today"):
        await proxy.launch(dataclasses.replace(request, agent_settings=settings))


@pytest.mark.parametrize(
    ("variant", "words"),
    [("no-pyzmq", "No module named 'zmq'"), ("", "no python3")],
    ids=["no-pyzmq", "no-python"],
)
async def test_what_an_image_misses_is_told(
    rig: DockerRig, proxy: BaseProcessProxyABC, variant: str, words: str
) -> None:
    """At once, and nothing is left."""
    image = stock_image(rig.engine, variant) if variant else NO_PYTHON
    request = in_image(rig, image)
    with pytest.raises(LaunchError, match=words) as failure:
        await proxy.launch(request)
    assert not isinstance(failure.value, LaunchTimeoutError)
    await rig.until_gone(request.kernel_id)


async def test_image_without_a_shell_is_told(rig: DockerRig, proxy: BaseProcessProxyABC) -> None:
    """The engine's words would be about a file that the user did not ask for."""
    image = await asyncio.to_thread(empty_image, rig.engine)
    request = in_image(rig, image)
    with pytest.raises(LaunchError, match=r"has no /bin/sh, which starts the kernel agent"):
        await proxy.launch(request)
    await rig.until_gone(request.kernel_id)


async def test_unknown_image_of_a_private_registry_gets_the_agent_injected(
    rig: DockerRig, tmp_path: Path
) -> None:
    """It is pulled first, with what `docker login` left for the gateway's user.

    The image has no Python: that only the injected agent can say.
    """
    with image_registry(rig.engine, NO_PYTHON) as registry:
        (tmp_path / "config.json").write_text(registry.docker_config)
        settings = dataclasses.replace(
            rig.settings.docker, launch_env={"DOCKER_CONFIG": str(tmp_path)}
        )
        rig.settings = dataclasses.replace(rig.settings, docker=settings)
        proxy = await rig.open_proxy()
        try:
            request = in_image(rig, registry.image)
            await proxy.prepare(request)
            with pytest.raises(LaunchError, match="no python3"):
                await proxy.launch(request)
        finally:
            await asyncio.to_thread(rig.engine.images.remove, registry.image)


@pytest.mark.usefixtures("empty_engine")
async def test_agent_is_injected_through_the_engine_proxy(rig: DockerRig) -> None:
    """It lets through the volume, the container that this is filled by, and the launch itself.

    Here and not in tests/stack, whose tests may run beside those of this module: an engine has one
    such volume.
    """
    host = os.environ.get("DOCKER_HOST") or docker_engine.DEFAULT_HOST
    with closing(EngineProxy(Path(host.removeprefix("unix://")))) as engine_proxy:
        settings = DockerSettings(host=f"unix://{engine_proxy.socket}")
        rig.settings = dataclasses.replace(rig.settings, docker=settings)
        container = await launched(rig, await rig.open_proxy(), stock(rig))
        await rig.close_gateways()
        assert FOLDER in {each["Destination"] for each in container["Mounts"]}
        assert "does not allow" not in engine_proxy.read_log()


async def test_gateways_image_can_make_the_bundle(rig: DockerRig) -> None:
    """Without pip and what comes with it: the same modules as in a checkout."""
    code = (
        "import base64; from enterprise_gateway.services.processproxies.injection.bundle import *; "
        "print(base64.b64encode(build_bundle().content).decode())"
    )
    made = await asyncio.to_thread(
        lambda: rig.engine.containers.run(GATEWAY.tag, ["python", "-c", code], remove=True)
    )
    assert checksums(base64.b64decode(made)) == checksums(build_bundle().content)


def checksums(bundle: bytes) -> dict[str, int]:
    """Return the CRC of each module, by name."""
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        return {entry.filename: entry.CRC for entry in archive.infolist()}


async def test_volume_is_labelled_and_filled_once(
    rig: DockerRig, empty_engine: docker.DockerClient, bundle: AgentBundle
) -> None:
    """Operators find it by its labels; gateways that launch at once do not disturb each other."""
    proxies = [await rig.open_proxy() for _ in range(2)]
    requests = [stock(rig) for _ in range(6)]
    await asyncio.gather(
        *(proxies[index % 2].launch(request) for index, request in enumerate(requests))
    )
    volume = await asyncio.to_thread(empty_engine.volumes.get, bundle.name)
    assert volume.attrs["Labels"] == LABELS


async def test_volume_that_an_operator_removed_is_made_again(
    rig: DockerRig, empty_engine: docker.DockerClient, bundle: AgentBundle
) -> None:
    """By a gateway that has filled one before."""
    proxy, other = [await rig.open_proxy() for _ in range(2)]
    await launch_and_remove(rig, proxy)
    await asyncio.to_thread(remove_volume, empty_engine, bundle)
    await launch_and_remove(rig, proxy)
    # another gateway's is none that this one knows
    await asyncio.to_thread(remove_volume, empty_engine, bundle)
    await launch_and_remove(rig, other)
    await launch_and_remove(rig, proxy)


async def launch_and_remove(rig: DockerRig, proxy: BaseProcessProxyABC) -> None:
    """Have a kernel of a stock image, and leave nothing of it."""
    request = stock(rig)
    await launched(rig, proxy, request)
    await proxy.remove(request.kernel_id)
    await rig.until_gone(request.kernel_id)


async def test_volume_that_was_half_filled_is_filled(
    rig: DockerRig, empty_engine: docker.DockerClient, bundle: AgentBundle
) -> None:
    """By a gateway that was killed over it."""
    await asyncio.to_thread(leave_filler, empty_engine, bundle, half=True)
    await asyncio.to_thread(empty_engine.containers.get(bundle.name).remove)
    proxy = await rig.open_proxy()
    await launched(rig, proxy, stock(rig))


async def test_volume_with_something_else_is_filled_anew(
    rig: DockerRig, empty_engine: docker.DockerClient, bundle: AgentBundle
) -> None:
    """Also where it has the bundle's size; each gateway looks once."""
    other = b"#!/bin/sh\nexit 9\n".ljust(len(bundle.content))
    changed = dataclasses.replace(bundle, content=other)
    await asyncio.to_thread(leave_filler, empty_engine, changed, half=False)
    await asyncio.to_thread(empty_engine.containers.get(bundle.name).remove)
    await launched(rig, await rig.open_proxy(), stock(rig))


async def test_lock_of_a_gateway_that_was_killed_is_broken(
    rig: DockerRig,
    empty_engine: docker.DockerClient,
    bundle: AgentBundle,
) -> None:
    """After some seconds, whatever it has written until then."""
    rig.change_delays(volume_lock_seconds=1.0)
    await asyncio.to_thread(leave_filler, empty_engine, bundle, half=True)
    proxy = await rig.open_proxy()
    await launched(rig, proxy, stock(rig))


async def test_gateway_waits_for_another_that_fills_the_volume(
    rig: DockerRig,
    empty_engine: docker.DockerClient,
    bundle: AgentBundle,
) -> None:
    """And goes on as soon as that has done it, not only when it would take it for killed."""
    rig.change_delays(volume_lock_seconds=600.0)
    filler = await asyncio.to_thread(leave_filler, empty_engine, bundle, half=True)
    proxy = await rig.open_proxy()
    request = stock(rig)
    launch = asyncio.create_task(proxy.launch(request))
    await asyncio.sleep(1)
    assert not await asyncio.to_thread(rig.traces, request.kernel_id)
    await asyncio.to_thread(filler.remove)
    await launch


def leave_filler(client: docker.DockerClient, bundle: AgentBundle, *, half: bool) -> Any:
    """Do what a gateway does until it is killed."""
    mount = docker.types.Mount(FOLDER, bundle.name, no_copy=True, labels=LABELS)
    filler = client.containers.create(
        stock_image(client), name=bundle.name, labels=LABELS, mounts=[mount]
    )
    content = bundle.content[: len(bundle.content) // 2] if half else bundle.content
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo(FILE)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    filler.put_archive(FOLDER, archive.getvalue())
    return filler


async def test_file_in_use_is_not_written_again(
    rig: DockerRig, empty_engine: docker.DockerClient
) -> None:
    """A kernel's Python may be reading it when another gateway looks at it for the first time."""
    request = stock(rig)
    container = await launched(rig, await rig.open_proxy(), request)
    before = await asyncio.to_thread(stat_of_bundle, empty_engine, container["Id"])
    await launched(rig, await rig.open_proxy(), stock(rig))
    assert await asyncio.to_thread(stat_of_bundle, empty_engine, container["Id"]) == before


def stat_of_bundle(client: docker.DockerClient, container_id: str) -> bytes:
    """Return inode and time of change of the bundle, as a kernel sees it."""
    container = client.containers.get(container_id)
    return bytes(container.exec_run(["stat", "-c", "%i %Z %a", f"{FOLDER}/{FILE}"]).output)


async def test_cancelled_launch_leaves_no_lock(
    rig: DockerRig, empty_engine: docker.DockerClient, bundle: AgentBundle
) -> None:
    """The volume is filled to the end, for the next launch."""
    proxy = await rig.open_proxy()
    request = stock(rig)
    never_ready = {**request.agent_settings, "kernel_argv": ["sleep", "600"]}
    request = dataclasses.replace(request, agent_settings=never_ready)
    launch = asyncio.create_task(proxy.launch(request))
    await wait_in_thread(lambda: exists(empty_engine, bundle))
    launch.cancel()
    await asyncio.gather(launch, return_exceptions=True)
    assert launch.cancelled()
    await rig.close()
    assert not await asyncio.to_thread(
        empty_engine.containers.list, all=True, filters={"name": bundle.name}
    )


def exists(client: docker.DockerClient, bundle: AgentBundle) -> bool:
    """Whether the container is there that the volume is filled by, or was."""
    return bool(client.volumes.list(filters={"name": bundle.name}))
