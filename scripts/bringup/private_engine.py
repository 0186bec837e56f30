"""A Docker engine of our own, for machines where none answers; docs/engine.md tells the whole.

Every caller holds a shared lock on one file, its *lease*. A guardian process, which the first
caller starts, waits for the exclusive lock on the same file, and thereby for the end of the last
caller: locks go with their process, however it ends. Then it stops the engine.
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

from bringup.console import SetupError, say, step
from bringup.host import ROOT, cache_dir, can_install, install_commands

START_TIMEOUT = 90.0
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
class Places:
    """Where the private engine keeps what."""

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
        """What guardian and dockerd have to say."""
        return self.run / "engine.log"


def places() -> Places:
    """Return the places on this machine."""
    return Places(cache_dir() / "engine", Path("/run/enterprise-gateway"), "eg-engine0")


@contextmanager
def lease(at: Places) -> Iterator[str]:
    """Hold the private engine, started if need be; yields its address.

    Raises:
        SetupError: it cannot be had; the message says why.
    """
    if os.geteuid() != 0:
        raise SetupError("none answers, and only root can start a private one")
    if not shutil.which("dockerd") and not can_install():
        raise SetupError(
            "none answers, and docker is installed by itself on Debian and Ubuntu only"
        )
    install_commands(PACKAGES)
    at.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    guardian = None
    with (at.run / "lease").open("w") as own:
        with (at.run / "start").open("w") as start:
            fcntl.flock(start, fcntl.LOCK_EX)
            fcntl.flock(own, fcntl.LOCK_SH)  # waits for an engine that is being stopped
            if ready(at.socket):
                say(f"Docker engine: {at.host} (private, shared with another run)")
            else:
                with step(f"Starting a private Docker engine at {at.host}"):
                    guardian = start_guardian(at)
        try:
            yield at.host
        finally:
            fcntl.flock(own, fcntl.LOCK_UN)
            if guardian is not None:
                await_end(guardian)


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
def connected(at: Places) -> Iterator[DockerClient]:
    """Yield a client of the private engine."""
    client = DockerClient(base_url=at.host, timeout=30)
    try:
        yield client
    finally:
        client.close()


def start_guardian(at: Places) -> subprocess.Popen[bytes]:
    """Start guardian and engine, and wait until the engine answers."""
    with at.log.open("wb") as log:
        guardian = subprocess.Popen(
            [
                sys.executable,
                str(ROOT / "scripts"),
                "guard-engine",
                str(at.data),
                str(at.run),
                at.bridge,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the caller, whose end is what counts
        )
    try:
        await_start(at, guardian)
        with connected(at) as client:
            remove_containers(client)  # of a run that was killed together with its guardian
    except BaseException:
        guardian.terminate()
        raise
    return guardian


def await_start(at: Places, guardian: subprocess.Popen[bytes]) -> None:
    """Wait until the engine answers."""
    deadline = time.monotonic() + START_TIMEOUT
    while not ready(at.socket):
        if guardian.poll() is not None or time.monotonic() > deadline:
            lines = at.log.read_text(errors="replace").splitlines()
            raise SetupError("the private one did not start:\n" + "\n".join(lines[-12:]))
        time.sleep(0.1)


def await_end(guardian: subprocess.Popen[bytes]) -> None:
    """Wait until the guardian has stopped the engine, unless another run goes on using it."""
    stdout = guardian.stdout
    if stdout is None or not select.select([stdout], [], [], 1.0)[0]:
        return
    with suppress(subprocess.TimeoutExpired):
        guardian.wait(STOP_TIMEOUT)


def remove_containers(client: DockerClient) -> None:
    """End and remove all containers; each gets some time to end by itself."""

    def remove(container: Container) -> None:
        with suppress(NotFound):
            container.stop(timeout=CONTAINER_STOP_TIMEOUT)
            container.remove(force=True, v=True)

    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(remove, client.containers.list(all=True)))
