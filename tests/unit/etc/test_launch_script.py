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
    assert ("enterprise-gateway.remove" in settings["labels"]) is is_removed
    assert not settings.get("remove")


def test_size_of_dev_shm_is_set_in_containers_and_services(
    script: Any, arguments: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Swarm of this API has no such option, but mounts."""
    assert "shm_size" not in script.container_settings(arguments)
    settings: dict[str, Any] = {}
    script.size_shared_memory(settings)
    assert settings == {}
    monkeypatch.setenv("EG_SHM_SIZE", "1g")
    assert script.container_settings(arguments)["shm_size"] == "1g"
    settings = {"mounts": ["/home:/home"]}
    script.size_shared_memory(settings)
    mount = settings["mounts"][1]
    assert (mount["Target"], mount["Type"]) == ("/dev/shm", "tmpfs")
    assert mount["TmpfsOptions"] == {"SizeBytes": 2**30}


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


@pytest.mark.parametrize(("stated", "count"), [("", 0), ("0", 0), ("1", 1), ("16", 16)])
def test_gpus_are_asked_for_by_number(
    script: Any, monkeypatch: pytest.MonkeyPatch, stated: str, count: int
) -> None:
    """None, unless KERNEL_GPUS says otherwise."""
    assert script.gpus() == 0
    monkeypatch.setenv("KERNEL_GPUS", stated)
    assert script.gpus() == count


@pytest.mark.parametrize("stated", ["all", "-1", "1.5", "1\n", "9999"])
def test_number_of_gpus_that_is_none_is_refused(
    script: Any, monkeypatch: pytest.MonkeyPatch, stated: str
) -> None:
    """With the value in the sentence."""
    monkeypatch.setenv("KERNEL_GPUS", stated)
    with pytest.raises(SystemExit, match="KERNEL_GPUS is not a number of GPUs"):
        script.gpus()


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
    monkeypatch.setenv("KERNEL_GPUS", "2")
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
    monkeypatch.setenv("KERNEL_GPUS", "2")
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
    assert "enterprise-gateway.launch" not in script.kernel_labels(arguments)
    assert script.kernel_environment(arguments)["EG_AGENT_TOKEN"] == "plain"
    monkeypatch.setenv("EG_AGENT_LAUNCH", "5:of the launch")
    assert script.kernel_labels(arguments)["enterprise-gateway.launch"] == "5"
    environment = script.kernel_environment(arguments)
    assert environment["EG_AGENT_TOKEN"] == "of the launch"
    assert "EG_AGENT_LAUNCH" not in environment
