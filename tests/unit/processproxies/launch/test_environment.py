"""The environment of Docker launch scripts."""

import dataclasses
import json
from typing import Any

import pytest

from enterprise_gateway.errors import ConfigurationError, ForbiddenError, InvalidRequestError
from enterprise_gateway.services.processproxies.launch.environment import (
    DEFAULT_IMAGE,
    DockerMode,
    choose_pull_policy,
    launch_environment,
)
from enterprise_gateway.services.processproxies.processproxy import LaunchRequest
from enterprise_gateway.services.processproxies.resources import KernelResources, Ulimit
from enterprise_gateway.settings import DockerSettings, KernelSettings, Settings
from enterprise_gateway.settings.values.amounts import Amounts

REQUEST = LaunchRequest(
    kernel_id="00000000-0000-0000-0000-000000000007",
    kernel_name="python_docker",
    username="ann",
    argv=("python",),
    env={"KERNEL_LANGUAGE": "python"},
    resource_dir="/k",
    config={},
    agent_settings={"kernel_name": "python_docker"},
    agent_token="secret",
    timeout=30,
)


def environment(settings: DockerSettings | None = None, **changes: Any) -> dict[str, str]:
    """Return the environment for the request, changed."""
    request = dataclasses.replace(REQUEST, **changes)
    return launch_environment(
        request, Settings(docker=settings or DockerSettings()), DockerMode.DOCKER
    )


def test_defaults_are_those_of_enterprise_gateway() -> None:
    """Without settings, the documented defaults hold."""
    env = environment()
    expected = {
        "EG_CONTAINER_NAME": f"ann-{REQUEST.kernel_id}",
        "EG_DOCKER_MODE": "docker",
        "EG_DOCKER_NETWORK": "bridge",
        "EG_REMOVE_CONTAINER": "True",
        "KERNEL_GID": "100",
        "KERNEL_ID": REQUEST.kernel_id,
        "KERNEL_IMAGE": DEFAULT_IMAGE,
        "KERNEL_LANGUAGE": "python",
        "KERNEL_UID": "1000",
        "KERNEL_USERNAME": "ann",
        "PORT_RANGE": "0..0",
    }
    assert expected.items() <= env.items()
    assert env["PATH"]
    assert json.loads(env["EG_AGENT_SETTINGS"]) == {"kernel_name": "python_docker"}
    assert env["EG_AGENT_TOKEN"] == "secret"
    assert "EG_AGENT_LAUNCH" not in env


def test_script_may_choose_the_token_of_the_launch() -> None:
    """A script that sets no label uses the other token."""
    env = environment(launch_id="5", launch_token="other")
    assert env["EG_AGENT_LAUNCH"] == "5:other"
    assert env["EG_AGENT_TOKEN"] == "secret"


def test_image_is_the_requests_then_the_kernelspecs_then_the_settings() -> None:
    """KERNEL_IMAGE beats image_name beats EG_KERNEL_IMAGE."""
    settings = DockerSettings(kernel_image="c")
    asked = {"KERNEL_IMAGE": "a"}
    config = {"image_name": "b"}
    assert environment(settings, env=asked, config=config)["KERNEL_IMAGE"] == "a"
    assert environment(settings, config=config)["KERNEL_IMAGE"] == "b"
    assert environment(settings)["KERNEL_IMAGE"] == "c"


def test_working_dir_reaches_the_container_only_if_mirrored() -> None:
    """A folder of the client's machine does not exist in a container, unless it is mounted."""
    asked = {"KERNEL_WORKING_DIR": "/home/ann"}
    assert "KERNEL_WORKING_DIR" not in environment(env=asked)
    mirrored = environment(DockerSettings(mirror_working_dirs=True), env=asked)
    assert mirrored["KERNEL_WORKING_DIR"] == "/home/ann"


def test_kernel_cannot_choose_the_engine_or_its_name() -> None:
    """The kernel's environment must not change engine and user."""
    asked = {"DOCKER_HOST": "tcp://elsewhere", "EG_CONTAINER_NAME": "x", "EG_DOCKER_MODE": "swarm"}
    env = environment(DockerSettings(host="unix:///here"), env=asked)
    assert env["DOCKER_HOST"] == "unix:///here"
    assert env["EG_CONTAINER_NAME"] == f"ann-{REQUEST.kernel_id}"
    assert env["EG_DOCKER_MODE"] == "docker"


def test_kernels_variables_are_none_of_the_scripts() -> None:
    """The script's process has its own; the kernel's are in one variable."""
    kernels = {
        "HTTP_PROXY": "http://proxy",
        "no_proxy": "*",
        "SSL_CERT_FILE": "/ca.pem",
        "HOME": "/home/ann",
        "PATH": "/opt/bin",
        "AWS_PROFILE": "ann",
    }
    own = {"KERNEL_X": "1", "EG_X": "2", "DOCKER_NETWORK": "kernels", "REMOVE_CONTAINER": "False"}
    env = environment(env={**kernels, **own})
    assert json.loads(env["EG_KERNEL_ENV"]) == kernels
    assert own.items() <= env.items()
    assert env["PATH"] != "/opt/bin"
    assert kernels.keys() & env.keys() == {"PATH"}


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        (DockerSettings(), ("unix:///var/run/docker.sock", "", "")),
        (DockerSettings(host="unix:///here", tls_verify=True), ("unix:///here", "", "")),
        (DockerSettings(host="tcp://a:1", cert_path="/certs"), ("tcp://a:1", "", "")),
        (
            DockerSettings(host="tcp://a:1", tls_verify=True, cert_path="/certs"),
            ("tcp://a:1", "1", "/certs"),
        ),
        (DockerSettings(host="https://a:1", cert_path="/c"), ("https://a:1", "1", "/c")),
    ],
)
def test_script_asks_the_gateways_engine(
    settings: DockerSettings, address: tuple[str, str, str]
) -> None:
    """Regardless of docker contexts, with TLS exactly if the gateway uses it."""
    env = environment(settings)
    given = (env["DOCKER_HOST"], env["DOCKER_TLS_VERIFY"], env["DOCKER_CERT_PATH"])
    assert given == address


@pytest.mark.parametrize(
    "name", ["A", "a@sha256:zz", "--privileged", "a:b:c", "http://a/b", "a/", "a\n", "x" * 256]
)
def test_image_of_a_request_that_is_none_is_refused(name: str) -> None:
    """Before anything is pulled or created, as trying again would not help."""
    with pytest.raises(InvalidRequestError, match="KERNEL_IMAGE is not an image name"):
        environment(env={"KERNEL_IMAGE": name})


def test_script_is_told_what_the_kernel_may_take() -> None:
    """In one variable, which neither kernelspecs nor clients set; GPUs also by EG's name."""
    resources = KernelResources(
        Amounts(nano_cpus=500_000_000, memory=2**30, pids=7, shm_size=2**20, gpus=1),
        ulimits=(Ulimit("core", 0, -1),),
        constraints=("node.role == worker",),
        groups=frozenset({"lab 1"}),
    )
    env = environment(resources=resources, env={"EG_RESOURCES": "{}", "KERNEL_GPUS": "9"})
    assert json.loads(env["EG_RESOURCES"]) == {
        "nano_cpus": 500_000_000,
        "memory": 2**30,
        "pids": 7,
        "shm_size": 2**20,
        "gpus": 1,
        "ulimits": [{"Name": "core", "Soft": 0, "Hard": -1}],
        "constraints": ["node.role == worker"],
        "labels": {
            "enterprise-gateway.cpus": "0.5",
            "enterprise-gateway.memory": str(2**30),
            "enterprise-gateway.gpus": "1",
            "enterprise-gateway.groups": "lab%201",
        },
    }
    assert env["KERNEL_GPUS"] == "1"
    assert environment(env={"EG_RESOURCES": "x"})["EG_RESOURCES"] == "{}"


def test_pull_policy_is_the_kernelspecs_or_the_gateways() -> None:
    """In any case of its letters."""
    gateway = DockerSettings(pull_policy="Never")
    assert choose_pull_policy(REQUEST, gateway) == "Never"
    spec = dataclasses.replace(REQUEST, config={"pull_policy": "always"})
    assert choose_pull_policy(spec, gateway) == "Always"
    wrong = dataclasses.replace(REQUEST, config={"pull_policy": "Sometimes"})
    with pytest.raises(ConfigurationError, match=r"pull_policy .* python_docker .*'Sometimes'"):
        choose_pull_policy(wrong, gateway)


def test_kernelspec_may_keep_its_containers() -> None:
    """EG_REMOVE_CONTAINER in the kernel's environment beats that of the gateway."""
    gateway = DockerSettings(launch_env={"EG_REMOVE_CONTAINER": "True"})
    assert (
        environment(gateway, env={"EG_REMOVE_CONTAINER": "False"})["EG_REMOVE_CONTAINER"] == "False"
    )
    assert environment(DockerSettings(remove_container=False))["EG_REMOVE_CONTAINER"] == "False"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("KERNEL_UID", "x", "Invalid KERNEL_UID value 'x': not a valid integer!"),
        ("KERNEL_GID", "", "Invalid KERNEL_GID value '': not a valid integer!"),
        ("KERNEL_UID", "-1", "Invalid KERNEL_UID value '-1': must be in range 0-4294967295!"),
        ("KERNEL_UID", "0", "Kernel's UID value of '0' has been denied via EG_PROHIBITED_UIDS!"),
        ("KERNEL_UID", "00", "Kernel's UID value of '00' has been denied via EG_PROHIBITED_UIDS!"),
        ("KERNEL_GID", "50", "Kernel's GID value of '50' has been denied via EG_PROHIBITED_GIDS!"),
    ],
)
def test_id_that_is_none_or_prohibited_is_forbidden(name: str, value: str, message: str) -> None:
    """The messages are Enterprise Gateway's, which people search for."""
    settings = Settings(kernels=KernelSettings(prohibited_gids=frozenset({0, 50})))
    request = dataclasses.replace(REQUEST, env={name: value})
    with pytest.raises(ForbiddenError) as refusal:
        launch_environment(request, settings, DockerMode.DOCKER)
    assert str(refusal.value) == message


@pytest.mark.parametrize("name", ["EG_AGENT_VOLUME", "EG_AGENT_CONFIG"])
def test_only_the_process_proxy_says_what_is_mounted_as_agent(name: str) -> None:
    """What a kernelspec has in its environment would be executed by every kernel."""
    assert name not in environment(env={name: "another-kernelspecs"})
