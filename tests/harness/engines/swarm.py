"""Services and containers that tests leave in their Swarm, and its repair."""

from contextlib import closing, suppress

import docker
from docker.errors import APIError, NotFound

from enterprise_gateway._version import __version__
from harness.waiting import wait_until
from swarmlab.endpoint import NetworkEndpoint, enter_network, overlay_network
from swarmlab.lab import SwarmLab

__all__ = [
    "KERNEL_IMAGE",
    "NetworkEndpoint",
    "enter_network",
    "find_services",
    "overlay_network",
    "remove_containers",
    "remove_services",
    "restore",
]

KERNEL_IMAGE = f"localhost/enterprise-gateway/kernel-py:{__version__}"
REMOVAL_DEADLINE = 120.0


def find_services(client: docker.DockerClient, username: str) -> list[str]:
    """Return the names of the user's kernels that are services."""
    found = client.services.list(filters={"label": "app=enterprise-gateway"})
    return [each.name for each in found if each.name.startswith(f"{username}-")]


def remove_services(lab: SwarmLab, username: str) -> None:
    """Remove the user's kernels, and wait until nothing of them is on a node that is up."""
    with closing(lab.manager.client()) as client:
        for name in find_services(client, username):
            with suppress(NotFound):
                client.services.get(name).remove()
    for node in lab.nodes:
        if node.engine.is_up:
            with closing(node.client()) as client:
                remove_containers(client, username)


def remove_containers(client: docker.DockerClient, username: str) -> None:
    """Remove the user's containers, at once where Swarm would take seconds."""

    def remaining() -> list[str]:
        found = client.containers.list(
            all=True, filters={"label": "app=enterprise-gateway"}, ignore_removed=True
        )
        own = [each for each in found if each.name.startswith(f"{username}-")]
        for each in own:
            with suppress(APIError):  # gone, or its removal is under way
                each.remove(force=True)
        return [each.name for each in own]

    wait_until(lambda: not remaining(), deadline=REMOVAL_DEADLINE, what="removal of containers")


def restore(lab: SwarmLab) -> None:
    """Make all nodes ready, the manager first; nodes whose engine is away lose their power."""
    for node in lab.nodes:
        if node.engine.is_up:
            node.mend()
        else:
            node.power_off()
            node.power_on()
