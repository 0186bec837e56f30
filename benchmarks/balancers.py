"""The stack's load balancer, in both of its ways with WebSockets."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from uuid import uuid4

import docker

from benchmarks import processes
from devtools.images import PROXY

PORT = 8888
SECRET_PATH = "/run/secrets/balancer-secret"  # noqa: S105 - where it is


class WebSockets(StrEnum):
    """How a WebSocket gets from a load balancer to the agent."""

    SPLICED = "Swarm, through load balancer and gateway"
    HANDED_OVER = "Swarm, from the load balancer to the agent"


@dataclass(frozen=True)
class Balancer:
    """One that runs.

    Attributes:
        host: where clients reach it.
        port: likewise.
        mark: of its processes, in their environment.
    """

    host: str
    port: int
    mark: str

    def pids(self) -> list[int]:
        """Its processes, once it answers."""
        return processes.marked_pids([self.mark])


def run_balancer(
    client: docker.DockerClient, ip: str, network: str, secret: Path, websockets: WebSockets
) -> Balancer:
    """Run it on a node, with which it goes.

    Args:
        client: of the node's engine.
        ip: the node's.
        network: the one of the gateway, which is found by name.
        secret: file with the secret that the gateway has, too.
        websockets: what it does with them.
    """
    mark = f"BENCHMARK_ID={uuid4()}"
    env = [mark]
    if websockets is WebSockets.HANDED_OVER:
        env.append(f"EG_BALANCER_SECRET_FILE={SECRET_PATH}")
    container = client.containers.run(
        PROXY.tag,
        network=network,
        ports={f"{PORT}/tcp": None},
        environment=env,
        volumes={str(secret): {"bind": SECRET_PATH, "mode": "ro"}},
        detach=True,
    )
    container.reload()
    published = container.attrs["NetworkSettings"]["Ports"][f"{PORT}/tcp"][0]["HostPort"]
    return Balancer(ip, int(published), mark)
