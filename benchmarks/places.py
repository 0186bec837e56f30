"""Where kernels run: what each server starts there, and the bare kernel of the floor."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from benchmarks import eg_containers, engine, kernelspecs
from benchmarks.bench import Bench
from benchmarks.client.channel import Connection, ZmqChannel
from benchmarks.report import Figure
from benchmarks.servers import SERVERS, Column, Server

BareKernel = Callable[[Path], AbstractContextManager[Connection]]
"""Starts a kernel with nothing around it; may use the folder, which is its own."""


class Serve(Protocol):
    """Runs a server for the time of a block."""

    def __call__(
        self, column: Column, env: Mapping[str, str] | None = None, /
    ) -> AbstractContextManager[Server]:
        """`env` is what it is told beyond the usual."""


@dataclass(frozen=True)
class Place:
    """One place.

    Attributes:
        label: for the names of figures.
        kernels: names of kernelspecs; without the servers that can not run kernels there.
        bare: None where there can be none.
        serve: runs a server whose kernels are there, told variables beyond the usual.
        dial: connects to a bare kernel.
        pause: seconds before each start, in which what the last one left goes away.
    """

    label: str
    kernels: dict[Column, str]
    bare: BareKernel | None
    serve: Serve
    dial: Callable[[Connection], ZmqChannel] = ZmqChannel
    pause: float = 0.0


LOCAL = "local"
CONTAINER = "container"


def local(bench: Bench, name: str) -> Place:
    """Processes of this machine, by one of our own kernelspecs."""
    kernels = {column: name for column in SERVERS if column in bench.columns}
    return Place(LOCAL, kernels, partial(kernelspecs.bare_kernel, name), bench.server)


def containers(bench: Bench, figures: list[Figure]) -> Place:
    """Containers of the image that `python_docker` names; notes in `figures` what can not be."""
    kernels: dict[Column, str] = {}
    image = ""
    for column in (Column.FLOOR, Column.GATEWAY):
        if column in bench.columns:
            with bench.noting(column, *figures):
                image = engine.kernel_image(bench.kernel_json(kernelspecs.DOCKER))
    if not image:
        return Place(CONTAINER, {}, None, bench.server)
    if Column.GATEWAY in bench.columns:
        kernels[Column.GATEWAY] = kernelspecs.DOCKER
    if Column.ENTERPRISE_GATEWAY in bench.columns:
        with bench.noting(Column.ENTERPRISE_GATEWAY, *figures):
            eg_containers.prepare(image, bench.folder, bench.jupyter_path)
            kernels[Column.ENTERPRISE_GATEWAY] = eg_containers.KERNELSPEC

    def bare(_folder: Path) -> AbstractContextManager[Connection]:
        return engine.bare_kernel(image)

    return Place(CONTAINER, kernels, bare, bench.server)
