"""A real gateway with folders, port, token and user name of its own."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import requests

from enterprise_gateway.app.commands.kernelspecs import Mode, install_kernelspecs
from harness.clients.gateway_client import GatewayClient
from harness.engines.leftovers import find_containers, find_processes, remove_kernels
from harness.waiting import wait_until

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
START_DEADLINE = 180.0
END_DEADLINE = 60.0
FIRST_PORT, EPHEMERAL_PORT = 10_000, 32_768
"""Between them nothing else picks ports: see ip(7) on `ip_local_port_range`."""


def find_free_port() -> int:
    """Return a port that nothing listens on, and that no other process of these tests gets.

    Linux does not assign it to a process that binds to port 0, so it stays free. The abstract
    socket that reserves it lasts as long as this process.
    """
    while True:
        port = FIRST_PORT + secrets.randbelow(EPHEMERAL_PORT - FIRST_PORT)
        with (
            socket.socket() as probe,
            socket.socket(socket.AF_UNIX) as reservation,
            suppress(OSError),
        ):
            reservation.bind(f"\0enterprise-gateway-test/{port}")
            probe.bind(("0.0.0.0", port))
            reservation.detach()
            return port


def clean_environment(home: Path) -> dict[str, str]:
    """Return an environment in which Jupyter programs see no files or settings of the user."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JUPYTER", "EG_", "KG_", "KERNEL_", "IPYTHON", "PYTEST"))
    }
    return {
        **kept,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(home),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "IPYTHONDIR": str(home / "ipython"),
        "MPLCONFIGDIR": str(home / "matplotlib"),
        "PYTHONUNBUFFERED": "1",
    }


class Gateway(GatewayClient):
    """One gateway that can be killed and started again on the same port, with the same folders."""

    host = "127.0.0.1"
    """Where its clients reach it."""
    kernel_form = Mode.DOCKER
    """The form of the kernelspecs that it installs."""

    def __init__(
        self,
        home: Path,
        *,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        port: int = 0,
        token: str = "",
        username: str = "",
    ) -> None:
        """Lay out the folders and install the kernelspecs; `start` starts the process.

        Port, token and user name are its own unless they are given.
        """
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.options = options
        self.port = port or find_free_port()
        super().__init__(
            f"http://{self.host}:{self.port}",
            token=token or secrets.token_hex(16),
            username=username or f"t{secrets.token_hex(4)}",
        )
        self.log_path = home / "gateway.log"
        # Where local kernels' sockets are if `home` has a long path; killed, it leaves them.
        self._temporary = tempfile.TemporaryDirectory(prefix="egt")
        self.env = {
            **clean_environment(home),
            "TMPDIR": self._temporary.name,
            "LOGNAME": self.username,
            "EG_IP": "127.0.0.1",
            "EG_PORT": str(self.port),
            "EG_PORT_RETRIES": "0",
            "EG_KERNEL_LAUNCH_TIMEOUT": "120",
            "EG_AUTH_TOKEN": self.token,
            "EG_LIST_KERNELS": "True",
            "EG_ALLOWED_IMAGES": "*",
            **(env or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.install_kernelspecs()

    def install_kernelspecs(self) -> None:
        """Install the project's kernelspecs where only this gateway looks."""
        kernels = self.home / "share/jupyter/kernels"
        install_kernelspecs(kernels, self.kernel_form)
        self.env["JUPYTER_PATH"] = str(self.home / "share/jupyter")

    def command(self) -> list[str]:
        """Return the command line of the process."""
        return [str(BIN / "jupyter-enterprisegateway"), *self.options]

    def start(self) -> None:
        """Start the process and wait until it answers."""
        self.start_process()
        wait_until(self.answers, deadline=START_DEADLINE, what="the gateway's first answer")

    def start_process(self) -> None:
        """Start the process, whose address need not be the one configured."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                env=self.env,
                cwd=self.home,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def answers(self) -> bool:
        """Whether the gateway serves requests now."""
        if self.process is None or self.process.poll() is not None:
            raise RuntimeError(f"the gateway has ended:\n{self.read_log()}")
        try:
            return self.request("GET", "/api", timeout=5).ok
        except (requests.ConnectionError, requests.Timeout):
            return False

    def kill(self) -> None:
        """End the process the hard way, as a machine that loses it would."""
        self.send_signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        """Send SIGTERM; returns the exit code."""
        self.send_signal(signal.SIGTERM)
        return self.wait()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end of the process; returns its exit code."""
        assert self.process is not None
        return self.process.wait(END_DEADLINE)

    def close(self) -> None:
        """End the process and remove everything that it made."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self.disconnect()
        self.remove_kernels()
        self._temporary.cleanup()

    def remove_kernels(self) -> None:
        """Remove what is left of its kernels."""
        remove_kernels(self.username)

    def read_log(self) -> str:
        """Return what the process printed, over all its starts."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def run_command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `jupyter enterprisegateway ARGUMENTS` with the gateway's environment."""
        return subprocess.run(
            [str(BIN / "jupyter-enterprisegateway"), *arguments],
            env=self.env,
            cwd=self.home,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def wait_until_no_kernels(self) -> None:
        """Wait until no container and no process of this gateway's kernels is left."""
        wait_until(
            lambda: not (find_containers(self.username) or find_processes(self.kernel_marker)),
            what="end of all kernels",
        )

    @property
    def kernel_marker(self) -> str:
        """The variable that each of its kernels, and no other process, has."""
        return f"KERNEL_USERNAME={self.username}"
