"""A stock Jupyter server or JupyterLab that gets its kernels from a gateway."""

import json
import secrets
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from harness.clients.channels import Channels
from harness.clients.gateway_client import REQUEST_TIMEOUT, GatewayClient
from harness.clients.snippets import client_env, read_exports, read_snippet
from harness.gateways.gateway import BIN, START_DEADLINE, find_free_port
from harness.waiting import wait_until
from jupyter_wire.messages import Codec


class NotebookServer:
    """`jupyter lab --gateway-url=…`, started as docs/clients.md says."""

    def __init__(self, gateway: GatewayClient, home: Path) -> None:
        """Prepare; `start` starts it."""
        home.mkdir(parents=True, exist_ok=True)
        self.gateway = gateway
        self.home = home
        self.notebooks = home / "notebooks"
        self.notebooks.mkdir()
        self.port = find_free_port()
        self.token = secrets.token_hex(16)
        self.log_path = home / "server.log"
        # five attempts are over before a killed gateway has started again on a busy machine
        self.variables = {
            "JUPYTER_GATEWAY_REQUEST_TIMEOUT": "125",
            "JUPYTER_GATEWAY_RETRY_MAX": "10",
        }
        """Of its environment, besides those of docs/clients.md, which they replace."""
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, program: str = "lab") -> None:
        """Start `jupyter PROGRAM` and wait until it answers."""
        documented = read_snippet("sh", "jupyterlab").strip()
        command = documented.replace("jupyter lab", f"exec {BIN}/jupyter {program}")
        options = (
            " --allow-root --no-browser --ServerApp.port_retries=0"
            f" --port={self.port} --ServerApp.root_dir={self.notebooks}"
        )
        exports = read_exports(self.gateway, "environment")
        for name, value in self.variables.items():
            exports += f"export {name}={shlex.quote(value)}\n"
        environment = {**client_env(self.gateway, self.home), "JUPYTER_TOKEN": self.token}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                ["bash", "-euc", exports + command + options],
                cwd=self.home,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        wait_until(self.answers, deadline=START_DEADLINE, what="the Jupyter server's first answer")

    def write_lab_settings(self, plugin: str, settings: dict[str, Any]) -> None:
        """Set a JupyterLab plugin's user settings, before the start."""
        folder = self.home / "config/lab/user-settings/@jupyterlab"
        path = folder / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))

    def write_config(self, config: str) -> None:
        """Write `jupyter_server_config.py`, before the start."""
        path = self.home / "config/jupyter_server_config.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(config)

    def answers(self) -> bool:
        """Whether the server serves requests now."""
        if self.process is None or self.process.poll() is not None:
            raise RuntimeError(f"the Jupyter server has ended:\n{self.read_log()}")
        try:
            return self.request("GET", "/api/status").ok
        except (requests.ConnectionError, requests.Timeout):
            return False

    def request(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """Make an authenticated request; `path` begins with a slash."""
        headers = {"Authorization": f"token {self.token}"}
        return requests.request(
            method, f"{self.url}{path}", headers=headers, timeout=REQUEST_TIMEOUT, **arguments
        )

    def connect(self, kernel_id: str, codec: Codec = Codec.LEGACY) -> Channels:
        """Open a WebSocket to a kernel; a stock server with a gateway speaks the legacy form."""
        url = f"ws://127.0.0.1:{self.port}/api/kernels/{kernel_id}/channels"
        return Channels(url, token=self.token, codec=codec)

    def close(self) -> None:
        """End the process."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)

    def read_log(self) -> str:
        """Return what the process printed."""
        return self.log_path.read_text(errors="replace")


@contextmanager
def jupyterlab(gateway: GatewayClient, home: Path, *, config: str = "") -> Iterator[NotebookServer]:
    """Have JupyterLab in front of a gateway; it looks for no news.

    Args:
        gateway: the gateway.
        home: a new folder for all its files.
        config: its `jupyter_server_config.py`.
    """
    server = NotebookServer(gateway, home)
    try:
        server.write_config(config)
        server.write_lab_settings(
            "apputils-extension/notification", {"fetchNews": "false", "checkForUpdates": False}
        )
        server.start("lab")
        yield server
    finally:
        server.close()
