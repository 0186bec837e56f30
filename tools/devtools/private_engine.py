"""A private Docker engine, for machines where none answers; docs/engine.md describes it.

Every caller holds a shared lock on one file, its *lease*. A keeper process, which the first
caller starts, waits for the exclusive lock on the same file, and so for the end of the last
caller: the kernel releases the locks of a process that ends. Then it stops the engine.
"""

import fcntl
import os
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from docker import DockerClient
from docker.errors import NotFound
from docker.models.containers import Container

from devtools.console import SetupError, say, step
from devtools.host import ROOT, cache_dir, can_install, install_commands

START_TIMEOUT = 180.0
PING_TIMEOUT = 5.0
STOP_TIMEOUT = 60.0
CONTAINER_STOP_TIMEOUT = 5
PACKAGES = {
    "dockerd": "docker.io",
    "iptables": "iptables",
    "ip": "iproute2",
    "setpriv": "util-linux",
}


@dataclass(frozen=True)
class Paths:
    """The files and the network interface of a private engine."""

    data: Path
    """Images; kept from run to run."""
    run: Path
    """Socket, locks and logs; a short path, since that of a socket has at most 107 bytes."""
    bridge: str
    """Name of the network interface, at most 15 characters."""

    @property
    def socket(self) -> Path:
        """Where the engine answers."""
        return self.run / "docker.sock"

    @property
    def host(self) -> str:
        """`DOCKER_HOST` for this engine."""
        return f"unix://{self.socket}"

    @property
    def log(self) -> Path:
        """The output of the keeper and of dockerd."""
        return self.run / "engine.log"


def default_paths() -> Paths:
    """Return the paths of this machine's engine."""
    return Paths(cache_dir() / "engine", Path("/run/enterprise-gateway"), "eg-engine0")


@contextmanager
def lease(paths: Paths) -> Iterator[str]:
    """Hold the private engine, started if need be; yields its address.

    Raises:
        SetupError: it cannot be started; the message says why.
    """
    if os.geteuid() != 0:
        raise SetupError("none answers, and only root can start a private one")
    if not shutil.which("dockerd") and not can_install():
        raise SetupError(
            "none answers, and docker is installed by itself on Debian and Ubuntu only"
        )
    install_commands(PACKAGES)
    paths.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    keeper = None
    with (paths.run / "lease").open("w") as own:
        with (paths.run / "start").open("w") as start:
            fcntl.flock(start, fcntl.LOCK_EX)
            fcntl.flock(own, fcntl.LOCK_SH)  # waits for an engine that is being stopped
            if ready(paths.socket):
                say(f"Docker engine: {paths.host} (private, shared with another run)")
            else:
                with step(f"Starting a private Docker engine at {paths.host}"):
                    keeper = start_keeper(paths)
        try:
            yield paths.host
        finally:
            fcntl.flock(own, fcntl.LOCK_UN)
            if keeper is not None:
                await_end(keeper)


def ready(path: Path) -> bool:
    """Whether the engine of a socket answers a ping (endpoint `/_ping`)."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PING_TIMEOUT)
        try:
            probe.connect(str(path))
            probe.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
            return probe.recv(64).startswith((b"HTTP/1.0 200", b"HTTP/1.1 200"))
        except OSError:
            return False


@contextmanager
def connected(paths: Paths) -> Iterator[DockerClient]:
    """Yield a client of the private engine."""
    client = DockerClient(base_url=paths.host, timeout=30)
    try:
        yield client
    finally:
        client.close()


def start_keeper(paths: Paths) -> subprocess.Popen[bytes]:
    """Start keeper and engine, and wait until the engine answers."""
    with paths.log.open("wb") as log:
        keeper = subprocess.Popen(
            [
                sys.executable,
                str(ROOT / "tools"),
                "keep-engine",
                str(paths.data),
                str(paths.run),
                paths.bridge,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the caller; the engine ends after it
        )
    try:
        await_start(paths, keeper)
        with connected(paths) as client:
            remove_containers(client)  # of a run that was killed together with its keeper
    except BaseException:
        keeper.terminate()
        raise
    return keeper


def await_start(paths: Paths, keeper: subprocess.Popen[bytes]) -> None:
    """Wait until the engine answers."""
    deadline = time.monotonic() + START_TIMEOUT
    while not ready(paths.socket):
        if keeper.poll() is not None or time.monotonic() > deadline:
            lines = paths.log.read_text(errors="replace").splitlines()
            raise SetupError("the private one did not start:\n" + "\n".join(lines[-12:]))
        time.sleep(0.1)


def await_end(keeper: subprocess.Popen[bytes]) -> None:
    """Wait until the keeper has stopped the engine, unless another run goes on using it."""
    stdout = keeper.stdout
    if stdout is None or not select.select([stdout], [], [], 1.0)[0]:
        return
    with suppress(subprocess.TimeoutExpired):
        keeper.wait(STOP_TIMEOUT)


def remove_containers(client: DockerClient) -> None:
    """End and remove all containers; each gets some time to end by itself."""

    def remove(container: Container) -> None:
        with suppress(NotFound):
            container.stop(timeout=CONTAINER_STOP_TIMEOUT)
            container.remove(force=True, v=True)

    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(remove, client.containers.list(all=True, ignore_removed=True)))
