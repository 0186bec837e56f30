"""Images for every node of a lab at the price of one.

A *template* is a data root of Docker in which the images were loaded once. It is kept in the cache
folder. A node starts with a copy: Docker's database is copied, while layers, which Docker writes
once and then only reads, are hard links.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from docker import DockerClient
from docker.errors import ImageNotFound

from bringup.console import SetupError, run, step
from bringup.engine import connect, find
from bringup.swarm_engine import NodeEngine
from bringup.swarm_machine import Machine, Places, remove_machine


class Template:
    """The template of this user, which labs use one at a time."""

    def __init__(self, at: Places, name: str, engine: str | None) -> None:
        """`name` is that of the machine that loads images; `engine` is where they come from."""
        self.at = at
        self.engine = engine
        self.name = name
        self.list = at.home / "images.json"
        """Ids of the images by name; missing while the data root is not sound."""

    def copy(self, images: Sequence[str], roots: Sequence[Path]) -> None:
        """Make data roots in which the images are, as the engine has them.

        Raises:
            SetupError: that engine lacks one.
        """
        with locked(self.at.home.with_suffix(".lock")), source(self.engine) as client:
            wanted = find_images(client, images)
            if not wanted.items() <= self.read().items():
                with step(f"Loading {', '.join(images)} for the nodes of a Swarm"):
                    self.load(client, wanted)
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda root: copy_root(self.at.home / "root", root), roots))

    def read(self) -> dict[str, str]:
        """Return what is in it."""
        try:
            found: dict[str, str] = json.loads(self.list.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return found

    def load(self, client: DockerClient, wanted: Mapping[str, str]) -> None:
        """Load what is missing or of another id, and remove what that replaces."""
        present = self.read()
        if not present:
            remove_machine(self.at)
        self.list.unlink(missing_ok=True)
        machine = Machine(self.name, self.at)
        engine = NodeEngine(machine)
        with ExitStack() as stack:
            stack.callback(machine.power_off)
            machine.boot()
            engine.start()
            own = engine.client()
            stack.callback(own.close)
            for name, image_id in wanted.items():
                if present.get(name) != image_id:
                    stream: Any = client.images.get(name).save(named=name)
                    own.images.load(stream)  # takes more than its annotation says: a generator
            own.images.prune()
            present = {tag: str(image.id) for image in own.images.list() for tag in image.tags}
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


def copy_root(template: Path, root: Path) -> None:
    """Make a data root with the template's images."""
    root.mkdir(parents=True)
    run(["cp", "--archive", "--link", str(template / "overlay2"), str(root)])
    run(["cp", "--archive", str(template / "image"), str(root)])


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the exclusive lock on a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
