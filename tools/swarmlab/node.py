"""A node of the lab's Swarm, and its faults."""

from contextlib import closing

from docker import DockerClient
from docker.errors import DockerException
from requests.exceptions import RequestException

from devtools.console import wait_until
from swarmlab.engine import PORT, NodeEngine
from swarmlab.machine import Machine
from swarmlab.network import Underlay

READY_TIMEOUT = 120.0


class SwarmNode:
    """A machine with an engine that is a member of the Swarm."""

    def __init__(self, machine: Machine, underlay: Underlay, number: int) -> None:
        """`number` counts from 1, which is the manager."""
        self.machine = machine
        self.number = number
        self.ip = underlay.address(number)
        """Its address, for other nodes and this machine."""
        self.engine = NodeEngine(machine, listen=[self.ip])
        self.manager = self
        """The node that knows the Swarm's state; another one if this is a worker."""
        self._underlay = underlay

    @property
    def name(self) -> str:
        """Its hostname, which the Swarm shows."""
        return self.machine.name

    @property
    def host(self) -> str:
        """`DOCKER_HOST` for this machine."""
        return self.engine.host

    @property
    def tcp_host(self) -> str:
        """`DOCKER_HOST` for other nodes. Access to it is root access: for a lab only."""
        return f"tcp://{self.ip}:{PORT}"

    def client(self) -> DockerClient:
        """Return a client of its engine, which the caller closes."""
        return self.engine.client()

    def boot(self) -> None:
        """Switch it on; its engine answers then, but need not be in a Swarm."""
        self.machine.boot()
        self._underlay.connect(self.machine, self.number)
        self.engine.start()

    def power_off(self) -> None:
        """End everything that runs on it, at once; its disk stays."""
        self.machine.power_off()
        self.engine.gone()

    def power_on(self) -> None:
        """Switch it on again, and wait until it is ready."""
        self.boot()
        self.wait_until_ready()

    def cut(self) -> None:
        """Unplug it from the network."""
        self._underlay.cut(self.number)

    def mend(self) -> None:
        """Plug it in again, and wait until it is ready."""
        self._underlay.mend(self.number)
        self.wait_until_ready()

    def kill_engine(self) -> None:
        """Kill dockerd; containers go on until it is started again."""
        self.engine.kill()

    def stop_engine(self) -> None:
        """Let dockerd stop its containers and end."""
        self.engine.stop()

    def start_engine(self) -> None:
        """Start dockerd again, and wait until the node is ready."""
        self.engine.start()
        self.wait_until_ready()

    def is_ready(self) -> bool:
        """Whether both it and the manager say that it takes part in the Swarm."""
        if not (self.engine.is_up and self.manager.engine.is_up):
            return False
        try:
            with closing(self.client()) as own, closing(self.manager.client()) as manager:
                if own.info()["Swarm"]["LocalNodeState"] != "active":
                    return False
                states = {
                    node.attrs["Description"]["Hostname"]: node.attrs["Status"]["State"]
                    for node in manager.nodes.list()
                }
        except (DockerException, RequestException, KeyError):  # a node has no description at first
            return False
        return states.get(self.name) == "ready"

    def wait_until_ready(self) -> None:
        """Wait until it is ready.

        Raises:
            SetupError: it was not in two minutes.
        """
        wait_until(self.is_ready, READY_TIMEOUT, f"{self.name} ready")

    def wait_until_down(self) -> None:
        """Wait until the manager has noticed that it is gone, some three heartbeats later.

        Raises:
            SetupError: it did not in two minutes.
        """

        def is_down() -> bool:
            with closing(self.manager.client()) as manager:
                nodes = manager.nodes.list()
            return any(
                node.attrs["Description"]["Hostname"] == self.name
                and node.attrs["Status"]["State"] == "down"
                for node in nodes
            )

        wait_until(is_down, READY_TIMEOUT, f"{self.name} down")
