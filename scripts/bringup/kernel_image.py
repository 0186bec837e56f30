"""The image of the Python kernel: built when missing or made from other files than today's."""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from docker import DockerClient
from docker.errors import APIError, ImageNotFound

from bringup import machine
from bringup.base_image import BASE_IMAGE, SUITE, ensure_base_image
from bringup.console import SetupError, say, step
from bringup.engine import connect
from bringup.host import ROOT
from enterprise_gateway._version import __version__

KERNEL_IMAGE = f"enterprise-gateway/kernel-py:{__version__}"
DOCKERFILE = "etc/docker/kernel-py/Dockerfile"
INPUTS = (
    "etc/docker",
    "etc/kernel-launchers",
    "kernel_agent",
    "requirements/agent.txt",
    "requirements/kernel-py.txt",
)
"""What the build may use."""

INPUTS_LABEL = "enterprise-gateway.inputs"
"""Label of a finished image: the digest of its inputs."""

STAGE_LABEL = "enterprise-gateway.stage"
"""Label of images that exist only to make the next build faster."""


def ensure_kernel_image(host: str) -> None:
    """Have the image, made from the files of this checkout, on the engine.

    Raises:
        SetupError: it cannot be built; carries the last lines of the build.
    """
    inputs = read_inputs(ROOT, INPUTS)
    wanted = digest(inputs)
    client = connect(host)
    try:
        if present(client) == wanted:
            return
        ensure_base_image(client, host)
        with step(f"Building {KERNEL_IMAGE} (once; again when its files change)"):
            build(client, inputs, wanted)
        remove_superseded(client)
    finally:
        client.close()


def present(client: DockerClient) -> str | None:
    """Return the digest from which the image on the engine was made."""
    try:
        labels: dict[str, str] = client.images.get(KERNEL_IMAGE).labels
    except ImageNotFound:
        return None
    return labels.get(INPUTS_LABEL)


def read_inputs(root: Path, names: Iterable[str]) -> dict[str, tuple[int, bytes]]:
    """Return mode and content of all files below `names`, by path relative to `root`."""
    found = {}
    for name in names:
        top = root / name
        for file in [top, *top.rglob("*")]:
            generated = {"__pycache__", "build"} & set(file.parts) or ".egg-info" in str(file)
            if file.is_file() and not generated:
                mode = 0o755 if file.stat().st_mode & 0o100 else 0o644
                found[str(file.relative_to(root))] = (mode, file.read_bytes())
    return dict(sorted(found.items()))


def digest(inputs: Mapping[str, tuple[int, bytes]]) -> str:
    """Return what tells these files from any others."""
    total = hashlib.sha256()
    for name, (mode, content) in inputs.items():
        total.update(f"{name}\0{mode}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()


def context(files: Mapping[str, tuple[int, bytes]]) -> io.BytesIO:
    """Return a build context: for the same files the same bytes."""
    result = io.BytesIO()
    with tarfile.open(fileobj=result, mode="w") as tar:
        for name, (mode, content) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = mode
            tar.addfile(entry, io.BytesIO(content))
    result.seek(0)
    return result


def build(client: DockerClient, inputs: Mapping[str, tuple[int, bytes]], wanted: str) -> None:
    """Build the image, a line for each step."""
    own = {
        f"etc/docker/machine/{name}": (0o644, content)
        for name, content in machine.build_files(SUITE).items()
    }
    log: list[str] = []
    for event in client.api.build(
        fileobj=context({**inputs, **own}),
        custom_context=True,
        dockerfile=DOCKERFILE,
        tag=KERNEL_IMAGE,
        buildargs={"BASE_IMAGE": BASE_IMAGE, **machine.proxies(os.environ)},
        labels={INPUTS_LABEL: wanted},
        network_mode="host",  # proxies and mirrors may be reachable from here only
        rm=True,
        forcerm=True,
        decode=True,
    ):
        if "error" in event:
            tail = "\n".join(log[-20:])
            raise SetupError(f"building {KERNEL_IMAGE}: {event['error']}\n{tail}")
        for line in event.get("stream", "").splitlines():
            log.append(line)
            if line.startswith("Step "):
                say(f"  {' '.join(line.split())[:100]}")


def remove_superseded(client: DockerClient) -> None:
    """Remove what earlier builds left, but for the newest, which is the cache of the next build."""
    dangling = {"dangling": True}
    stages = client.images.list(filters={**dangling, "label": STAGE_LABEL})
    stages.sort(key=lambda image: str(image.attrs["Created"]))
    finished = client.images.list(filters={**dangling, "label": INPUTS_LABEL})
    for image in [*stages[:-1], *finished]:
        with suppress(APIError):  # a kernel still runs from it
            client.images.remove(str(image.id))
