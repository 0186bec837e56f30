"""A Docker Swarm of three nodes, and in its network the servers, a load balancer and a client."""

import json
import secrets
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
from benchmarks.balancers import PORT, Balancer, WebSockets, run_balancer
from benchmarks.client.channel import Connection, ZmqChannel
from benchmarks.client.rest import Rest
from benchmarks.engine import EngineMissingError
from benchmarks.kernelspecs import ROOT
from benchmarks.places import BareKernel, Place
from benchmarks.servers import Column, Server, ServerError, Site, run_server
from devtools.console import SetupError
from devtools.images import PROXY
from swarmlab.endpoint import NetworkEndpoint, enter_network
from swarmlab.lab import SwarmLab, swarm_lab
from swarmlab.machine import only_child

NODES = 3
NETWORK = "enterprise-gateway-bench"
ALIAS = "gateways"
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
        endpoints: where servers run, one at a time each.
        client: where raw clients are.
        secret: file with the secret of gateway and load balancer.
        balancers: the stack's load balancer, which WebSockets pass on their way to a gateway, and
            the same one to which gateways hand them over.
    """

    lab: SwarmLab
    folder: Path
    jupyter_path: Path
    endpoints: Mapping[Column, NetworkEndpoint]
    client: NetworkEndpoint
    secret: Path
    balancers: Mapping[WebSockets, Balancer]

    def place(self, kernels: dict[Column, str], bare: BareKernel | None) -> Place:
        """Kernels as services, by way of servers that clients reach directly."""
        return Place("Swarm", kernels, bare, self._serve, self._dial, PAUSE_SECONDS)

    def balanced(self, place: Place, websockets: WebSockets) -> Place:
        """The same through a load balancer, behind which is only the gateway."""
        kernels = {Column.GATEWAY: place.kernels[Column.GATEWAY]}
        serve = partial(self._serve_balanced, self.balancers[websockets])
        return replace(place, kernels=kernels, serve=serve)

    def bare_ipykernel(self, image: str) -> BareKernel:
        """Makes services that are nothing but ipykernel."""
        env = [f"HOME={engine.HOME}"]
        return lambda _folder: self._bare(image, engine.IPYKERNEL, env)

    def bare_flood_kernel(self) -> BareKernel:
        """Likewise the flood kernel."""
        env = [f"CONNECTION={json.dumps(CONNECTION)}"]
        return lambda _folder: self._bare(FLOOD_IMAGE, FLOOD_COMMAND, env)

    @contextmanager
    def _serve(self, column: Column, more: Mapping[str, str] | None = None) -> Iterator[Server]:
        endpoint = self.endpoints[column]
        env = {
            **(more or {}),
            "DOCKER_HOST": self.lab.manager.host,
            "EG_DOCKER_NETWORK": NETWORK,
            "EG_BALANCER_SECRET_FILE": str(self.secret),
        }
        if column is Column.ENTERPRISE_GATEWAY:
            env["EG_RESPONSE_IP"] = endpoint.ip  # it takes the first of its addresses otherwise
            env["EG_INHERITED_ENVS"] = "PATH,DOCKER_HOST"
        site = Site(
            "0.0.0.0",
            PORT,
            endpoint.node.ip,
            endpoint.published,
            env,
            endpoint.enter,
            only_child,
        )
        with run_server(column, self.folder, self.jupyter_path, site) as server:
            yield server

    @contextmanager
    def _serve_balanced(
        self, balancer: Balancer, column: Column, more: Mapping[str, str] | None = None
    ) -> Iterator[Server]:
        with self._serve(column, more) as server:
            server.rest = Rest(balancer.host, balancer.port, server.rest.token)
            deadline = time.monotonic() + BALANCER_SECONDS
            while not server.rest.answers():
                if time.monotonic() > deadline:
                    raise ServerError("the load balancer does not find the gateway")
                time.sleep(BALANCER_POLL_SECONDS)
            server.balancer_pids = balancer.pids()
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
            sit = partial(NetworkEndpoint, manager, NETWORK, PORT, PROXY.tag)
            gateway, peer, raw = sit(aliases=[ALIAS]), sit(), sit()
            secret = folder / "balancer-secret"
            secret.write_text(secrets.token_hex(32), encoding="ascii")
            secret.chmod(0o644)
            yield Stage(
                lab,
                folder,
                jupyter_path,
                {Column.GATEWAY: gateway, Column.ENTERPRISE_GATEWAY: peer},
                raw,
                secret,
                {
                    each: run_balancer(client, manager.ip, NETWORK, secret, each)
                    for each in WebSockets
                },
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
    kernelspecs.derive_kernelspec(jupyter_path, kernelspecs.FLOOD, {"image_name": FLOOD_IMAGE})


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
