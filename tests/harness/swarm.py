"""The Swarm of the tests: its networks, and places in them for processes of this machine."""

import ctypes
import os
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import docker
from docker.errors import APIError, NotFound

from bringup.swarm_lab import SwarmLab
from bringup.swarm_node import SwarmNode
from enterprise_gateway._version import __version__
from harness.waiting import wait_until

KERNEL_IMAGE = f"enterprise-gateway/kernel-py:{__version__}"
REMOVAL_DEADLINE = 60.0
CLONE_NEWNET = 0x40000000
"""From linux/sched.h, for setns(2)."""


@contextmanager
def overlay_network(lab: SwarmLab) -> Iterator[str]:
    """Have a network over all nodes, which containers may join; yields its name."""
    name = f"egt-{secrets.token_hex(4)}"
    with closing(lab.manager.client()) as client:
        client.networks.create(name, driver="overlay", attachable=True)
    try:
        yield name
    finally:
        with closing(lab.manager.client()) as client:
            wait_until(
                lambda: is_removed(client, name), deadline=REMOVAL_DEADLINE, what=f"end of {name}"
            )


def is_removed(client: docker.DockerClient, network: str) -> bool:
    """Remove a network, which the engine refuses while something is in it."""
    try:
        client.networks.get(network).remove()
    except NotFound:
        return True
    except APIError:
        return False
    return True


class Seat:
    """A place in an overlay network for processes of this machine: a container that only sleeps."""

    def __init__(self, node: SwarmNode, network: str, port: int) -> None:
        """Start the container; `port` is for clients outside the network."""
        self.node = node
        self.port = port
        self.published = 20000 + secrets.randbelow(10000)
        """The port of the node that leads to `port`."""
        self.name = f"egt-seat-{secrets.token_hex(4)}"
        with closing(node.client()) as client:
            container = client.containers.run(
                KERNEL_IMAGE,
                ["infinity"],
                entrypoint=["sleep"],
                name=self.name,
                network=network,
                ports={port: self.published},
                init=True,
                detach=True,
            )
        self._network = network
        self._read(container)

    def restart(self) -> None:
        """Start the container again, after its node or engine was away."""
        with closing(self.node.client()) as client:
            container = client.containers.get(self.name)
            container.start()
            self._read(container)

    def close(self) -> None:
        """Remove the container; its node may be off."""
        if self.node.machine.process is None:
            return
        with closing(self.node.client()) as client, suppress(NotFound):
            client.containers.get(self.name).remove(force=True)

    def _read(self, container: docker.models.containers.Container) -> None:
        container.reload()
        settings = container.attrs["NetworkSettings"]
        self.ip = str(settings["Networks"][self._network]["IPAddress"])
        """Its address in the overlay network."""
        # as a symbolic link of the node, /var/run would lead into /run of this machine
        inside = str(settings["SandboxKey"]).replace("/var/run/", "/run/")
        self.namespace = self.node.machine.path(inside)
        """Its network namespace, for nsenter(1) and setns(2)."""

    def enter(self, *command: str) -> list[str]:
        """Return the command line that runs a command of this machine on the seat.

        The command ends with the node's power. It sees this machine's files. The process made of
        the command line is not the command but its parent, which ends as the command does.
        """
        node = f"--target={self.node.machine.init}"
        return ["nsenter", node, "--pid", f"--net={self.namespace}", "--", *command]


@contextmanager
def enter_network(seat: Seat) -> Iterator[None]:
    """Have the calling thread, and what it starts, in the seat's network.

    Sockets stay where they were made. Threads of a pool are where their first task came from.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(descriptor: int) -> None:
        if libc.setns(descriptor, CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    with Path("/proc/thread-self/ns/net").open() as own, seat.namespace.open() as other:
        enter(other.fileno())
        try:
            yield
        finally:
            enter(own.fileno())


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
        if node.machine.process is not None:
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
    """Power cycle the nodes that are not ready, the manager first."""
    for node in lab.nodes:
        if not node.is_ready():
            node.power_off()
            node.power_on()
