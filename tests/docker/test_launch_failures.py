"""Failed launches in containers: the error says why, at once, and nothing is left."""

import asyncio
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.agents.relay import Relay
from harness.proxies.bad_requests import (
    MEMORY_HOG,
    NO_SUCH_IMAGE,
    check_failure,
    early_exit,
    gpus_where_there_are_none,
    launch_failures,
    missing_image,
    with_env,
)
from harness.proxies.engine_rigs import DockerRig
from harness.proxies.rigs import Watcher
from harness.waiting import wait_in_thread

from enterprise_gateway.errors import (
    ConfigurationError,
    ForbiddenError,
    GatewayError,
    InvalidRequestError,
    LaunchError,
    LaunchTimeoutError,
    UnavailableError,
)
from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC
from enterprise_gateway.services.processproxies.processproxy import LaunchRequest, WorkloadState
from enterprise_gateway.services.processproxies.resources import KernelResources
from enterprise_gateway.settings import DockerSettings
from enterprise_gateway.settings.values.amounts import Amounts

pytestmark = pytest.mark.docker


def missing_image_of_ours(rig: DockerRig) -> LaunchRequest:
    """Name an image that a checkout builds, in a version that does not exist."""
    return with_env(rig, KERNEL_IMAGE="localhost/enterprise-gateway/kernel-r:no-such-version")


def malformed_image_of_the_kernelspec(rig: DockerRig) -> LaunchRequest:
    """Name an invalid image in the kernelspec, whose launch script refuses it."""
    return rig.request(config={"image_name": "--privileged image"})


def silent_log(rig: DockerRig) -> LaunchRequest:
    """Use a log driver that keeps nothing."""
    command = "['sh', '-c', 'echo one; exit 9']; settings['log_config'] = {'type': 'none'}"
    return rig.edited_request("command", command)


def image_without_agent(rig: DockerRig) -> LaunchRequest:
    """Name an image without a kernel."""
    return with_env(rig, KERNEL_IMAGE="debian:bookworm-slim")


def too_little_memory(rig: DockerRig) -> LaunchRequest:
    """Give the container less memory than a Python needs."""
    return rig.edited_request("command", f"{MEMORY_HOG}; settings['mem_limit'] = '24m'")


def beyond_its_memory(rig: DockerRig) -> LaunchRequest:
    """Give the container that little by a limit that the gateway knows."""
    resources = KernelResources(Amounts(memory=24 << 20))
    return rig.edited_request("command", MEMORY_HOG, resources=resources)


def invalid_setting(rig: DockerRig) -> LaunchRequest:
    """Ask for a setting that the engine refuses."""
    return rig.edited_request("cpuset_cpus", "'4000'")


def missing_script(rig: DockerRig) -> LaunchRequest:
    """Name a launch script that does not exist."""
    return rig.request(argv=("python", "/no/such/launch_docker.py"))


def missing_arguments(rig: DockerRig) -> LaunchRequest:
    """Call the launch script without arguments."""
    return rig.request(argv=tuple(rig.spec["argv"][:2]))


@launch_failures(
    (missing_image, rf"{NO_SUCH_IMAGE} is not on this engine and cannot be pulled: .*1.*Build"),
    (
        missing_image_of_ours,
        r"is not pulled\. Build it \(in a checkout: scripts/images kernel-r\)",
    ),
    (malformed_image_of_the_kernelspec, r"KERNEL_IMAGE is not an image name"),
    (silent_log, r"exit code 9\.\nIts output cannot be read\. .*does not support reading"),
    (image_without_agent, r"exit code 1\.\n.*no python3"),
    (too_little_memory, r"exit code 137 \(out of memory\)\. Ask for more \(KERNEL_MEMORY\)"),
    (beyond_its_memory, r"exit code 137 \(out of memory: the limit is 24 MiB\)\. Ask for more"),
    (invalid_setting, r"refused to start .*CPU"),
    (
        gpus_where_there_are_none,
        r"KERNEL_GPUS=2\), but the Docker engine has none.*KERNEL_GPUS=0",
    ),
    (missing_script, r"No such file or directory: '/no/such/launch_docker\.py'"),
    (missing_arguments, r"--kernel-id is required"),
)
async def test_cause_is_told_and_nothing_is_left(
    rig: DockerRig,
    proxy: BaseProcessProxyABC,
    make_request: Callable[[DockerRig], LaunchRequest],
    words: str,
) -> None:
    """The error names the kernel, and the cause in the words of the engine, image or script."""
    await check_failure(rig, proxy, make_request(rig), words)


@pytest.mark.parametrize(
    ("env", "kind", "words"),
    [
        ({"DOCKER_NETWORK": "no-such-network"}, ConfigurationError, "docker network create"),
        ({"DOCKER_NETWORK": "host"}, ConfigurationError, "EG_DOCKER_NETWORK"),
        ({"DOCKER_MODE": "swarm"}, ConfigurationError, "class_name is that of mode 'docker'"),
        ({"KERNEL_UID": "0"}, ForbiddenError, "EG_PROHIBITED_UIDS"),
        ({"KERNEL_IMAGE": "--privileged"}, InvalidRequestError, "is not an image name"),
        ({"KERNEL_IMAGE": "a@sha256:zz"}, InvalidRequestError, "is not an image name"),
    ],
)
async def test_impossible_request_makes_nothing(
    rig: DockerRig,
    proxy: BaseProcessProxyABC,
    env: dict[str, str],
    kind: type[GatewayError],
    words: str,
) -> None:
    """A request that is known to fail starts nothing."""
    request = with_env(rig, **env)
    with pytest.raises(kind, match=words):
        await proxy.launch(request)
    assert not rig.traces(request.kernel_id)


async def test_container_without_a_log_holds_up_no_other(rig: DockerRig, relay: Relay) -> None:
    """It is not attached to, upon which the engine would create no container for 15 s."""
    rig.settings = dataclasses.replace(rig.settings, docker=DockerSettings(host=relay.host))
    proxy = await rig.open_proxy()
    with pytest.raises(LaunchError, match="Its output cannot be read"):
        await proxy.launch(silent_log(rig))
    assert b"/attach?" not in relay.requests
    with pytest.raises(LaunchError, match="exit code 9"):
        await proxy.launch(early_exit(rig))
    assert b"/attach?" in relay.requests


@pytest.mark.parametrize("helpers", ["credsStore", "credHelpers"])
async def test_credential_helper_that_fails_is_named(
    rig: DockerRig, tmp_path: Path, helpers: str
) -> None:
    """The error names the configuration file; an image that the engine has starts."""
    stated: object = "no-such"
    if helpers == "credHelpers":
        stated = {"localhost:1": "no-such"}
    (tmp_path / "config.json").write_text(json.dumps({helpers: stated}))
    settings = dataclasses.replace(rig.settings.docker, launch_env={"DOCKER_CONFIG": str(tmp_path)})
    rig.settings = dataclasses.replace(rig.settings, docker=settings)
    proxy = await rig.open_proxy()
    with pytest.raises(
        LaunchError, match=r"credential helper .*docker-credential-no-such"
    ) as failure:
        await proxy.launch(missing_image(rig))
    assert str(tmp_path / "config.json") in str(failure.value)
    assert "engine cannot be reached" not in str(failure.value)
    assert "UserWarning" not in str(failure.value)
    await proxy.launch(rig.request())


async def test_what_a_launch_waited_for_is_told_at_its_deadline(
    rig: DockerRig, proxy: BaseProcessProxyABC
) -> None:
    """A container that runs but does not report points to the network or the image.

    A site's own script may forget the labels. One that hangs, as when a registry does not answer,
    is killed.
    """
    waits: list[tuple[LaunchRequest, str]] = [
        (
            rig.edited_request("command", "['sleep', '600']", timeout=20),
            "runs, but nothing has reported to",
        ),
        (rig.request(argv=("true",), timeout=20), "no container with the kernel's labels"),
        (rig.request(argv=("sleep", "4321"), timeout=20), "has not ended yet"),
    ]

    async def expect_wait(request: LaunchRequest, words: str) -> None:
        with pytest.raises(LaunchTimeoutError, match=words):
            await proxy.launch(request)
        await rig.until_gone(request.kernel_id)

    await asyncio.gather(*(expect_wait(*wait) for wait in waits))


async def test_busy_container_is_told_apart_from_one_that_waits(
    rig: DockerRig, proxy: BaseProcessProxyABC
) -> None:
    """It has used CPU time, so the machine is slow, and not the network."""
    busy = "['python3', '-c', 'sum(range(10**10))']"
    request = rig.edited_request("command", busy, timeout=30)
    with pytest.raises(LaunchTimeoutError, match=r"It has used \d+\.\d s of CPU time"):
        await proxy.launch(request)
    await rig.until_gone(request.kernel_id)


async def test_script_that_gives_up_for_now_is_no_failure(
    rig: DockerRig, proxy: BaseProcessProxyABC
) -> None:
    """Exit code 75 says that the engine is away; the client may try again."""
    request = rig.request(argv=("sh", "-c", "echo the engine is away >&2; exit 75"))
    with pytest.raises(UnavailableError, match=r"did not start: the engine is away$"):
        await proxy.launch(request)


async def test_container_that_comes_after_the_launch_was_given_up_is_removed(
    rig: DockerRig, proxy: BaseProcessProxyABC
) -> None:
    """The engine may still carry out the requests of a script that was killed."""
    script = rig.resource_dir / "scripts" / "launch_docker.py"
    late = rig.resource_dir / "scripts" / "late.py"
    begun, go, done = (rig.folder / name for name in ("begun", "go", "done"))
    # The child is in a session of its own, so it survives the script.
    late.write_text(
        "import os, pathlib, subprocess, sys, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        f"    pathlib.Path({str(begun)!r}).touch()\n"
        f"    while not pathlib.Path({str(go)!r}).exists():\n"
        "        time.sleep(0.02)\n"
        f"    subprocess.call([sys.executable, {str(script)!r}, *sys.argv[1:]])\n"
        f"    pathlib.Path({str(done)!r}).touch()\n"
        "time.sleep(100)\n"
    )
    rig.change_delays(engine_settle_seconds=60.0)
    request = rig.request(argv=("python", str(late), *rig.spec["argv"][2:]))
    watcher = Watcher(proxy)
    launch = asyncio.create_task(proxy.launch(request))
    await wait_in_thread(begun.exists)
    launch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await launch
    go.touch()
    await wait_in_thread(done.exists)
    await watcher.until(request.kernel_id, WorkloadState.DEAD)
    await rig.until_gone(request.kernel_id)
    await watcher.close()


async def test_container_of_a_script_that_was_killed_is_removed(
    rig: DockerRig, proxy: BaseProcessProxyABC
) -> None:
    """The engine creates it after the launch has failed, and it is never started."""
    script = rig.resource_dir / "scripts" / "killed.py"
    go, done = rig.folder / "go", rig.folder / "done"
    script.write_text(
        "import docker, os, pathlib, signal, sys, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        f"    while not pathlib.Path({str(go)!r}).exists():\n"
        "        time.sleep(0.02)\n"
        "    labels = {'app': 'enterprise-gateway', 'component': 'kernel'}\n"
        "    labels['kernel_id'] = sys.argv[1]\n"
        "    name, image = os.environ['EG_CONTAINER_NAME'], os.environ['KERNEL_IMAGE']\n"
        "    docker.from_env().containers.create(image, name=name, labels=labels)\n"
        f"    pathlib.Path({str(done)!r}).touch()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    rig.change_delays(engine_settle_seconds=60.0)
    request = rig.request(argv=("python", str(script), "{kernel_id}"))
    with pytest.raises(LaunchError, match="killed by SIGKILL"):
        await proxy.launch(request)
    go.touch()
    await wait_in_thread(done.exists)
    await rig.until_gone(request.kernel_id)


async def test_container_that_is_kept_is_removed_when_its_launch_failed(
    rig: DockerRig, proxy: BaseProcessProxyABC
) -> None:
    """EG_REMOVE_CONTAINER=False keeps only containers of kernels that were ready."""
    request = dataclasses.replace(
        early_exit(rig), env={**rig.request().env, "EG_REMOVE_CONTAINER": "False"}
    )
    with pytest.raises(LaunchError, match="exit code 9"):
        await proxy.launch(request)
    await rig.until_gone(request.kernel_id)
