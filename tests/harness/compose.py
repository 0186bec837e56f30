"""The stack of etc/docker on a single engine, by docker-compose."""

import os
import secrets
import subprocess
from pathlib import Path

import docker
import requests

from bringup.host import install_commands
from harness.gateway import ROOT, find_free_port
from harness.gateway_client import GatewayClient
from harness.leftovers import remove_kernels
from harness.waiting import wait_until

FOLDER = ROOT / "etc" / "docker"
START_DEADLINE = 60.0
GATEWAY_UID = 1000


class ComposeProject(GatewayClient):
    """A project of docker-compose with a name, network and port of its own."""

    def __init__(self, folder: Path) -> None:
        """`up` starts it; `folder` is for its secret."""
        install_commands({"docker-compose": "docker-compose"})
        port = find_free_port()
        super().__init__(
            f"http://127.0.0.1:{port}",
            token=secrets.token_hex(16),
            username=f"t{secrets.token_hex(4)}",
        )
        self.name = f"egt-{secrets.token_hex(4)}"
        secret = folder / "cluster-secret"
        secret.write_text(secrets.token_hex(32), encoding="ascii")
        # docker-compose mounts the file as it is
        os.chown(secret, GATEWAY_UID, -1)
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("EG_", "KG_"))
        }
        host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        self.env = {
            **kept,
            "COMPOSE_PROJECT_NAME": self.name,
            "EG_DOCKER_SOCKET": host.removeprefix("unix://"),
            "EG_DOCKER_NETWORK": self.name,
            "EG_CLUSTER_SECRET_FILE": str(secret),
            "EG_AUTH_TOKEN": self.token,
            "KG_PORT": str(port),
        }

    def up(self) -> None:
        """Start it, and wait until it serves."""
        self.compose("up", "--detach", "--scale", "enterprise-gateway=1")
        wait_until(self.is_ready, deadline=START_DEADLINE, what="the load balancer")

    def close(self) -> None:
        """Remove it and its kernels."""
        self.disconnect()
        remove_kernels(self.username)
        self.compose("down", "--volumes", "--timeout", "5")

    def compose(self, *arguments: str) -> str:
        """Return what docker-compose prints; it reads the override file by itself."""
        done = subprocess.run(
            ["docker-compose", *arguments],
            cwd=FOLDER,
            env=self.env,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"docker-compose {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def is_ready(self) -> bool:
        """Whether the load balancer finds a gateway that is ready."""
        try:
            return self.request("GET", "/readyz", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def read_log(self) -> str:
        """Return what the containers printed."""
        return self.compose("logs", "--no-color")

    def traces(self, client: docker.DockerClient) -> list[str]:
        """Return the names of everything that the engine has of it."""
        label = {"label": f"com.docker.compose.project={self.name}"}
        found = [
            *client.containers.list(all=True, filters=label),
            *client.networks.list(filters=label),
            *client.volumes.list(filters=label),
        ]
        return [str(each.name) for each in found]
