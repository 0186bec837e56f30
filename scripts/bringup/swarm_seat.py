"""Places in the Swarm's networks for processes of this machine, such as a gateway or a client."""

import ctypes
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from docker import DockerClient
from docker.errors import APIError, NotFound
from docker.models.containers import Container
from docker.types import EndpointConfig

from bringup.swarm_lab import SwarmLab
from bringup.swarm_node import SwarmNode
from bringup.waiting import wait_until

REMOVAL_TIMEOUT = 60.0
API = "1.41"
"""Of the engine whose words these are."""
CLONE_NEWNET = 0x40000000
"""From linux/sched.h, for setns(2)."""


@contextmanager
def overlay_network(lab: SwarmLab) -> Iterator[str]:
    """Have a network over all nodes, which containers may join; yields its name.

    Raises:
        SetupError: something is still in it a minute after its time.
    """
    name = f"eg-net-{secrets.token_hex(4)}"
    with closing(lab.manager.client()) as client:
        client.networks.create(name, driver="overlay", attachable=True)
    try:
        yield name
    finally:
        with closing(lab.manager.client()) as client:
            wait_until(lambda: is_removed(client, name), REMOVAL_TIMEOUT, f"end of {name}")


def is_removed(client: DockerClient, network: str) -> bool:
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

    def __init__(
        self, node: SwarmNode, network: str, port: int, image: str, *, aliases: Sequence[str] = ()
    ) -> None:
        """Start the container.

        Args:
            node: Where.
            network: The overlay network.
            port: What processes on the seat may listen on for clients outside the network.
            image: Any that the node has and that has sleep(1).
            aliases: Names of the seat in the network.
        """
        self.node = node
        self.port = port
        self.published = 20000 + secrets.randbelow(10000)
        """The port of the node that leads to `port`."""
        self.name = f"eg-seat-{secrets.token_hex(4)}"
        with closing(node.client()) as client:
            container = client.containers.run(
                image,
                ["infinity"],
                entrypoint=["sleep"],
                name=self.name,
                network=network,
                networking_config={network: EndpointConfig(API, aliases=list(aliases))},
                ports={f"{port}/tcp": self.published},
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
        """Remove the container; its node or engine may be away."""
        if not self.node.engine.is_up:
            return
        with closing(self.node.client()) as client, suppress(NotFound):
            client.containers.get(self.name).remove(force=True)

    def _read(self, container: Container) -> None:
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
