"""The functions of the launch script that no engine is needed for."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import docker.errors
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
def lent(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a launch finds in the environment for an image without agent, of both kinds."""
    monkeypatch.setenv("EG_AGENT_VOLUME", "enterprise-gateway-agent-1")
    monkeypatch.setenv("EG_AGENT_CONFIG", "id1:enterprise-gateway-agent-1")


@pytest.mark.usefixtures("lent")
def test_agent_is_mounted_beside_what_a_site_mounts(script: Any) -> None:
    """And its health check stays."""
    settings = {"mounts": ["/home:/home"], "configs": ["own"], "healthcheck": "own"}
    script.lend_agent(settings)
    assert settings["mounts"][0] == "/home:/home"
    assert settings["mounts"][1]["Source"] == "enterprise-gateway-agent-1"
    assert settings["mounts"][1]["ReadOnly"] is True
    assert settings["configs"][1]["ConfigID"] == "id1"
    assert settings["healthcheck"] == "own"


@pytest.mark.usefixtures("lent")
@pytest.mark.parametrize("name", ["command", "entrypoint"])
def test_site_that_says_what_is_started_is_left_alone(script: Any, name: str) -> None:
    """It knows its image."""
    settings = {name: ["python3", "-m", "kernel_agent"]}
    script.lend_agent(settings)
    assert settings == {name: ["python3", "-m", "kernel_agent"]}


def test_image_with_an_agent_is_started_as_it_is(script: Any) -> None:
    """Nothing is lent to it."""
    settings: dict[str, Any] = {}
    script.lend_agent(settings)
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
    with pytest.raises(SystemExit, match="KERNEL_GPUS is no number of GPUs"):
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
    """In a public registry its name may be anybody's; who has a checkout can build it."""
    missing = Mock(**{"images.get.side_effect": script.docker.errors.ImageNotFound("none")})
    with pytest.raises(SystemExit, match="scripts/images kernel-r"):
        script.expect_own_image(missing, "enterprise-gateway/kernel-r:1.2.3")
    for image in ("elyra/kernel-r:1.2.3", "localhost:1/enterprise-gateway/kernel-r:1"):
        script.expect_own_image(missing, image)
    script.expect_own_image(Mock(), "enterprise-gateway/kernel-r:1.2.3")
