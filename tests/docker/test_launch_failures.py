"""Whatever keeps a container from becoming a kernel is told to the user, at once and in words."""

import dataclasses
import re
from collections.abc import Callable

import pytest
from harness.bad_requests import (
    MEMORY_HOG,
    NO_SUCH_IMAGE,
    broken_script,
    command_not_found,
    early_exit,
    missing_image,
    unknown_language,
    with_env,
)
from harness.engine_rigs import DockerRig
from harness.proxies import Watcher, wait_for

from enterprise_gateway.errors import (
    ConfigurationError,
    ForbiddenError,
    GatewayError,
    LaunchError,
    LaunchTimeoutError,
)
from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC
from enterprise_gateway.services.processproxies.processproxy import LaunchRequest, WorkloadState

pytestmark = pytest.mark.docker


def missing_image_of_ours(rig: DockerRig) -> LaunchRequest:
    """Name an image that a checkout builds, of a version that it has not."""
    return with_env(rig, KERNEL_IMAGE="enterprise-gateway/kernel-r:no-such-version")


def malformed_image(rig: DockerRig) -> LaunchRequest:
    """Name what cannot be an image."""
    return with_env(rig, KERNEL_IMAGE="--privileged image")


def image_without_agent(rig: DockerRig) -> LaunchRequest:
    """Name an image that is no kernel image."""
    return with_env(rig, KERNEL_IMAGE="debian:bookworm-slim")


def too_little_memory(rig: DockerRig) -> LaunchRequest:
    """Give the container less memory than a Python needs."""
    return rig.edited_request("command", f"{MEMORY_HOG}; settings['mem_limit'] = '24m'")


def invalid_setting(rig: DockerRig) -> LaunchRequest:
    """Ask the engine for what it refuses."""
    return rig.edited_request("cpuset_cpus", "'4000'")


def gpus_where_there_are_none(rig: DockerRig) -> LaunchRequest:
    """Ask for GPUs on a machine without."""
    return with_env(rig, KERNEL_GPUS="2")


def malformed_number_of_gpus(rig: DockerRig) -> LaunchRequest:
    """Ask for GPUs by what is no number."""
    return with_env(rig, KERNEL_GPUS="many")


def missing_script(rig: DockerRig) -> LaunchRequest:
    """Name a launch script that is not there."""
    return rig.request(argv=("python", "/no/such/launch_docker.py"))


def missing_arguments(rig: DockerRig) -> LaunchRequest:
    """Call the launch script without arguments."""
    return rig.request(argv=tuple(rig.spec["argv"][:2]))


@pytest.mark.parametrize(
    ("make_request", "words"),
    [
        (missing_image, rf"{NO_SUCH_IMAGE} is not on this engine and cannot be pulled: .*1.*Build"),
        (
            missing_image_of_ours,
            r"is not pulled\. Build it \(in a checkout: scripts/images kernel-r\)",
        ),
        (malformed_image, r"KERNEL_IMAGE is no image name"),
        (image_without_agent, r"exit code 1\.\n.*no python3"),
        (unknown_language, r"exit code 1\.\nUnrecognized value for KERNEL_LANGUAGE: 'cobol'!"),
        (early_exit, r"exit code 9\.\n(one\ntwo|two\none)"),
        (command_not_found, r"/no/such/command"),
        (too_little_memory, r"exit code 137 \(out of memory\)\. Raise mem_limit"),
        (invalid_setting, r"refused to start .*CPU"),
        (
            gpus_where_there_are_none,
            r"KERNEL_GPUS=2\), but the Docker engine has none.*KERNEL_GPUS=0",
        ),
        (malformed_number_of_gpus, r"KERNEL_GPUS is no number of GPUs: many"),
        (broken_script, r"NameError: name 'undefined_name'"),
        (missing_script, r"No such file or directory: '/no/such/launch_docker\.py'"),
        (missing_arguments, r"--kernel-id is required"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_cause_is_told_and_nothing_is_left(
    rig: DockerRig,
    proxy: BaseProcessProxyABC,
    make_request: Callable[[DockerRig], LaunchRequest],
    words: str,
) -> None:
    """The error names the kernel and says what happened, in the words of whoever knew."""
    request = make_request(rig)
    with pytest.raises(LaunchError) as failure:
        await proxy.launch(request)
    assert not isinstance(failure.value, LaunchTimeoutError)
    assert request.kernel_id in str(failure.value)
    assert re.search(words, str(failure.value), re.DOTALL)
    await rig.until_gone(request.kernel_id)


@pytest.mark.parametrize(
    ("env", "kind", "words"),
    [
        ({"DOCKER_NETWORK": "no-such-network"}, ConfigurationError, "docker network create"),
        ({"DOCKER_NETWORK": "host"}, ConfigurationError, "EG_DOCKER_NETWORK"),
        ({"DOCKER_MODE": "swarm"}, ConfigurationError, "class_name is that of mode 'docker'"),
        ({"KERNEL_UID": "0"}, ForbiddenError, "EG_PROHIBITED_UIDS"),
    ],
)
async def test_impossible_request_makes_nothing(
    rig: DockerRig,
    proxy: BaseProcessProxyABC,
    env: dict[str, str],
    kind: type[GatewayError],
    words: str,
) -> None:
    """What is known to fail is not tried."""
    request = with_env(rig, **env)
    with pytest.raises(kind, match=words):
        await proxy.launch(request)
    assert not rig.traces(request.kernel_id)


async def test_silent_container_is_told_apart_from_a_slow_engine(
    rig: DockerRig, proxy: BaseProcessProxyABC
) -> None:
    """A container that runs but does not report points to the network or the image."""
    request = rig.edited_request("command", "['sleep', '60']", timeout=5)
    with pytest.raises(LaunchTimeoutError, match="runs, but nothing has reported to"):
        await proxy.launch(request)
    await rig.until_gone(request.kernel_id)


async def test_script_that_makes_no_container_is_told(
    rig: DockerRig, proxy: BaseProcessProxyABC
) -> None:
    """A site's own script may forget the labels."""
    request = rig.request(argv=("true",), timeout=5)
    with pytest.raises(LaunchTimeoutError, match="no container with the kernel's labels"):
        await proxy.launch(request)


async def test_script_that_hangs_is_killed(rig: DockerRig, proxy: BaseProcessProxyABC) -> None:
    """As when a registry does not answer."""
    request = rig.request(argv=("sleep", "4321"), timeout=0.5)
    with pytest.raises(LaunchTimeoutError, match="has not ended yet"):
        await proxy.launch(request)


async def test_container_that_comes_after_the_launch_was_given_up_is_removed(
    rig: DockerRig, proxy: BaseProcessProxyABC
) -> None:
    """The engine may still carry out what a script had asked for before it was killed."""
    script = rig.resource_dir / "scripts" / "launch_docker.py"
    late = rig.resource_dir / "scripts" / "late.py"
    done = rig.folder / "done"
    # What stays behind is in a session of its own, out of reach of whoever kills the script.
    late.write_text(
        "import os, pathlib, subprocess, sys, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    time.sleep(4)\n"
        f"    subprocess.call([sys.executable, {str(script)!r}, *sys.argv[1:]])\n"
        f"    pathlib.Path({str(done)!r}).touch()\n"
        "time.sleep(100)\n"
    )
    request = rig.request(argv=("python", str(late), *rig.spec["argv"][2:]), timeout=3)
    watcher = Watcher(proxy)
    with pytest.raises(LaunchTimeoutError):
        await proxy.launch(request)
    await wait_for(done.exists)
    await watcher.until(request.kernel_id, WorkloadState.DEAD)
    await rig.until_gone(request.kernel_id)
    await watcher.close()


async def test_container_of_a_script_that_somebody_killed_is_removed(
    rig: DockerRig, proxy: BaseProcessProxyABC
) -> None:
    """The engine makes it all the same, after the launch has failed, and nobody will start it."""
    script = rig.resource_dir / "scripts" / "killed.py"
    done = rig.folder / "done"
    script.write_text(
        "import docker, os, pathlib, signal, sys, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    time.sleep(1)\n"
        "    labels = {'app': 'enterprise-gateway', 'component': 'kernel'}\n"
        "    labels['kernel_id'] = sys.argv[1]\n"
        "    name, image = os.environ['EG_CONTAINER_NAME'], os.environ['KERNEL_IMAGE']\n"
        "    docker.from_env().containers.create(image, name=name, labels=labels)\n"
        f"    pathlib.Path({str(done)!r}).touch()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    request = rig.request(argv=("python", str(script), "{kernel_id}"))
    with pytest.raises(LaunchError, match="killed by SIGKILL"):
        await proxy.launch(request)
    await wait_for(done.exists)
    await rig.until_gone(request.kernel_id)


async def test_container_that_is_kept_is_removed_when_its_launch_failed(
    rig: DockerRig, proxy: BaseProcessProxyABC
) -> None:
    """EG_REMOVE_CONTAINER=False keeps only what once was a kernel."""
    request = dataclasses.replace(
        early_exit(rig), env={**rig.request().env, "EG_REMOVE_CONTAINER": "False"}
    )
    with pytest.raises(LaunchError, match="exit code 9"):
        await proxy.launch(request)
    await rig.until_gone(request.kernel_id)
