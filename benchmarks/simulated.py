"""The simulated cluster as a benchmark uses it: started, asked, stopped."""

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

from benchmarks import processes
from benchmarks.client.rest import KeptConnection
from benchmarks.kernelspecs import ROOT
from benchmarks.servers import Server, ServerError
from benchmarks.simulation.documents import NETWORK_NAME
from benchmarks.simulation.kernel import AGENT_PORT, CONTROL_ADDRESS, Place

START_SECONDS = 30.0
KNOWN_SECONDS = 30.0
POLL_SECONDS = 0.05


class SimulatedCluster:
    """One that runs.

    Attributes:
        kernels: how many there are.
        env: what a gateway is to be told, so that this is its engine.
    """

    def __init__(self, socket: Path, kernels: int) -> None:
        self.kernels = kernels
        self.env = {"DOCKER_HOST": f"unix://{socket}", "EG_DOCKER_NETWORK": NETWORK_NAME}

    def calls(self) -> Counter[str]:
        """The calls of its engine until now, by method and path."""
        return Counter(json.loads(_call("GET", "/simulation/calls")))

    def begin_flow(self, kernels: int, rate: float) -> None:
        """Have the first kernels send messages, `rate` a second each."""
        _call("PUT", "/simulation/flow", json.dumps({"kernels": kernels, "rate": rate}))

    def end_flow(self) -> int:
        """Stop that; returns how many messages were sent."""
        return int(json.loads(_call("DELETE", "/simulation/flow"))["sent"])


@contextmanager
def run_cluster(folder: Path, place: Place, kernels: int) -> Iterator[SimulatedCluster]:
    """Run a cluster in a process of its own for the time of a block.

    Raises:
        ServerError: it did not come up: perhaps its addresses are taken.
    """
    work = folder / f"{place}-{kernels}-{time.monotonic_ns()}"
    work.mkdir(parents=True)
    socket, log = work / "engine.sock", work / "log"
    command = [sys.executable, "-m", "benchmarks.simulation", str(socket), place, str(kernels)]
    env = {"PATH": "/usr/bin:/bin", "HOME": str(work), "PYTHONPATH": str(ROOT / "tools")}
    process = processes.spawn(command, env, log, ROOT)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not socket.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                reason = log.read_text(errors="replace")[-800:]
                raise ServerError(f"the simulated cluster did not start: {reason}")
            time.sleep(POLL_SECONDS)
        yield SimulatedCluster(socket, kernels)
    finally:
        processes.stop(process)


def connect_to_floor() -> KeptConnection:
    """A connection to a server that answers `canned` requests and does nothing else for them."""
    return KeptConnection(CONTROL_ADDRESS, AGENT_PORT)


def canned(size: int) -> str:
    """The path of an answer of `size` bytes."""
    return f"/simulation/canned?bytes={size}"


def wait_until_known(server: Server, kernels: int) -> bytes:
    """Wait until a gateway has heard of the state of every kernel.

    Returns:
        Its answer to `GET /api/kernels`.
    """
    deadline = time.monotonic() + KNOWN_SECONDS
    rest = server.rest
    with closing(KeptConnection(rest.host, rest.port, rest.token)) as kept:
        while True:
            answer = kept.get("/api/kernels")
            states = [model["execution_state"] for model in json.loads(answer)]
            known = len(states) - states.count("starting")
            if known == kernels:
                return answer
            if time.monotonic() > deadline:
                raise ServerError(f"the gateway knows {known} of {kernels} kernels")
            time.sleep(POLL_SECONDS)


def _call(method: str, path: str, body: str | None = None) -> bytes:
    connection = HTTPConnection(CONTROL_ADDRESS, AGENT_PORT, timeout=10)
    try:
        connection.request(method, path, body)
        return connection.getresponse().read()
    finally:
        connection.close()
