"""Replicas of the gateway on the nodes of a Swarm, from the files of this checkout."""

import itertools
import os
import secrets
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

import requests

from enterprise_gateway.app.commands.kernelspecs import Mode
from harness.clients.channels import Channels
from harness.engines.swarm import KERNEL_IMAGE, NetworkEndpoint, find_services, remove_services
from harness.gateways.gateway import Gateway
from harness.waiting import wait_until
from jupyter_wire.messages import Codec
from swarmlab.lab import SwarmLab
from swarmlab.machine import only_child
from swarmlab.node import SwarmNode

PORT = 8888


class Replica(Gateway):
    """A gateway in the overlay network, which ends with its node's power."""

    kernel_form = Mode.SWARM

    def __init__(
        self,
        home: Path,
        endpoint: NetworkEndpoint,
        *,
        engine: str,
        env: Mapping[str, str],
        token: str,
        username: str,
    ) -> None:
        """`engine` is the `DOCKER_HOST` of a manager."""
        self.endpoint = endpoint
        self.host = endpoint.node.ip
        super().__init__(
            home,
            env={**env, "DOCKER_HOST": engine, "EG_IP": "0.0.0.0", "EG_PORT": str(endpoint.port)},
            port=endpoint.published,
            token=token,
            username=username,
        )

    def command(self) -> list[str]:
        """See the base class."""
        return self.endpoint.enter(*super().command())

    def send_signal(self, number: signal.Signals) -> None:
        """See the base class."""
        assert self.process is not None
        os.kill(only_child(self.process.pid), number)

    def remove_kernels(self) -> None:
        """Leave them to the other replicas; the group removes them."""

    @property
    def is_running(self) -> bool:
        """Whether its process is there."""
        return self.process is not None and self.process.poll() is None


class ReplicaGroup:
    """Replicas that share kernels: one secret, token, user name and network."""

    def __init__(
        self,
        folder: Path,
        lab: SwarmLab,
        network: str,
        nodes: Sequence[SwarmNode],
        *,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Make a replica for each of `nodes`; `start` starts them."""
        self.lab = lab
        self.token = secrets.token_hex(16)
        self.username = f"t{secrets.token_hex(4)}"
        shared = {
            "EG_DOCKER_NETWORK": network,
            "EG_CLUSTER_SECRET": secrets.token_hex(32),
            **(env or {}),
        }
        with ThreadPoolExecutor() as pool:
            self.endpoints = list(
                pool.map(lambda node: NetworkEndpoint(node, network, PORT, KERNEL_IMAGE), nodes)
            )
        self.replicas = [
            Replica(
                folder / f"replica{number}",
                endpoint,
                engine=lab.manager.host,
                env=shared,
                token=self.token,
                username=self.username,
            )
            for number, endpoint in enumerate(self.endpoints)
        ]
        self._turns = itertools.cycle(self.replicas)

    def start(self) -> None:
        """Start all replicas, and wait until they answer."""
        for replica in self.replicas:
            replica.start_process()
        for replica in self.replicas:
            wait_until(replica.answers, what="a replica's first answer")

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Start all replicas, and end them afterwards."""
        try:
            self.start()
            yield self
        finally:
            self.close()

    def remove_kernels(self) -> None:
        """Remove the kernels that a test has left."""
        running = [replica for replica in self.replicas if replica.is_running]
        for replica in running[:1]:
            for kernel_id in replica.list_kernels():
                replica.request("DELETE", f"/api/kernels/{kernel_id}")
        remove_services(self.lab, self.username)
        wait_until(
            lambda: not any(replica.list_kernels() for replica in running), what="empty lists"
        )

    def close(self) -> None:
        """End all replicas, and remove their kernels."""
        for replica in self.replicas:
            replica.close()
        remove_services(self.lab, self.username)
        with ThreadPoolExecutor() as pool:
            list(pool.map(NetworkEndpoint.close, self.endpoints))

    def pick(self) -> Replica:
        """Return the next replica that runs, as a load balancer would."""
        return next(each for each in self._turns if each.is_running)

    def request(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """Make a request of the next replica."""
        return self.pick().request(method, path, **arguments)

    def start_kernel(self, name: str = "python_docker", **env: str) -> str:
        """Start a kernel by the next replica; returns its id."""
        return self.pick().start_kernel(name, env)

    def delete_all_kernels(self) -> None:
        """Shut down every kernel that a replica lists."""
        running = [replica for replica in self.replicas if replica.is_running]
        for replica in running[:1]:
            replica.delete_all_kernels()

    def connect(self, kernel_id: str, *, session_id: str = "", codec: Codec = Codec.V1) -> Channels:
        """Open a WebSocket to a kernel by way of the next replica."""
        return self.pick().connect(kernel_id, session_id=session_id, codec=codec)

    def wait_until_no_kernels(self) -> None:
        """Wait until no service of the replicas' kernels is left."""
        with closing(self.lab.manager.client()) as client:
            wait_until(lambda: not find_services(client, self.username), what="end of all kernels")

    def read_log(self) -> str:
        """Return what all replicas printed."""
        logs = [f"{each.host}:{each.port}\n{each.read_log()}" for each in self.replicas]
        return "\n".join(logs)
