"""The Docker engine, for the floor: containers made by the bare API, of the kernels' image."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
from docker.errors import APIError, DockerException, NotFound
from requests.exceptions import RequestException

from benchmarks.client.channel import Connection

PORTS = {
    "shell_port": 5001,
    "iopub_port": 5002,
    "stdin_port": 5003,
    "control_port": 5004,
    "hb_port": 5005,
}
KEY = "bench"
IPYKERNEL = [
    *("python3", "-m", "ipykernel_launcher", "--ip=0.0.0.0", f"--Session.key={KEY}"),
    *(f"--{name.removesuffix('_port')}={port}" for name, port in PORTS.items()),
]
HOME = "/tmp"  # noqa: S108 - of a container that is its kernel's alone
LABEL = "enterprise-gateway-bench"


class EngineMissingError(Exception):
    """No engine, or not the image."""


def describe_engine() -> str:
    """Version of the engine, or why there is none."""
    try:
        with _client() as client:
            version = client.version()
            return f"{version['Version']} (API {version['ApiVersion']})"
    except EngineMissingError as error:
        return str(error)


@contextmanager
def _client() -> Iterator[docker.APIClient]:
    try:
        client = docker.from_env(version="auto").api
    except (DockerException, RequestException) as error:
        raise EngineMissingError("no Docker engine answers") from error
    try:
        yield client
    finally:
        client.close()


def kernel_image(kernelspec: Path) -> str:
    """The image that a `kernel.json` names; EngineMissingError if the engine does not have it."""
    image: str = json.loads(kernelspec.read_text(encoding="utf-8"))["metadata"]["process_proxy"][
        "config"
    ]["image_name"]
    with _client() as client:
        if not client.images(name=image):
            raise EngineMissingError(f"no image {image}: scripts/run builds it")
    return image


def build_image(context: Path, tag: str) -> None:
    """Build an image from a folder with a Dockerfile."""
    with _client() as client:
        for line in client.build(path=str(context), tag=tag, rm=True, decode=True):
            if "error" in line:
                raise EngineMissingError(f"{tag} cannot be built: {line['error']}")


@contextmanager
def bare_kernel(image: str) -> Iterator[Connection]:
    """Create and start a container that is nothing but ipykernel; it goes with the block.

    Yields:
        Its connection information.
    """
    with _client() as client:
        container = client.create_container(
            image,
            IPYKERNEL,
            entrypoint="",
            labels=[LABEL],
            environment={"HOME": HOME},
            user="1000:100",
        )["Id"]
        try:
            client.start(container)
            networks = client.inspect_container(container)["NetworkSettings"]["Networks"]
            yield {"transport": "tcp", "ip": networks["bridge"]["IPAddress"], "key": KEY, **PORTS}
        finally:
            client.remove_container(container, force=True)


def remove_kernels(kernel_ids: list[str]) -> None:
    """Remove what is left of these kernels' containers."""
    try:
        with _client() as client:
            for kernel_id in kernel_ids:
                for container in client.containers(
                    all=True, filters={"label": f"kernel_id={kernel_id}"}
                ):
                    _remove(client, container["Id"])
    except EngineMissingError:
        return


def _remove(client: docker.APIClient, container: str) -> None:
    """Remove a container that may be going away by itself at this moment."""
    try:
        client.remove_container(container, force=True)
    except NotFound:
        return
    except APIError as error:
        if error.response is None or error.response.status_code != 409:
            raise
        time.sleep(1)
