"""A Docker Swarm of three nodes, and in its network the servers, a load balancer and a client."""

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from uuid import uuid4

import docker
from docker.models.services import Service
from docker.types import EndpointSpec, RestartPolicy

from benchmarks import engine, kernelspecs, processes
from benchmarks.channel import Connection, ZmqChannel
from benchmarks.engine import EngineMissingError
from benchmarks.kernelspecs import ROOT
from benchmarks.places import BareKernel, Place
from benchmarks.rest import Rest
from benchmarks.servers import Column, Server, ServerError, Site, run_server
from bringup.console import SetupError
from bringup.images import PROXY
from bringup.swarm_lab import SwarmLab, swarm_lab
from bringup.swarm_machine import only_child
from bringup.swarm_seat import Seat, enter_network

NODES = 3
PORT = 8888
NETWORK = "enterprise-gateway-bench"
ALIAS = "enterprise-gateway"
"""The name by which the stack's load balancer looks for gateways."""
FLOOD_IMAGE = "enterprise-gateway-bench/flood-kernel:latest"
FLOOD_DOCKERFILE = """\
FROM {image}
COPY flood_kernel.py /opt/flood_kernel.py
CMD ["python3", "-I", "-m", "kernel_agent", "--", "python3", "/opt/flood_kernel.py", \
"{{connection_file}}"]
"""
CONNECTION: Connection = {
    "transport": "tcp",
    "ip": "0.0.0.0",
    "key": engine.KEY,
    "signature_scheme": "hmac-sha256",
    **engine.PORTS,
}
KEEP_CONNECTION = 'printf %s "$CONNECTION" >/tmp/connection.json'
FLOOD_COMMAND = [
    *("sh", "-c"),
    f"{KEEP_CONNECTION} && exec python3 /opt/flood_kernel.py /tmp/connection.json",
]
PAUSE_SECONDS = 1.5
TASK_SECONDS = 60.0
TASK_POLL_SECONDS = 0.025
BALANCER_SECONDS = 20.0
BALANCER_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Stage:
    """What is there for the time of the measurements.

    Attributes:
        folder: temporary.
        jupyter_path: kernelspecs whose kernels are services.
        seats: where servers run, one at a time each.
        client: where raw clients are.
        balancer: host and port of the stack's load balancer.
    """

    lab: SwarmLab
    folder: Path
    jupyter_path: Path
    seats: Mapping[Column, Seat]
    client: Seat
    balancer: tuple[str, int]

    def place(self, kernels: dict[Column, str], bare: BareKernel | None) -> Place:
        """Kernels as services, by way of servers that clients reach directly."""
        return Place("Swarm", kernels, bare, self._serve, self._dial, PAUSE_SECONDS)

    def balanced(self, place: Place) -> Place:
        """The same through the load balancer, behind which is only the gateway."""
        kernels = {Column.GATEWAY: place.kernels[Column.GATEWAY]}
        return replace(place, kernels=kernels, serve=self._serve_balanced)

    def bare_ipykernel(self, image: str) -> BareKernel:
        """Makes services that are nothing but ipykernel."""
        env = [f"HOME={engine.HOME}"]
        return lambda _folder: self._bare(image, engine.IPYKERNEL, env)

    def bare_flood_kernel(self) -> BareKernel:
        """Likewise the flood kernel."""
        env = [f"CONNECTION={json.dumps(CONNECTION)}"]
        return lambda _folder: self._bare(FLOOD_IMAGE, FLOOD_COMMAND, env)

    @contextmanager
    def _serve(self, column: Column) -> Iterator[Server]:
        seat = self.seats[column]
        env = {"DOCKER_HOST": self.lab.manager.host, "EG_DOCKER_NETWORK": NETWORK}
        if column is Column.ENTERPRISE_GATEWAY:
            env["EG_RESPONSE_IP"] = seat.ip  # it takes the first of its addresses otherwise
            env["EG_INHERITED_ENVS"] = "PATH,DOCKER_HOST"
        site = Site(
            "0.0.0.0",
            PORT,
            seat.node.ip,
            seat.published,
            env,
            seat.enter,
            only_child,
        )
        with run_server(column, self.folder, self.jupyter_path, site) as server:
            yield server

    @contextmanager
    def _serve_balanced(self, column: Column) -> Iterator[Server]:
        with self._serve(column) as server:
            server.rest = Rest(*self.balancer, server.rest.token)
            deadline = time.monotonic() + BALANCER_SECONDS
            while not server.rest.answers():
                if time.monotonic() > deadline:
                    raise ServerError("the load balancer does not find the gateway")
                time.sleep(BALANCER_POLL_SECONDS)
            yield server

    def _dial(self, connection: Connection) -> ZmqChannel:
        with enter_network(self.client):
            return ZmqChannel(connection)

    @contextmanager
    def _bare(self, image: str, command: list[str], env: list[str]) -> Iterator[Connection]:
        """Create a service by the bare API; it goes with the block.

        Yields:
            Its connection information, once its task runs.
        """
        kernel_id = str(uuid4())
        with closing(docker.DockerClient(self.lab.manager.host, version="1.41")) as client:
            service = client.services.create(  # type: ignore[no-untyped-call] # the stubs lack it
                image,
                command,
                name=kernel_id,
                env=[*env, f"KERNEL_ID={kernel_id}"],
                user="1000:100",
                networks=[NETWORK],
                restart_policy=RestartPolicy(condition="none"),
                endpoint_spec=EndpointSpec(mode="dnsrr"),
            )
            try:
                yield {**CONNECTION, "ip": _await_task(service)}
            finally:
                # Removal alone takes three seconds to reach the task.
                processes.kill(processes.kernel_pids([kernel_id]))
                service.remove()


@contextmanager
def run_stage(folder: Path, jupyter_path: Path, images: list[str]) -> Iterator[Stage]:
    """Set the stage for the time of a block.

    Args:
        folder: temporary.
        jupyter_path: kernelspecs whose kernels are services.
        images: what every node is to have.

    Raises:
        EngineMissingError: there can be no Swarm here.
    """
    try:
        with swarm_lab(NODES, images=[*images, PROXY.tag]) as lab, ExitStack() as stack:
            manager = lab.manager
            client = stack.enter_context(closing(manager.client()))
            client.networks.create(NETWORK, driver="overlay", attachable=True)
            sit = partial(Seat, manager, NETWORK, PORT, PROXY.tag)
            gateway, peer, raw = sit(aliases=[ALIAS]), sit(), sit()
            balancer = client.containers.run(
                PROXY.tag, network=NETWORK, ports={f"{PORT}/tcp": None}, detach=True
            )
            balancer.reload()
            published = balancer.attrs["NetworkSettings"]["Ports"][f"{PORT}/tcp"][0]["HostPort"]
            yield Stage(
                lab,
                folder,
                jupyter_path,
                {Column.GATEWAY: gateway, Column.ENTERPRISE_GATEWAY: peer},
                raw,
                (manager.ip, int(published)),
            )
    except SetupError as error:
        raise EngineMissingError(str(error)) from error


def prepare_flood_kernel(image: str, folder: Path, jupyter_path: Path) -> None:
    """Build the flood kernel's image on top of the kernels' image, and write its kernelspec."""
    context = folder / "flood-image"
    context.mkdir()
    shutil.copy(ROOT / "benchmarks" / "flood_kernel.py", context)
    (context / "Dockerfile").write_text(FLOOD_DOCKERFILE.format(image=image), encoding="utf-8")
    engine.build_image(context, FLOOD_IMAGE)
    kernelspecs.derive_kernelspec(jupyter_path, kernelspecs.FLOOD, FLOOD_IMAGE)


def _await_task(service: Service) -> str:
    """Wait until a service's task runs; returns its address."""
    deadline = time.monotonic() + TASK_SECONDS
    while time.monotonic() < deadline:
        for task in service.tasks():  # type: ignore[no-untyped-call] # likewise
            if task["Status"]["State"] == "running":
                address: str = task["NetworksAttachments"][0]["Addresses"][0]
                return address.partition("/")[0]
        time.sleep(TASK_POLL_SECONDS)
    raise TimeoutError("the task of a bare service does not run")
