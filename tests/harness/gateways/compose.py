"""The stack of etc/docker on a single engine, by docker-compose."""

import os
import secrets
import subprocess
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import docker
import requests

from devtools.bridge import NETWORKS
from devtools.host import install_commands
from harness.clients.gateway_client import GatewayClient
from harness.engines.leftovers import remove_kernels
from harness.gateways.gateway import ROOT, find_free_port
from harness.gateways.mounted_kernelspecs import write_mounts
from harness.waiting import wait_until
from swarmlab.node import SwarmNode

FOLDER = ROOT / "etc" / "docker"
COMPOSE_FILE = "docker-compose.yml"
OVERRIDE_FILE = "docker-compose.override.yml"
START_DEADLINE = 120.0
GATEWAY_UID = 1000
SUBNETS = [*NETWORKS.subnets(new_prefix=24)][128:]
"""Networks that a private engine connects; Docker itself gives out the first ones first."""


class ComposeProject(GatewayClient):
    """A project of docker-compose with a name, network and port of its own."""

    def __init__(
        self,
        folder: Path,
        *,
        files: tuple[str, ...] = (COMPOSE_FILE, OVERRIDE_FILE),
        mounts: Mapping[Path, str] | None = None,
        node: SwarmNode | None = None,
    ) -> None:
        """`up` starts it.

        Args:
            folder: for its secrets.
            files: of etc/docker; those that docker-compose reads by itself.
            mounts: what is mounted into the gateway, paths there by paths here.
            node: of a Swarm, on whose engine it is instead of that of the environment.
        """
        install_commands({"docker-compose": "docker-compose"})
        port = find_free_port()
        super().__init__(
            f"http://{node.ip if node else '127.0.0.1'}:{port}",
            token=secrets.token_hex(16),
            username=f"t{secrets.token_hex(4)}",
        )
        self.name = f"egt-{secrets.token_hex(4)}"
        secret = folder / "cluster-secret"
        secret.write_text(secrets.token_hex(32), encoding="ascii")
        shared = folder / "balancer-secret"
        shared.write_text(secrets.token_hex(32), encoding="ascii")
        token = folder / "auth-token"
        token.write_text(f"{self.token}\n", encoding="ascii")
        for file in (secret, shared, token):  # docker-compose mounts them as they are
            os.chown(file, GATEWAY_UID, -1)
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("EG_", "KG_"))
        }
        own = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        self.host = node.host if node else own
        socket = "/var/run/docker.sock" if node else own.removeprefix("unix://")
        self.node = node
        self.env = {
            **kept,
            "COMPOSE_PROJECT_NAME": self.name,
            "COMPOSE_FILE": os.pathsep.join(
                [*files, str(write_mounts(folder / "mounts.yml", mounts or {}))]
            ),
            "DOCKER_HOST": self.host,
            "EG_DOCKER_SOCKET": socket,
            "EG_DOCKER_NETWORK": self.name,
            "EG_INTERNAL_NETWORK": f"{self.name}-internal",
            "EG_GATEWAY_NETWORK": f"{self.name}-gateways",
            "EG_GATEWAY_SUBNET": str(secrets.choice(SUBNETS)),
            "EG_ENGINE_VOLUME": f"{self.name}-engine",
            "EG_CLUSTER_SECRET_FILE": str(secret),
            "EG_BALANCER_SECRET_FILE": str(shared),
            "EG_AUTH_TOKEN_FILE": str(token),
            "KG_PORT": str(port),
            "EG_KERNEL_LAUNCH_TIMEOUT": "120",
        }

    def up(self) -> None:
        """Start it, and wait until it serves."""
        self.compose("up", "--detach", "--scale", "enterprise-gateway=1")
        wait_until(self.is_ready, deadline=START_DEADLINE, what="the load balancer")

    def close(self) -> None:
        """Remove it and its kernels."""
        self.disconnect()
        remove_kernels(self.username)
        self.compose("stop", "--timeout", "5")
        self.compose("rm", "--force", "-v")
        if self.node is not None:
            self._await_end_of_tasks(self.node)
        self.compose("down", "--volumes")

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
            *client.containers.list(all=True, filters=label, ignore_removed=True),
            *client.networks.list(filters=label),
            *client.volumes.list(filters=label),
        ]
        return [str(each.name) for each in found]

    def _await_end_of_tasks(self, node: SwarmNode) -> None:
        """Wait until its networks can be removed: a container there is a task of the Swarm, too."""

        def attached(client: docker.DockerClient) -> list[str]:
            return [
                task["ID"]
                for task in client.api.tasks()
                for each in task.get("NetworksAttachments") or []
                if each["Network"]["Spec"]["Name"].startswith(self.name)
            ]

        with closing(node.client()) as client:
            wait_until(lambda: not attached(client), deadline=START_DEADLINE, what="the tasks' end")
