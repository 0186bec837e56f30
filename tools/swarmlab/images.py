"""Images for every node of a lab at the price of one.

A *template* is a data root of Docker in which the images were loaded once. It is kept in the cache
folder. A node starts with a copy of Docker's database. Layers, which Docker writes once and then
only reads, it has as symbolic links into the template: no time, no space, nothing to remove.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from docker import DockerClient
from docker.errors import ImageNotFound

from devtools.console import SetupError, step
from devtools.engine import connect, find
from swarmlab.engine import NodeEngine
from swarmlab.machine import Machine, Paths


class Template:
    """The template of this user."""

    def __init__(self, paths: Paths, name: str, engine: str | None) -> None:
        """`name` is that of the machine that loads images; `engine` is where they come from."""
        self.paths = paths
        self.name = name
        self.engine = engine
        self.root = paths.home / "root"
        self.list = paths.home / "images.json"
        """Ids of the images by name; missing while they change."""

    @contextmanager
    def shared(self, images: Sequence[str], roots: Sequence[Path]) -> Iterator[None]:
        """Make data roots in which the images are, as the engine has them; good while inside.

        Raises:
            SetupError: that engine lacks one.
        """
        self.paths.home.mkdir(parents=True, exist_ok=True)
        with (self.paths.home / "users").open("w") as users:
            with (self.paths.home / "lock").open("w") as lock, source(self.engine) as client:
                fcntl.flock(lock, fcntl.LOCK_EX)
                wanted = find_images(client, images)
                if not wanted.items() <= self.read().items():
                    with step(f"Loading {', '.join(images)} for the nodes of a Swarm"):
                        self.load(client, wanted, alone=try_lock(users))
                fcntl.flock(users, fcntl.LOCK_SH)
                for root in roots:
                    link_root(self.root, root)
            yield

    def read(self) -> dict[str, str]:
        """Return its images: ids by name."""
        try:
            found: dict[str, str] = json.loads(self.list.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # a lab was killed when it wrote this
            return {}
        return found

    def load(self, client: DockerClient, wanted: Mapping[str, str], *, alone: bool) -> None:
        """Load the images that are missing or have changed; remove others if no lab uses it."""
        self.list.unlink(missing_ok=True)
        machine = Machine(self.name, self.paths)
        engine = NodeEngine(machine)
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, self.paths.run, ignore_errors=True)
            stack.callback(machine.power_off)
            machine.boot()
            engine.start()
            own = engine.client()
            stack.callback(own.close)
            present = tagged_images(own)
            for name, image_id in wanted.items():
                if present.get(name) != image_id:
                    load_image(client, own, name, image_id)
            if alone:
                for name in present.keys() - tagged_images(client).keys():
                    own.images.remove(name)
                own.images.prune()
            present = tagged_images(own)
            engine.stop()
        self.list.write_text(json.dumps(present), encoding="utf-8")


@contextmanager
def source(engine: str | None) -> Iterator[DockerClient]:
    """Yield a client of an engine, by default that of the environment.

    Raises:
        SetupError: there is none.
    """
    host = engine or find(os.environ)
    if host is None:
        raise SetupError("no Docker engine answers from which the Swarm could take its images")
    client = connect(host)
    try:
        yield client
    finally:
        client.close()


def find_images(client: DockerClient, names: Sequence[str]) -> dict[str, str]:
    """Return the ids of images by name.

    Raises:
        SetupError: one is missing.
    """
    try:
        return {name: str(client.images.get(name).id) for name in names}
    except ImageNotFound as exc:
        raise SetupError(f"the Swarm's nodes need an image that is missing: {exc}") from exc


def tagged_images(client: DockerClient) -> dict[str, str]:
    """Return the ids of all images that have names, by name."""
    # objects of the SDK would cost a request for each image, which may be gone by then
    return {
        tag: str(image["Id"])
        for image in client.api.images()
        for tag in image["RepoTags"] or ()
        if tag != "<none>:<none>"
    }


def load_image(source: DockerClient, target: DockerClient, name: str, image_id: str) -> None:
    """Give an engine an image of another, at once if it has it under another name or none."""
    try:
        target.images.get(image_id).tag(name)
    except ImageNotFound:
        stream: Any = source.images.get(name).save(named=name)
        target.images.load(stream)  # takes more than its annotation says: a generator


def link_root(template: Path, root: Path) -> None:
    """Make a data root with the template's images."""
    layers = root / "overlay2"
    layers.mkdir(mode=0o710, parents=True)
    shutil.copytree(template / "image", root / "image")
    shutil.copytree(template / "overlay2" / "l", layers / "l", symlinks=True)
    for layer in (template / "overlay2").iterdir():
        if layer.name != "l":
            (layers / layer.name).symlink_to(layer)


def try_lock(stream: IO[str]) -> bool:
    """Take the exclusive lock on a file if it is free; whether it was."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
