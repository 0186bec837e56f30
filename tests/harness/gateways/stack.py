"""The stack of etc/docker on a Swarm, deployed by the docker command as an operator would."""

import os
import secrets
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from docker.errors import APIError
from docker.models.containers import Container

from devtools.host import install_commands
from harness.clients.gateway_client import GatewayClient
from harness.engines.swarm import remove_services
from harness.gateways.gateway import ROOT
from harness.gateways.mounted_kernelspecs import write_mounts
from harness.waiting import wait_until
from swarmlab.lab import SwarmLab
from swarmlab.node import SwarmNode

COMPOSE_FILE = ROOT / "etc" / "docker" / "docker-compose.yml"
NAME = "enterprise-gateway"
SERVICE = f"{NAME}_enterprise-gateway"
"""The gateways."""
BALANCER = f"{NAME}_enterprise-gateway-proxy"
"""The load balancers."""
START_DEADLINE = 180.0
UPDATE_DEADLINE = 240.0
REMOVAL_DEADLINE = 240.0


@dataclass(frozen=True)
class ReplicaContainer:
    """A container of the gateway service."""

    node: SwarmNode
    id: str

    def kill(self) -> None:
        """End it the hard way; Swarm starts another in its place."""
        with self._container() as container:
            container.kill()

    def run(self, *command: str) -> str:
        """Return what a command prints in it."""
        with self._container() as container:
            code, output = container.exec_run(list(command))
        assert code == 0, output
        return str(output.decode())

    def inspect(self) -> dict[str, Any]:
        """Return what the engine knows of it."""
        with self._container() as container:
            return dict(container.attrs)

    @contextmanager
    def _container(self) -> Iterator[Container]:
        with closing(self.node.client()) as client:
            yield client.containers.get(self.id)


class Stack(GatewayClient):
    """The stack on the manager of a Swarm, and a client of its load balancer."""

    port = 8888

    def __init__(
        self,
        lab: SwarmLab,
        folder: Path,
        *,
        replicas: int = 2,
        mounts: Mapping[Path, str] | None = None,
    ) -> None:
        """`deploy` deploys it.

        Args:
            lab: where.
            folder: for its secrets.
            replicas: how many gateways.
            mounts: what is mounted into them, paths there by paths here.
        """
        install_commands({"docker": "docker.io"})
        super().__init__(
            f"http://{lab.manager.ip}:{self.port}",
            token=secrets.token_hex(16),
            username=f"t{secrets.token_hex(4)}",
        )
        self.lab = lab
        self.replica_count = replicas
        self.files = [COMPOSE_FILE, write_mounts(folder / "mounts.yml", mounts or {})]
        secret = folder / "cluster-secret"
        secret.write_text(secrets.token_hex(32), encoding="ascii")
        shared = folder / "balancer-secret"
        shared.write_text(secrets.token_hex(32), encoding="ascii")
        token = folder / "auth-token"
        token.write_text(f"{self.token}\n", encoding="ascii")
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("EG_", "KG_", "DOCKER_"))
        }
        self.env = {
            **kept,
            "DOCKER_HOST": lab.manager.host,
            "EG_CLUSTER_SECRET_FILE": str(secret),
            "EG_BALANCER_SECRET_FILE": str(shared),
            "EG_AUTH_TOKEN_FILE": str(token),
            "EG_REPLICAS": str(replicas),
            "EG_KERNEL_LAUNCH_TIMEOUT": "120",
            "EG_STOP_GRACE_PERIOD": "160s",
            "KG_PORT": str(self.port),
        }

    def deploy(self) -> None:
        """Deploy it, and wait until all replicas serve."""
        files = [option for file in self.files for option in ("--compose-file", str(file))]
        self.docker("stack", "deploy", *files, NAME)
        wait_until(self.is_complete, deadline=START_DEADLINE, what="the stack's replicas")
        wait_until(self.is_ready, deadline=START_DEADLINE, what="the stack's load balancer")

    def close(self) -> None:
        """Remove it and its kernels, and wait until nothing is left."""
        self.disconnect()
        remove_services(self.lab, self.username)
        wait_until(self.is_removed, deadline=REMOVAL_DEADLINE, what="the end of the stack")

    def is_removed(self) -> bool:
        """Remove it, and say whether nothing is left: Swarm keeps a network that is in use."""
        command = ["docker", "stack", "rm", NAME]
        subprocess.run(command, env=self.env, check=False, capture_output=True)
        return not self.remaining()

    def docker(self, *arguments: str) -> str:
        """Return what the docker command prints on the manager."""
        done = subprocess.run(
            ["docker", *arguments], env=self.env, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    # its replicas

    def is_complete(self) -> bool:
        """Whether as many replicas are healthy as were asked for."""
        with closing(self.lab.manager.client()) as client:
            tasks = client.services.get(SERVICE).tasks({"desired-state": "running"})
        # Swarm calls a task running when its health check has passed
        return [task["Status"]["State"] for task in tasks] == ["running"] * self.replica_count

    def is_ready(self) -> bool:
        """Whether the load balancer finds a replica that is ready."""
        try:
            return self.request("GET", "/readyz", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def replicas(self) -> list[ReplicaContainer]:
        """Return the running containers of the gateway service, wherever they are."""
        found = []
        for node in self.lab.nodes:
            if node.machine.process is None:
                continue
            with closing(node.client()) as client:
                containers = client.containers.list(
                    filters={"label": f"com.docker.swarm.service.name={SERVICE}"},
                    ignore_removed=True,
                )
                found += [ReplicaContainer(node, str(each.id)) for each in containers]
        return found

    def kill_replica(self) -> ReplicaContainer:
        """Kill one replica; returns which."""
        victim = self.replicas()[0]
        victim.kill()
        return victim

    def update(self) -> None:
        """Replace all replicas, as an update to another version does, and wait for their end."""
        before = {replica.id for replica in self.replicas()}
        with closing(self.lab.manager.client()) as client:
            client.services.get(SERVICE).force_update()

            def state() -> str:
                service = client.services.get(SERVICE)
                return str(service.attrs.get("UpdateStatus", {}).get("State"))

            wait_until(
                lambda: state() not in ("None", "updating"),
                deadline=UPDATE_DEADLINE,
                what="the end of the update",
            )
            assert state() == "completed"
        # Swarm has only told the last of them to stop
        wait_until(
            lambda: before.isdisjoint(replica.id for replica in self.replicas()),
            deadline=UPDATE_DEADLINE,
            what="the end of the former replicas",
        )

    def reload_balancer(self) -> None:
        """Let the load balancers read their files anew."""
        with closing(self.lab.manager.client()) as client:
            label = f"com.docker.swarm.service.name={BALANCER}"
            for container in client.containers.list(filters={"label": label}, ignore_removed=True):
                container.kill(signal.SIGUSR2)

    def read_log(self) -> str:
        """Return what the gateways and the proxies printed."""
        services = self.docker("stack", "services", "--format", "{{.Name}}", NAME).split()
        return "\n".join(self.docker("service", "logs", "--raw", name) for name in services)

    def remaining(self) -> list[str]:
        """Return which containers and networks are left; containers are removed at once."""
        left = []
        label = {"label": f"com.docker.stack.namespace={NAME}"}
        for node in self.lab.nodes:
            with closing(node.client()) as client:
                for container in client.containers.list(
                    all=True, filters=label, ignore_removed=True
                ):
                    left.append(str(container.name))
                    with suppress(APIError):  # gone, or its removal is under way
                        container.remove(force=True)
        with closing(self.lab.manager.client()) as client:
            left += [str(network.name) for network in client.networks.list(filters=label)]
        return left
