"""Endpoints in a Swarm's overlay networks for processes of this machine, as a gateway or client."""

import ctypes
import itertools
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from docker import DockerClient
from docker.errors import APIError, NotFound
from docker.models.containers import Container
from docker.types import EndpointConfig, IPAMConfig, IPAMPool

from devtools.console import wait_until
from swarmlab.lab import SwarmLab
from swarmlab.node import SwarmNode

START_TIMEOUT = 120.0
REMOVAL_TIMEOUT = 120.0
API = "1.41"
"""The engine's version of the interface."""
_PORTS = itertools.count(20000)
"""Ports to publish: the nodes belong to this process, so none is taken."""
CLONE_NEWNET = 0x40000000
"""From linux/sched.h, for setns(2)."""


@contextmanager
def overlay_network(lab: SwarmLab, subnet: str | None = None) -> Iterator[str]:
    """Create a network over all nodes, which containers may join; yields its name.

    Its addresses are those of `subnet`, by default of the Swarm's pool.

    Raises:
        SetupError: something is still in it two minutes after its time.
    """
    name = f"eg-net-{secrets.token_hex(4)}"
    with closing(lab.manager.client()) as client:
        ipam = IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)]) if subnet else None
        client.networks.create(name, driver="overlay", attachable=True, ipam=ipam)
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


def is_started(container: Container) -> bool:
    """Start a container, whose node may not have heard of its network yet."""
    try:
        container.start()
    except NotFound:
        return False
    return True


class NetworkEndpoint:
    """A sleeping container whose network namespace processes of this machine enter."""

    def __init__(
        self, node: SwarmNode, network: str, port: int, image: str, *, aliases: Sequence[str] = ()
    ) -> None:
        """Start the container.

        Args:
            node: Where.
            network: The overlay network.
            port: What processes on the endpoint may listen on for clients outside the network.
            image: Any that the node has and that has sleep(1).
            aliases: Names of the endpoint in the network.
        """
        self.node = node
        self.port = port
        self.published = next(_PORTS)
        """The port of the node that leads to `port`."""
        self.name = f"eg-endpoint-{secrets.token_hex(4)}"
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
        """Start the container again, after its node or engine was away.

        Raises:
            SetupError: it did not start in two minutes.
        """
        with closing(self.node.client()) as client:
            container = client.containers.get(self.name)
            wait_until(lambda: is_started(container), START_TIMEOUT, f"start of {self.name}")
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
        """Return the command line that runs a command of this machine on the endpoint.

        The command ends with the node's power. It sees this machine's files. The process made of
        the command line is not the command but its parent, which ends as the command does.
        """
        node = f"--target={self.node.machine.init}"
        return ["nsenter", node, "--pid", f"--net={self.namespace}", "--", *command]


@contextmanager
def enter_network(endpoint: NetworkEndpoint) -> Iterator[None]:
    """Put the calling thread, and processes that it starts, into the endpoint's network.

    Sockets stay in the network they were made in. Threads of a pool stay where they were started.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(descriptor: int) -> None:
        if libc.setns(descriptor, CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    with Path("/proc/thread-self/ns/net").open() as own, endpoint.namespace.open() as other:
        enter(other.fileno())
        try:
            yield
        finally:
            enter(own.fileno())
