"""The project's images: built when missing, or when their files have changed."""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from docker import DockerClient
from docker.errors import APIError, ImageNotFound

from devtools import machine
from devtools.base_image import BASE_IMAGE, SUITE, ensure_base_image
from devtools.console import SetupError, say, step
from devtools.engine import connect
from devtools.host import ROOT
from enterprise_gateway._version import __version__


@dataclass(frozen=True)
class Image:
    """An image that the project builds."""

    name: str
    """Its tag is `localhost/enterprise-gateway/NAME:VERSION`, its folder etc/docker/NAME."""
    inputs: tuple[str, ...]
    """The files and folders that the build may use, besides its own folder and the common ones."""
    is_optional: bool = False
    """Whether it is built only by name: it is large, and few have a use for it."""

    @property
    def tag(self) -> str:
        """Its name on the engine."""
        return f"localhost/enterprise-gateway/{self.name}:{__version__}"

    @property
    def folder(self) -> str:
        """The folder of its Dockerfile."""
        return f"etc/docker/{self.name}"


AGENT = ("etc/kernel-launchers/bootstrap", "kernel_agent")
"""The files of the agent, in each kernel image."""

KERNEL = Image("kernel-py", (*AGENT, "requirements/kernel-py.txt"))
R_KERNEL = Image("kernel-r", AGENT)
SCALA_KERNEL = Image("kernel-scala", (*AGENT, "requirements/kernel-scala.txt"))
TENSORFLOW_KERNEL = Image("kernel-tf-py", (*AGENT, "requirements/kernel-tf-py.txt"))
TENSORFLOW_GPU_KERNEL = Image(
    "kernel-tf-gpu-py", (*AGENT, "requirements/kernel-tf-gpu-py.txt"), is_optional=True
)
GATEWAY = Image(
    "enterprise-gateway",
    (
        "LICENSE",
        "README.md",
        "enterprise_gateway",
        "etc/kernel-launchers",
        "etc/kernelspecs",
        "kernel_agent",
        "pyproject.toml",
        "requirements/server.txt",
    ),
)
PROXY = Image("proxy", ())
IMAGES = (
    KERNEL,
    GATEWAY,
    PROXY,
    R_KERNEL,
    SCALA_KERNEL,
    TENSORFLOW_KERNEL,
    TENSORFLOW_GPU_KERNEL,
)
USUAL_IMAGES = tuple(image for image in IMAGES if not image.is_optional)
SWARM_IMAGES = (KERNEL, GATEWAY, PROXY, R_KERNEL)
"""The images on the nodes of a Swarm on this machine; the others are too large to copy."""

MACHINE = "etc/docker/machine"
"""The folder with the settings of this machine for a build."""

STEPS = "etc/docker/steps"
"""The folder with the steps that builds share."""

INPUTS_LABEL = "enterprise-gateway.inputs"
"""Label of a finished image: the digest of its inputs."""

STAGE_LABEL = "enterprise-gateway.stage"
"""Label of images that exist only to make the next build faster: the name of the finished one."""


def find_images(names: Iterable[str]) -> tuple[Image, ...]:
    """Return the images of these names; the usual ones if there are none.

    Raises:
        SetupError: there is no image of a name.
    """
    known = {image.name: image for image in IMAGES}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SetupError(f"no such image: {', '.join(unknown)} (there are {', '.join(known)})")
    return tuple(known[name] for name in names) or USUAL_IMAGES


def ensure_images(host: str, images: Sequence[Image]) -> None:
    """Build the images that the engine lacks, or has of other files than this checkout's.

    Raises:
        SetupError: one cannot be built; carries the last lines of the build.
    """
    client = connect(host)
    try:
        for image in images:
            ensure_image(client, host, image)
    finally:
        client.close()


def ensure_image(client: DockerClient, host: str, image: Image) -> None:
    """Build an image, unless the engine has it of the same files."""
    inputs = read_inputs(ROOT, (image.folder, MACHINE, STEPS, *image.inputs))
    wanted = digest(inputs)
    if present(client, image) == wanted:
        return
    ensure_base_image(client, host)
    with step(f"Building {image.tag} (once; again when its files change)"):
        build(client, image, inputs, wanted)
    remove_superseded(client, image)


def built_images(host: str) -> frozenset[str]:
    """Return the project's images on the engine, of this version, by what the engine calls them."""
    client = connect(host)
    try:
        return frozenset(image.tag for image in IMAGES if present(client, image) is not None)
    finally:
        client.close()


def present(client: DockerClient, image: Image) -> str | None:
    """Return the digest from which the image on the engine was made."""
    try:
        labels: dict[str, str] = client.images.get(image.tag).labels
    except ImageNotFound:
        return None
    return labels.get(INPUTS_LABEL)


def read_inputs(root: Path, names: Iterable[str]) -> dict[str, tuple[int, bytes]]:
    """Return mode and content of all files below `names`, by path relative to `root`."""
    found = {}
    for name in names:
        top = root / name
        for file in [top, *top.rglob("*")]:
            path = file.relative_to(root)
            generated = {"__pycache__", "build"} & set(path.parts) or ".egg-info" in str(path)
            if file.is_file() and not generated:
                mode = 0o755 if file.stat().st_mode & 0o100 else 0o644
                found[str(path)] = (mode, file.read_bytes())
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


def build(
    client: DockerClient, image: Image, inputs: Mapping[str, tuple[int, bytes]], wanted: str
) -> None:
    """Build an image, a line for each step."""
    own = {
        f"{MACHINE}/{name}": (0o644, content)
        for name, content in machine.build_files(SUITE).items()
    }
    log: list[str] = []
    for event in client.api.build(
        fileobj=context({**inputs, **own}),
        custom_context=True,
        dockerfile=f"{image.folder}/Dockerfile",
        tag=image.tag,
        buildargs={"BASE_IMAGE": BASE_IMAGE, **machine.proxies(os.environ)},
        labels={INPUTS_LABEL: wanted},
        network_mode="host",  # proxies and mirrors may be reachable from here only
        rm=True,
        forcerm=True,
        decode=True,
    ):
        if "error" in event:
            tail = "\n".join(log[-20:])
            raise SetupError(f"building {image.tag}: {event['error']}\n{tail}")
        for line in event.get("stream", "").splitlines():
            log.append(line)
            if line.startswith("Step "):
                say(f"  {' '.join(line.split())[:100]}")


def remove_superseded(client: DockerClient, image: Image) -> None:
    """Remove the stages of earlier builds but the newest, which is the cache of the next."""
    dangling = {"dangling": True}
    label = f"{STAGE_LABEL}={image.name}"
    stages = client.images.list(filters={**dangling, "label": label})
    stages.sort(key=lambda stage: str(stage.attrs["Created"]))
    finished = client.images.list(filters={**dangling, "label": INPUTS_LABEL})
    for superseded in [*stages[:-1], *finished]:
        with suppress(APIError):  # a kernel still runs from it
            client.images.remove(str(superseded.id))
