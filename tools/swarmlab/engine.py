"""The Docker engine of a machine of the lab."""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from docker import DockerClient

from devtools.console import SetupError, wait_until
from devtools.private_engine import ready
from swarmlab.lock import UNDERLAYS
from swarmlab.machine import Machine, only_child

START_TIMEOUT = 180.0
STOP_TIMEOUT = 120.0
REQUEST_TIMEOUT = 120
PORT = 2375


class NodeEngine:
    """A dockerd that may end while its machine goes on."""

    def __init__(self, machine: Machine, listen: Sequence[str] = ()) -> None:
        """`listen` has addresses of the machine on which it answers, besides its socket."""
        self.machine = machine
        self.listen = listen
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """Where it answers, for this machine and its host."""
        return self.machine.paths.run / "docker.sock"

    @property
    def host(self) -> str:
        """`DOCKER_HOST` for this engine."""
        return f"unix://{self.socket}"

    @property
    def is_up(self) -> bool:
        """Whether it answers."""
        return ready(self.socket)

    def client(self) -> DockerClient:
        """Return a client, which the caller closes."""
        return DockerClient(base_url=self.host, timeout=REQUEST_TIMEOUT)

    @property
    def log(self) -> Path:
        """Its output since its node was made."""
        return self.machine.paths.home / "dockerd.log"

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            SetupError: it does not; carries the last lines of its log.
        """
        home = self.machine.paths.home
        config = home / "etc" / "daemon.json"
        config.write_text("{}", encoding="ascii")
        # of one that was killed; the number may be that of another process now
        self.machine.path("/run/docker.pid").unlink(missing_ok=True)
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(
                self.machine.enter(
                    "dockerd",
                    f"--config-file={config}",
                    f"--data-root={home / 'root'}",
                    "--exec-root=/run/docker",
                    "--pidfile=/run/docker.pid",
                    "--storage-driver=overlay2",
                    "--exec-opt=native.cgroupdriver=cgroupfs",
                    f"--cgroup-parent={self.machine.cgroup}",
                    f"--host={self.host}",
                    "--host=unix:///run/docker.sock",  # where containers on it look for it
                    *(f"--host=tcp://{address}:{PORT}" for address in self.listen),
                    f"--insecure-registry={UNDERLAYS}",  # one of this machine, for tests
                    "--tls=false",  # without this it waits, so that its warning is read
                ),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        process = self.process
        try:
            wait_until(lambda: process.poll() is not None or self.is_up, START_TIMEOUT, "dockerd")
        finally:
            if process.poll() is not None:
                lines = self.log.read_text(errors="replace").splitlines()
                raise SetupError(f"{self.machine.name}: no dockerd:\n" + "\n".join(lines[-12:]))

    def kill(self) -> None:
        """Kill it; its containers go on until the next one starts and stops them."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Let it stop its containers and end."""
        self._end(signal.SIGTERM)

    def gone(self) -> None:
        """Wait for its end after its machine was powered off."""
        if self.process is not None:
            self.process.wait(STOP_TIMEOUT)
            self.process = None

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        os.kill(only_child(self.process.pid), number)
        self.process.wait(STOP_TIMEOUT)
        self.process = None
