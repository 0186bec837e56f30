"""A Docker Swarm of several nodes on this machine, for tests, benchmarks and trying out."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from devtools.console import SetupError
from devtools.host import cache_dir, install_commands
from swarmlab.images import Template
from swarmlab.lock import OVERLAYS, RUN, LabLock, lock_lab
from swarmlab.machine import Machine, Paths
from swarmlab.network import Underlay
from swarmlab.node import SwarmNode

PACKAGES = {
    "dockerd": "docker.io",
    "iptables": "iptables",
    "ip": "iproute2",
    "tini": "tini",
    "unshare": "util-linux",
    "nsenter": "util-linux",
}


@dataclass(frozen=True)
class SwarmLab:
    """A Swarm that is up."""

    nodes: tuple[SwarmNode, ...]
    """The first is the manager."""
    gateway: str
    """This machine's address on the nodes' network."""

    @property
    def manager(self) -> SwarmNode:
        """The node whose engine knows the Swarm's state."""
        return self.nodes[0]

    @property
    def workers(self) -> tuple[SwarmNode, ...]:
        """The other nodes."""
        return self.nodes[1:]

    def describe(self) -> str:
        """Return the addresses of its nodes, and how to use it."""
        addresses = "\n".join(
            f"    {node.ip}  export DOCKER_HOST={node.host}" for node in self.nodes
        )
        return f"""
  A Docker Swarm of {len(self.nodes)} nodes is ready, the first is its manager:

{addresses}

  Ports are published in mode host; the network has no way out. Ctrl-C ends it all.
"""


@contextmanager
def swarm_lab(
    nodes: int = 3,
    *,
    images: Sequence[str] = (),
    engine: str | None = None,
    heartbeat: float = 1.0,
) -> Iterator[SwarmLab]:
    """Run a Swarm; several may exist at the same time. It ends with this process at the latest.

    Args:
        nodes: How many; the first is the only manager.
        images: Names of images that every node has.
        engine: `DOCKER_HOST` of the engine that has them now, by default that of the environment.
        heartbeat: Seconds between signs of life; a silent node is down after about three.

    Raises:
        SetupError: it cannot be made; the message says why.
    """
    if os.geteuid() != 0:
        raise SetupError("only root can make the nodes of a Swarm")
    install_commands(PACKAGES)
    with lock_lab() as own, ExitStack() as stack:
        underlay = Underlay(own.tag, own.subnet)
        stack.callback(underlay.delete)
        members = tuple(make_node(own, underlay, number) for number in range(1, nodes + 1))
        if images:
            paths = Paths(RUN / "template", cache_dir() / "swarm" / "template")
            roots = [node.machine.paths.home / "root" for node in members]
            template = Template(paths, f"{own.tag}-template", engine)
            stack.enter_context(template.shared(images, roots))
        underlay.create()
        stack.callback(each, members, SwarmNode.power_off)
        each(members, SwarmNode.boot)
        form_swarm(members, heartbeat)
        yield SwarmLab(members, underlay.gateway)


def make_node(own: LabLock, underlay: Underlay, number: int) -> SwarmNode:
    """Return a node that is not yet booted."""
    name = f"n{number}"
    paths = Paths(own.paths.run / name, own.paths.home / name)
    return SwarmNode(Machine(f"{own.tag}-{name}", paths), underlay, number)


def form_swarm(members: Sequence[SwarmNode], heartbeat: float) -> None:
    """Make the first node the manager, and the others its workers."""
    manager, *workers = members
    with closing(manager.client()) as client:
        client.swarm.init(
            advertise_addr=manager.ip,
            listen_addr=f"{manager.ip}:2377",
            data_path_addr=manager.ip,
            default_addr_pool=[OVERLAYS],
            subnet_size=24,
            dispatcher_heartbeat_period=int(heartbeat * 1e9),
        )
        token = client.swarm.attrs["JoinTokens"]["Worker"]

    def join(node: SwarmNode) -> None:
        node.manager = manager
        with closing(node.client()) as client:
            client.swarm.join(
                [f"{manager.ip}:2377"], token, advertise_addr=node.ip, data_path_addr=node.ip
            )

    each(workers, join)
    each(members, SwarmNode.wait_until_ready)


def each(nodes: Iterable[SwarmNode], act: Callable[[SwarmNode], None]) -> None:
    """Call a function for all nodes at the same time; raise the first failure at the end."""
    with ThreadPoolExecutor() as pool:
        doing = [pool.submit(act, node) for node in nodes]
    for done in doing:
        done.result()
