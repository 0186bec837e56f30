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
