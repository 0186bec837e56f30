"""Images that a gateway has its engine pull, from a registry that wants a password."""

import contextlib
import json
import re
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import docker
import pytest
import requests
from docker.errors import ImageNotFound
from harness.engines.image_registry import CREDENTIALS, ImageRegistry, image_registry
from harness.engines.stock_images import unknown_image
from harness.gateways.gateway import Gateway
from harness.waiting import wait_until

IS_LAUNCHED = "has no /bin/sh"

pytestmark = pytest.mark.docker


@pytest.fixture
def registry() -> Iterator[ImageRegistry]:
    """A registry with an image that the engine does not have.

    It has no shell, so a launch that finds the image ends with that error.
    """
    with contextlib.closing(docker.from_env()) as client:
        source = unknown_image(client)
        with image_registry(client, source) as made:
            client.images.remove(source)
            yield made
        with contextlib.suppress(ImageNotFound):
            client.images.remove(made.image)


@pytest.fixture
def gateway(tmp_path: Path, registry: ImageRegistry) -> Iterator[Gateway]:
    """A gateway whose user has logged in to the registry."""
    (tmp_path / "config.json").write_text(registry.docker_config)
    gateway = Gateway(tmp_path / "gateway", env={"DOCKER_CONFIG": str(tmp_path)})
    try:
        gateway.start()
        yield gateway
    finally:
        registry.goes_on.set()
        gateway.close()


def start(gateway: Gateway, image: str, timeout: float, **body: str) -> requests.Response:
    """Ask for a kernel of an image."""
    env = {
        "KERNEL_USERNAME": gateway.username,
        "KERNEL_IMAGE": image,
        "KERNEL_LAUNCH_TIMEOUT": str(timeout),
    }
    return requests.post(
        f"{gateway.url}/api/kernels",
        headers={"Authorization": f"token {gateway.token}"},
        json={"name": "python_docker", "env": env, **body},
        timeout=180,
    )


def pull_of(gateway: Gateway, kernel_id: str) -> Any:
    """Return what the model of a kernel says of its image, None if nothing."""
    response = gateway.request("GET", f"/api/kernels/{kernel_id}")
    return response.json().get("pull") if response.ok else None


def test_pull_goes_on_after_its_request(gateway: Gateway, registry: ImageRegistry) -> None:
    """A request that is too short is told how far it is; later ones find it further, and done."""
    registry.goes_on.clear()
    kernel_id = str(uuid.uuid4())
    with ThreadPoolExecutor() as threads:
        patient = threads.submit(start, gateway, registry.image, 120, kernel_id=kernel_id)

        def fetched_bytes() -> Any:
            assert not patient.done(), patient.result().text
            return (pull_of(gateway, kernel_id) or {}).get("bytes_done", 0)

        pull = wait_until(fetched_bytes)
        model = gateway.get(f"/api/kernels/{kernel_id}")
        assert model["execution_state"] == "starting"
        assert model["pull"]["image"] == registry.image
        assert model["pull"]["layers"] == 1
        assert 0 < pull < model["pull"]["bytes"]

        short = start(gateway, registry.image, 0.5)
        assert short.status_code == 503, short.text
        assert int(short.headers["Retry-After"]) > 0
        words = short.json()["message"]
        state = r"is being pulled: 0 of 1 layers, .*B of 8\.0 MB, .*B/s\. The pull goes on"
        assert re.search(f"The image {registry.image} {state}", words), words
        registry.goes_on.set()
        answer = patient.result()
    assert answer.status_code == 500
    assert IS_LAUNCHED in answer.text
    assert IS_LAUNCHED in start(gateway, registry.image, 60).text
    assert registry.layers_asked == 1
    log = gateway.read_log()
    assert f"Image {registry.image}: pulled in " in log
    assert CREDENTIALS not in log


def test_client_that_leaves_does_not_end_the_pull(
    gateway: Gateway, registry: ImageRegistry
) -> None:
    """The engine would begin anew for the next one."""
    registry.goes_on.clear()
    env = {"KERNEL_USERNAME": gateway.username, "KERNEL_IMAGE": registry.image}
    body = json.dumps({"name": "python_docker", "env": env})
    headers = {"Authorization": f"token {gateway.token}", "Content-Type": "application/json"}
    with contextlib.closing(docker.from_env()) as client:
        with contextlib.closing(HTTPConnection(gateway.host, gateway.port)) as connection:
            connection.request("POST", "/api/kernels", body, headers)
            wait_until(lambda: registry.layers_asked)
        wait_until(lambda: "its client left" in gateway.read_log())
        registry.goes_on.set()
        wait_until(lambda: client.images.list(registry.image))
    assert registry.layers_asked == 1


def test_refusal_is_told_in_the_words_of_the_registry(
    gateway: Gateway, registry: ImageRegistry, tmp_path: Path
) -> None:
    """And where credentials were looked for."""
    (tmp_path / "config.json").write_text("{}")
    answer = start(gateway, registry.image, 60)
    assert answer.status_code == 500
    words = answer.json()["message"]
    assert f"The image {registry.image} cannot be pulled: " in words
    assert f"{tmp_path / 'config.json'} has no credentials for {registry.address}" in words


def test_gateway_that_ends_has_the_engine_give_up(
    gateway: Gateway, registry: ImageRegistry
) -> None:
    """Its log says so; the next gateway begins anew."""
    registry.goes_on.clear()
    assert start(gateway, registry.image, 1).status_code == 503
    assert gateway.stop() == 0
    assert f"The pull of {registry.image} ends with this gateway" in gateway.read_log()
    registry.goes_on.set()
    gateway.start()
    assert IS_LAUNCHED in start(gateway, registry.image, 120).text


@pytest.fixture
def one_kernelspec(gateway: Gateway, registry: ImageRegistry) -> str:
    """The name of the only kernelspec with a container, which names the registry's image."""
    kernels = gateway.home / "share/jupyter/kernels"
    for folder in kernels.iterdir():
        if folder.name != "python_docker":
            shutil.rmtree(folder)
    file = kernels / "python_docker" / "kernel.json"
    spec = json.loads(file.read_text())
    spec["metadata"]["process_proxy"]["config"]["image_name"] = registry.image
    file.write_text(json.dumps(spec))
    return "python_docker"


def test_command_lists_and_pulls(
    gateway: Gateway, registry: ImageRegistry, one_kernelspec: str
) -> None:
    """With the credentials of the gateway."""
    row = {
        "image": registry.image,
        "is_present": False,
        "pull_policy": "IfNotPresent",
        "kernelspecs": [one_kernelspec],
    }
    listed = gateway.run_command("images", "list", "--json")
    assert json.loads(listed.stdout) == [row], listed.stderr
    pulled = gateway.run_command("images", "pull")
    assert pulled.returncode == 0, pulled.stderr
    assert pulled.stdout == f"{one_kernelspec}: {registry.image} is on the engine\n"
    assert f"Image {registry.image}: pulled in " in pulled.stderr
    table = gateway.run_command("images", "list").stdout.splitlines()
    assert table[0].split("  ")[0] == "IMAGE"
    assert table[1].split() == [registry.image, "yes", "IfNotPresent", one_kernelspec]
    assert registry.layers_asked == 1


def test_command_tells_what_it_cannot_pull(
    gateway: Gateway, registry: ImageRegistry, one_kernelspec: str, tmp_path: Path
) -> None:
    """In the words of the registry, and with an exit code."""
    (tmp_path / "config.json").write_text("{}")
    pulled = gateway.run_command("images", "pull", one_kernelspec)
    assert pulled.returncode == 1
    assert f"{one_kernelspec}: The image {registry.image} cannot be pulled: " in pulled.stdout
    unknown = gateway.run_command("images", "pull", "no-such")
    assert unknown.returncode == 1
    assert "Kernel spec no-such not found" in unknown.stderr


def test_images_are_pulled_when_the_gateway_starts(
    gateway: Gateway, registry: ImageRegistry, one_kernelspec: str
) -> None:
    """If it is to do so."""
    gateway.stop()
    gateway.env["EG_PREPULL_IMAGES"] = "True"
    gateway.start()
    wait_until(lambda: f"Image {registry.image}: pulled in " in gateway.read_log())
    assert (
        IS_LAUNCHED
        in gateway.request("POST", "/api/kernels", json={"name": one_kernelspec}, timeout=60).text
    )
    assert registry.layers_asked == 1
