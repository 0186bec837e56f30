"""The context of every measurement: folders, rounds, servers, and a list of failures."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import zmq

from benchmarks.client.rest import RestError
from benchmarks.engine import EngineMissingError
from benchmarks.peers import PeerUnreachableError
from benchmarks.report import Figure
from benchmarks.servers import Column, Server, ServerError, local_site, run_server
from jupyter_wire.websocket import WebSocketClosedError

REASON_CHARACTERS = 600
FAILURES = (
    OSError,
    RestError,
    ServerError,
    PeerUnreachableError,
    EngineMissingError,
    WebSocketClosedError,
    zmq.Again,
)
"""Errors that cost one column and not the others; TimeoutError is an OSError."""


@dataclass
class Bench:
    """One run.

    Attributes:
        folder: temporary, gone after the run.
        jupyter_path: the kernelspecs.
        is_quick: fewer rounds and messages: to see that everything works, not to publish.
        columns: what is measured.
        failures: what was noted, at length.
    """

    folder: Path
    jupyter_path: Path
    is_quick: bool
    columns: frozenset[Column]
    failures: list[str] = field(default_factory=list)

    def rounds(self, usual: int) -> int:
        """How often to repeat a measurement."""
        return max(1, usual // 3) if self.is_quick else usual

    @contextmanager
    def noting(self, column: Column, *figures: Figure) -> Iterator[None]:
        """Run a block for one column; if it fails, say so in its cells and go on."""
        try:
            yield
        except FAILURES as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self.failures.append(f"{column}, {figures[0].name}: {reason[:REASON_CHARACTERS]}")
            remark = str(error) if isinstance(error, EngineMissingError) else "failed, see below"
            for figure in figures:
                figure.remarks.setdefault(column, remark)

    @contextmanager
    def server(self, column: Column, env: Mapping[str, str] | None = None) -> Iterator[Server]:
        """A server for the time of a block, told `env` beyond the usual."""
        with run_server(column, self.folder, self.jupyter_path, local_site(env)) as server:
            yield server

    def kernel_json(self, name: str) -> Path:
        """The `kernel.json` of one of the kernelspecs; EngineMissingError if it is not there."""
        path = self.jupyter_path / "kernels" / name / "kernel.json"
        if not path.exists():
            raise EngineMissingError(f"no kernelspec {name}")
        return path


def percentile(values: list[float], percent: float) -> float:
    """The smallest of the values that at least `percent` of them do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def milliseconds_since(started: float) -> float:
    """Of `time.perf_counter()`."""
    return (time.perf_counter() - started) * 1000
