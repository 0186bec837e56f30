"""The functions of the launch script that no engine is needed for."""

import argparse
import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import docker.errors
import docker.types
import pytest
import requests

from enterprise_gateway.services.processproxies.resources import (
    CPUS_LABEL,
    GPUS_LABEL,
    GROUPS_LABEL,
    MEMORY_LABEL,
)
from enterprise_gateway.services.processproxies.workloads.containers import (
    CLUSTER_LABEL,
    LAUNCH_LABEL,
    POOL_LABEL,
    REMOVE_LABEL,
    SERVICE_LABEL,
)
from enterprise_gateway.services.processproxies.workloads.sidecars import SIDECAR_LABEL

SCRIPT = Path(__file__).parents[3] / "etc/kernel-launchers/docker/scripts/launch_docker.py"


@pytest.fixture(scope="module")
def script() -> Any:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("launch_docker", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        (docker.errors.ImageNotFound("no"), True),
        (docker.errors.APIError("trouble"), False),
        (docker.errors.DockerException("trouble"), False),
        (requests.ConnectionError("gone"), False),
        (None, False),
    ],
)
def test_image_is_missing_only_if_the_engine_says_so(
    script: Any, answer: Exception | None, *, missing: bool
) -> None:
    """An engine that goes away at that moment is no reason to look for an image."""
    client = Mock()
    client.images.get.side_effect = answer
    assert script.is_missing(client, "image") is missing


class _Proxy(BaseHTTPRequestHandler):
    """What stands before an engine that is away."""

    def do_GET(self) -> None:
        """Answer as HAProxy does."""
        page = b"<html><body><h1>503 Service Unavailable</h1></body></html>"
        self.send_response(503)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    do_POST = do_HEAD = do_GET  # noqa: N815 - the base class looks for these names

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("has_proxy", [True, False])
def test_engine_that_is_away_is_to_be_asked_again(*, has_proxy: bool) -> None:
    """Exit code 75, and one line without a proxy's page."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Proxy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.server_port
        if not has_proxy:
            server.shutdown()
            server.server_close()
        env = {
            "DOCKER_HOST": f"tcp://127.0.0.1:{port}",
            "KERNEL_IMAGE": "i",
            "EG_DOCKER_MODE": "docker",
        }
        ended = subprocess.run(
            [sys.executable, SCRIPT, "--kernel-id", "1", "--response-address", "1.2.3.4:5"],
            env={**os.environ, **env},
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        server.shutdown()
        thread.join()
    assert ended.returncode == os.EX_TEMPFAIL, ended.stderr
    assert ended.stderr.startswith("The Docker engine ")
    assert "<html>" not in ended.stderr


def test_settings_that_the_sdk_does_not_take_are_no_engine_that_is_away(
    script: Any, arguments: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trying again would not help; the sentence says what is wrong with what a site wrote."""
    monkeypatch.setenv("KERNEL_IMAGE", "team/kernel")
    monkeypatch.setenv("EG_DOCKER_MODE", "docker")

    def run(_image: str, *, detach: bool, **settings: Any) -> None:
        assert detach
        docker.types.HostConfig("1.41", **settings)

    client = Mock(**{"containers.run.side_effect": run})
    monkeypatch.setattr(script.docker, "from_env", lambda: client)
    monkeypatch.setattr(script, "container_settings", lambda _arguments: {"mem_limit": "2 tons"})
    with pytest.raises(SystemExit, match=r"settings for team/kernel: .*2 tons") as ended:
        script.launch_docker_kernel(arguments)
    assert ended.value.code != os.EX_TEMPFAIL


def test_commented_examples_need_only_be_uncommented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of kernelspecs is among them, where Enterprise Gateway's pages say it is."""
    monkeypatch.setattr(sys, "argv", ["launch_docker.py", "--kernel-id", "1"])
    edited = tmp_path / "launch_docker.py"
    text = SCRIPT.read_text(encoding="utf-8")
    edited.write_text(re.sub(r"(?m)^    # (?=settings|[ })\]])", "    ", text), encoding="utf-8")
    script = runpy.run_path(str(edited))
    arguments = script["parse_arguments"]()
    folder = "/usr/local/share/jupyter/kernels"
    volumes = script["container_settings"](arguments)["volumes"]
    assert volumes[folder] == {"bind": folder, "mode": "ro"}
    settings = script["service_settings"](arguments)
    assert f"{folder}:{folder}:ro" in settings["mounts"]
    docker.types.ContainerSpec("image", mounts=settings["mounts"])


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain {} }} $X", "plain {} }} $X"),
        ("{{.Node.ID}}", '{{"{{"}}.Node.ID}}'),
        ("{{{", '{{"{{"}}{'),
        ("{{{{", '{{"{{"}}{{"{{"}}'),
    ],
)
def test_beginnings_of_templates_are_escaped(script: Any, text: str, escaped: str) -> None:
    """Swarm makes the text of it again."""
    assert script.literal(text) == escaped


@pytest.fixture
def arguments() -> argparse.Namespace:
    """What the script is called with."""
    return argparse.Namespace(
        kernel_id="id1",
        port_range="0..0",
        public_key="key",
        response_address="127.0.0.1:1",
        spark_context_init_mode="none",
        kernel_class_name="",
    )


def test_kernel_gets_its_own_variables_and_not_the_scripts(
    script: Any, arguments: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy or a home in kernel.json reaches the container, whatever the script goes by."""
    kernels = {"HTTP_PROXY": "http://kernel", "HOME": "/home/ann", "PATH": "/b", "PUBLIC_KEY": "x"}
    monkeypatch.setenv("EG_KERNEL_ENV", json.dumps(kernels))
    monkeypatch.setenv("HOME", "/root")
    monkeypatch.setenv("KERNEL_X", "1")
    environment = script.kernel_environment(arguments)
    assert (environment["HTTP_PROXY"], environment["HOME"]) == ("http://kernel", "/home/ann")
    assert (environment["KERNEL_X"], environment["PUBLIC_KEY"]) == ("1", "x")
    assert not {"PATH", "EG_KERNEL_ENV"} & environment.keys()


@pytest.mark.parametrize(
    ("env", "is_removed"),
    [
        ({}, True),
        ({"EG_REMOVE_CONTAINER": "True"}, True),
        ({"EG_REMOVE_CONTAINER": "False"}, False),
        ({"EG_REMOVE_CONTAINER": "False", "REMOVE_CONTAINER": "true"}, True),
    ],
)
def test_gateways_remove_what_has_ended_unless_it_is_to_be_kept(
    script: Any,
    arguments: argparse.Namespace,
    monkeypatch: pytest.MonkeyPatch,
    env: dict[str, str],
    *,
    is_removed: bool,
) -> None:
    """The engine does not: it would remove running containers when it restarts by live-restore."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    settings = script.container_settings(arguments)
    assert settings["labels"]["enterprise-gateway.remove"] == ("true" if is_removed else "")
    assert not settings.get("remove")


def test_all_labels_that_gateways_read_are_the_scripts(
    script: Any, arguments: argparse.Namespace
) -> None:
    """A container has those of its image besides, whose user may have put them there."""
    read = {CLUSTER_LABEL, LAUNCH_LABEL, POOL_LABEL, REMOVE_LABEL, SIDECAR_LABEL}
    read |= {CPUS_LABEL, MEMORY_LABEL, GPUS_LABEL, GROUPS_LABEL, SERVICE_LABEL}
    labels = script.container_settings(arguments)["labels"]
    unset = {name for name in read if labels[name] == ""}
    assert unset == read - {REMOVE_LABEL}
    service = script.service_settings(arguments)
    assert service["labels"] == service["container_labels"]
    assert service["labels"].keys() == labels.keys() - {SERVICE_LABEL}  # Swarm sets it itself


RESOURCES = {
    "nano_cpus": 1_500_000_000,
    "memory": 2**30,
    "pids": 100,
    "shm_size": 2**29,
    "gpus": 2,
    "reserved_nano_cpus": 500_000_000,
    "reserved_memory": 2**28,
    "ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
    "constraints": ["node.labels.gpu == yes"],
    "preferences": ["node.labels.rack"],
    "labels": {"enterprise-gateway.cpus": "1.5"},
}


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a launch finds in the environment for a kernel with all limits."""
    monkeypatch.setenv("EG_RESOURCES", json.dumps(RESOURCES))


@pytest.mark.usefixtures("limited")
def test_container_is_limited_as_the_gateway_has_planned(
    script: Any, arguments: argparse.Namespace
) -> None:
    """In keywords that the SDK takes; there is no swap besides the memory."""
    settings = script.container_settings(arguments)
    assert settings["labels"]["enterprise-gateway.cpus"] == "1.5"
    assert "EG_RESOURCES" not in settings["environment"]
    settings = {"network": "n"}
    script.limit_container(settings)
    request = settings.pop("device_requests")[0]
    assert (request["Count"], request["Capabilities"]) == (2, [["gpu"]])
    assert settings == {
        "network": "n",
        "nano_cpus": 1_500_000_000,
        "mem_limit": 2**30,
        "memswap_limit": 2**30,
        "mem_reservation": 2**28,
        "pids_limit": 100,
        "shm_size": 2**29,
        "ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
    }
    config = docker.types.HostConfig("1.41", **{k: settings[k] for k in settings if k != "network"})
    assert (config["NanoCpus"], config["PidsLimit"]) == (1_500_000_000, 100)


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize(
    ("own", "added"),
    [
        ({"mem_limit": "4g"}, {"nano_cpus", "pids_limit", "shm_size", "ulimits"}),
        (
            {"cpu_quota": 50_000},
            {"mem_limit", "memswap_limit", "mem_reservation", "pids_limit", "shm_size", "ulimits"},
        ),
        (
            {"pids_limit": -1, "ipc_mode": "host", "ulimits": []},
            {"nano_cpus", "mem_limit", "memswap_limit", "mem_reservation"},
        ),
    ],
)
def test_what_a_site_has_set_in_a_container_wins(
    script: Any, own: dict[str, Any], added: set[str]
) -> None:
    """And nothing is added that would contradict it."""
    settings = {**own, "device_requests": ["own"]}
    script.limit_container(settings)
    assert settings.keys() == own.keys() | added | {"device_requests"}
    assert own.items() <= settings.items()
    assert settings["device_requests"] == ["own"]


@pytest.mark.usefixtures("limited")
def test_service_is_limited_and_placed_as_the_gateway_has_planned(script: Any) -> None:
    """Swarm of this API has no size of /dev/shm, but mounts."""
    settings: dict[str, Any] = {}
    script.limit_service(settings)
    (mount,) = settings.pop("mounts")
    assert (mount["Target"], mount["Type"]) == ("/dev/shm", "tmpfs")
    assert mount["TmpfsOptions"] == {"SizeBytes": 2**29}
    gpus = {"DiscreteResourceSpec": {"Kind": "NVIDIA-GPU", "Value": 2}}
    assert settings == {
        "resources": {
            "Limits": {"NanoCPUs": 1_500_000_000, "MemoryBytes": 2**30, "Pids": 100},
            "Reservations": {
                "NanoCPUs": 500_000_000,
                "MemoryBytes": 2**28,
                "GenericResources": [gpus],
            },
        },
        "constraints": ["node.labels.gpu == yes"],
        "preferences": [("spread", "node.labels.rack")],
    }


@pytest.mark.usefixtures("limited")
def test_what_a_site_has_set_in_a_service_wins(script: Any) -> None:
    """Figure by figure; constraints add up."""
    own = docker.types.Resources(mem_limit=2**31, cpu_reservation=10**9)
    settings = {
        "resources": own,
        "constraints": ["node.role == worker"],
        "preferences": [("spread", "node.labels.zone")],
        "mounts": ["/home:/home", "/big:/dev/shm:rw"],
    }
    script.limit_service(settings)
    assert settings["resources"]["Limits"]["MemoryBytes"] == 2**31
    assert settings["resources"]["Limits"]["Pids"] == 100
    assert settings["resources"]["Reservations"]["NanoCPUs"] == 10**9
    assert settings["constraints"] == ["node.role == worker", "node.labels.gpu == yes"]
    assert settings["preferences"] == [("spread", "node.labels.zone")]
    assert settings["mounts"] == ["/home:/home", "/big:/dev/shm:rw"]


@pytest.mark.parametrize("of_a_site", [{}, {"resources": {"Limits": {"NanoCPUs": 1}}}])
def test_without_a_plan_nothing_is_limited(script: Any, of_a_site: dict[str, Any]) -> None:
    """As when a site runs the script by hand."""
    settings: dict[str, Any] = {**of_a_site}
    script.limit_container(settings)
    script.limit_service(settings)
    assert settings == of_a_site


@pytest.mark.usefixtures("limited")
def test_service_is_created_with_ulimits_and_all_limits(
    script: Any, arguments: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK has no keyword for ulimits; everything else goes through it as it is."""
    monkeypatch.setenv("KERNEL_IMAGE", "team/kernel")
    monkeypatch.setenv("EG_DOCKER_MODE", "swarm")
    client = docker.DockerClient("tcp://127.0.0.1:9", version="1.41")
    created: list[dict[str, Any]] = []
    monkeypatch.setattr(client.api, "create_service", lambda **given: created.append(given))
    monkeypatch.setattr(docker.models.services.ServiceCollection, "get", Mock())
    monkeypatch.setattr(script, "connect", lambda: client)
    monkeypatch.setattr(script, "expect_gpus", lambda _client: None)
    script.launch_docker_kernel(arguments)
    task = created[0]["task_template"]
    assert task["ContainerSpec"]["Ulimits"] == RESOURCES["ulimits"]
    assert task["Resources"]["Limits"]["Pids"] == 100
    assert task["Placement"]["Preferences"] == [
        {"Spread": {"SpreadDescriptor": "node.labels.rack"}}
    ]
    assert created[0]["labels"]["enterprise-gateway.cpus"] == "1.5"


PLAN = {
    "security": {
        "drop_capabilities": True,
        "capabilities": ["NET_RAW"],
        "no_new_privileges": True,
        "primary_group": True,
        "read_only": True,
        "seccomp": "unconfined",
        "runtime": "runsc",
        "log_driver": "local",
        "log_max_size": "1m",
        "log_max_files": 2,
    },
    "mounts": [
        {
            "Target": "/data/{{x",
            "Type": "volume",
            "Source": "a{{.Node.ID}}",
            "VolumeOptions": {"DriverConfig": {"Name": "n", "Options": {"o": "{{y"}}},
        },
        {"Target": "/s", "Type": "tmpfs", "TmpfsOptions": {"SizeBytes": 5}},
    ],
    "dns": ["127.0.0.1"],
}


def test_container_gets_its_sandbox(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each item as the SDK has it; the SDK takes it."""
    monkeypatch.setenv("EG_SANDBOX", json.dumps(PLAN))
    settings: dict[str, Any] = {"mounts": [{"Target": "/own"}]}
    script.confine_container(settings)
    assert settings["security_opt"] == ["no-new-privileges", "seccomp=unconfined"]
    assert (settings["cap_drop"], settings["cap_add"]) == (["ALL"], ["NET_RAW"])
    assert (settings["init"], settings["read_only"], settings["runtime"]) == (False, True, "runsc")
    assert settings["log_config"]["Config"] == {"max-size": "1m", "max-file": "2"}
    assert settings["dns"] == ["127.0.0.1"]
    assert settings["mounts"] == [{"Target": "/own"}, *PLAN["mounts"]]
    docker.types.HostConfig("1.41", **settings)


def test_container_has_the_address_of_the_metadata_service(
    script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless it is allowed to ask that, has other settings of the site, or has no address."""
    endpoint = {"IPAMConfig": {"LinkLocalIPs": ["169.254.169.254"]}}

    def confined(**settings: Any) -> Any:
        script.confine_container(settings)
        return settings.get("networking_config")

    assert confined(network="kernels") == {"kernels": endpoint}
    assert confined(network="kernels", networking_config="own") == "own"
    for network in ("host", "none", "container:other"):
        assert confined(network=network) is None
    monkeypatch.setenv("EG_SANDBOX", '{"security": {"block_metadata": false}}')
    assert confined(network="kernels") is None


def test_service_gets_its_sandbox(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, and nothing in it is a template for Swarm."""
    monkeypatch.setenv("EG_SANDBOX", json.dumps(PLAN))
    settings: dict[str, Any] = {}
    script.confine_service(settings)
    assert settings["privileges"] == {"NoNewPrivileges": True}
    assert (settings["cap_drop"], settings["cap_add"]) == (["ALL"], ["NET_RAW"])
    assert (settings["init"], settings["read_only"]) == (False, True)
    assert settings.pop("log_driver") == "local"
    assert settings.pop("log_driver_options") == {"max-size": "1m", "max-file": "2"}
    assert settings["dns_config"]["Nameservers"] == ["127.0.0.1"]
    volume, memory = settings["mounts"]
    assert volume["Source"] == 'a{{"{{"}}.Node.ID}}'
    assert volume["Target"] == '/data/{{"{{"}}x'
    assert volume["VolumeOptions"]["DriverConfig"]["Options"] == {"o": '{{"{{"}}y'}
    assert memory == PLAN["mounts"][1]
    docker.types.ContainerSpec("image", **settings)


def secret_of(name: str, **labels: str) -> dict[str, Any]:
    """Return what the engine says of a secret."""
    return {"ID": f"id-of-{name}", "Spec": {"Name": name, "Labels": labels}}


def test_service_gets_secrets_by_their_ids(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the kernel's user can read them."""
    secrets = [{"source": "db", "target": "password"}]
    monkeypatch.setenv("EG_SANDBOX", json.dumps({"secrets": secrets}))
    monkeypatch.setenv("KERNEL_UID", "4242")
    monkeypatch.setenv("KERNEL_GID", "42")
    settings: dict[str, Any] = {}
    script.give_secrets(Mock(**{"api.inspect_secret": secret_of}), settings)
    (secret,) = settings["secrets"]
    assert (secret["SecretID"], secret["SecretName"]) == ("id-of-db", "db")
    assert secret["File"] == {"Name": "password", "UID": "4242", "GID": "42", "Mode": 0o400}


@pytest.mark.parametrize(
    "found",
    [
        secret_of("db", app="enterprise-gateway"),
        secret_of("other"),
        docker.errors.NotFound("none"),
    ],
)
def test_secret_of_the_gateway_is_not_given(
    script: Any, monkeypatch: pytest.MonkeyPatch, found: Any
) -> None:
    """Nor one whose id was named, nor one that is not there: the start fails."""
    monkeypatch.setenv("EG_SANDBOX", '{"secrets": [{"source": "db", "target": "db"}]}')
    client = Mock()
    client.api.inspect_secret.side_effect = [found]
    settings: dict[str, Any] = {}
    with pytest.raises(SystemExit, match="secret db"):
        script.give_secrets(client, settings)
    assert settings == {}


@pytest.mark.parametrize("function", ["confine_container", "confine_service"])
def test_what_a_site_states_counts_more_than_the_sandbox(
    script: Any, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    """It has edited the script for that."""
    monkeypatch.setenv("EG_SANDBOX", json.dumps(PLAN))
    own = {
        "cap_drop": [],
        "cap_add": ["SYS_PTRACE"],
        "security_opt": [],
        "privileges": {},
        "read_only": False,
        "init": True,
        "log_driver": "syslog",
        "log_config": "own",
        "runtime": "own",
        "dns": [],
        "dns_config": "own",
    }
    settings = dict(own)
    getattr(script, function)(settings)
    settings.pop("mounts")
    assert settings == own


def test_kernel_is_confined_without_a_word_of_the_gateway(
    script: Any, arguments: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script is hardened by itself."""
    monkeypatch.setenv("KERNEL_UID", "1000")
    monkeypatch.setenv("KERNEL_GID", "42")
    settings = script.container_settings(arguments)
    script.confine_container(settings)
    assert (settings["user"], settings["cap_drop"]) == ("1000:42", ["ALL"])
    assert settings["security_opt"] == ["no-new-privileges"]
    assert settings["log_config"]["Config"]["max-size"] == "10m"
    assert "mounts" not in settings
    monkeypatch.setenv("EG_SANDBOX", '{"security": {"primary_group": false, "log_driver": ""}}')
    settings = script.container_settings(arguments)
    script.confine_container(settings)
    assert settings["user"] == "1000"
    assert "log_config" not in settings


@pytest.fixture
def injected(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a launch finds in the environment for an image without agent, of both kinds."""
    monkeypatch.setenv("EG_AGENT_VOLUME", "enterprise-gateway-agent-1")
    monkeypatch.setenv("EG_AGENT_CONFIG", "id1:enterprise-gateway-agent-1")


@pytest.mark.usefixtures("injected")
def test_agent_is_mounted_beside_what_a_site_mounts(script: Any) -> None:
    """And its health check stays."""
    settings = {"mounts": ["/home:/home"], "configs": ["own"], "healthcheck": "own"}
    script.inject_agent(settings)
    assert settings["mounts"][0] == "/home:/home"
    assert settings["mounts"][1]["Source"] == "enterprise-gateway-agent-1"
    assert settings["mounts"][1]["ReadOnly"] is True
    assert settings["configs"][1]["ConfigID"] == "id1"
    assert settings["healthcheck"] == "own"


@pytest.mark.usefixtures("injected")
@pytest.mark.parametrize("name", ["command", "entrypoint"])
def test_site_that_says_what_is_started_is_left_alone(script: Any, name: str) -> None:
    """It knows its image."""
    settings = {name: ["python3", "-m", "kernel_agent"]}
    script.inject_agent(settings)
    assert settings == {name: ["python3", "-m", "kernel_agent"]}


def test_image_with_an_agent_is_started_as_it_is(script: Any) -> None:
    """Nothing is injected."""
    settings: dict[str, Any] = {}
    script.inject_agent(settings)
    assert settings == {}


def node(*resources: dict[str, Any], state: str = "ready", availability: str = "active") -> Mock:
    """Return a node of a Swarm as the SDK does, `GET /nodes`."""
    attrs: dict[str, Any] = {
        "Spec": {"Availability": availability},
        "Description": {"Resources": {"NanoCPUs": 2_000_000_000}},
        "Status": {"State": state},
    }
    if resources:
        attrs["Description"]["Resources"]["GenericResources"] = list(resources)
    return Mock(attrs=attrs)


def named(*gpus: str) -> list[dict[str, Any]]:
    """Return GPUs that a node offers by name."""
    return [{"NamedResourceSpec": {"Kind": "NVIDIA-GPU", "Value": gpu}} for gpu in gpus]


SSD = {"DiscreteResourceSpec": {"Kind": "SSD", "Value": 8}}


@pytest.mark.parametrize(
    "nodes",
    [
        [node(*named("gpu-a", "gpu-b")), node()],
        [node(SSD, {"DiscreteResourceSpec": {"Kind": "NVIDIA-GPU", "Value": 2}})],
    ],
)
def test_swarm_with_enough_gpus_is_asked(
    script: Any, monkeypatch: pytest.MonkeyPatch, nodes: list[Mock]
) -> None:
    """On one node, in either form of daemon.json."""
    monkeypatch.setenv("EG_RESOURCES", '{"gpus": 2}')
    script.expect_gpus(Mock(**{"nodes.list.return_value": nodes}))


@pytest.mark.parametrize(
    ("nodes", "most"),
    [
        ([], 0),
        ([node(), node(SSD)], 0),
        ([node(*named("gpu-a")), node(*named("gpu-b"))], 1),
        ([node(*named("a", "b"), state="down"), node(*named("a", "b"), availability="drain")], 0),
    ],
)
def test_swarm_with_too_few_gpus_is_not_asked(
    script: Any, monkeypatch: pytest.MonkeyPatch, nodes: list[Mock], most: int
) -> None:
    """It would wait for a node that has them, without a word."""
    monkeypatch.setenv("EG_RESOURCES", '{"gpus": 2}')
    with pytest.raises(SystemExit, match=f"more than {most} of the generic resource NVIDIA-GPU"):
        script.expect_gpus(Mock(**{"nodes.list.return_value": nodes}))


def test_missing_image_of_ours_is_not_pulled(script: Any) -> None:
    """Its name says that no registry has it; who has a checkout can build it."""
    missing = Mock(**{"images.get.side_effect": script.docker.errors.ImageNotFound("none")})
    with pytest.raises(SystemExit, match="scripts/images kernel-r"):
        script.expect_own_image(missing, "localhost/enterprise-gateway/kernel-r:1.2.3")
    with pytest.raises(SystemExit, match="Build it or load it"):
        script.expect_own_image(missing, "localhost/team/kernel:1")
    for image in ("elyra/kernel-r:1.2.3", "localhost:1/enterprise-gateway/kernel-r:1"):
        script.expect_own_image(missing, image)
    script.expect_own_image(Mock(), "localhost/enterprise-gateway/kernel-r:1.2.3")


def test_launch_is_labelled_and_its_agent_has_the_token_that_goes_with_it(
    script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's environment has the token under its usual name only."""
    monkeypatch.setenv("EG_AGENT_TOKEN", "plain")
    arguments = argparse.Namespace(
        kernel_id="1",
        port_range="0..0",
        public_key="",
        response_address="",
        spark_context_init_mode="none",
        kernel_class_name="",
    )
    assert script.kernel_labels(arguments)["enterprise-gateway.launch"] == ""
    assert script.kernel_environment(arguments)["EG_AGENT_TOKEN"] == "plain"
    monkeypatch.setenv("EG_AGENT_LAUNCH", "5:of the launch")
    assert script.kernel_labels(arguments)["enterprise-gateway.launch"] == "5"
    environment = script.kernel_environment(arguments)
    assert environment["EG_AGENT_TOKEN"] == "of the launch"
    assert "EG_AGENT_LAUNCH" not in environment
