"""Process proxies under test whose kernels are in containers of one or several Docker engines."""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import DockerException, NotFound

from enterprise_gateway.app.commands.kernelspecs import Mode, install_kernelspecs
from enterprise_gateway.services.processproxies.contract import LaunchRequest
from enterprise_gateway.services.processproxies.registry import (
    DOCKER_PROCESS_PROXY,
    SWARM_PROCESS_PROXY,
)
from enterprise_gateway.settings import DockerSettings
from harness.engines.swarm import remove_containers
from harness.kernels.kernelspecs import add_setting
from harness.proxies.rigs import ProxyRig, stubborn_kernel
from swarmlab.lab import SwarmLab


class EngineRig(ProxyRig):
    """Kernels that a launch script asks an engine for."""

    needs_cleanup = True
    steps = ("create", "start")
    mode = ""
    """The form of the kernelspec."""

    def __init__(self, folder: Path, *, hosts: tuple[str, ...], network: str) -> None:
        """Install the kernelspec.

        Args:
            folder: the test's own.
            hosts: `DOCKER_HOST` of every engine that kernels may be on, the gateway's first.
            network: the kernels'.
        """
        super().__init__(folder, DockerSettings(host=hosts[0], network=network))
        self._clients = [connect(host) for host in hosts]
        self.resource_dir = install_kernelspec(folder, self.mode)
        self.spec = json.loads((self.resource_dir / "kernel.json").read_text())

    @property
    def engine(self) -> docker.DockerClient:
        """A client of the gateway's engine."""
        return self._clients[0]

    def request(self, **changes: Any) -> LaunchRequest:
        """See the base class."""
        given = {
            "argv": tuple(self.spec["argv"]),
            "resource_dir": str(self.resource_dir),
            "config": self.spec["metadata"]["process_proxy"]["config"],
        }
        return self.make_request(**{**given, **changes})

    def failing_request(self) -> LaunchRequest:
        """See the base class."""
        kernel = ["sh", "-c", "echo no kernel today >&2; exit 3"]
        command = ["python3", "-I", "-m", "kernel_agent", "--", *kernel]
        return self.edited_request("command", repr(command))

    def stubborn_request(self) -> LaunchRequest:
        """See the base class."""
        command = ["python3", "-I", "-m", "kernel_agent", "--", *stubborn_kernel("python3")]
        return self.edited_request("command", repr(command))

    def edited_request(self, name: str, value: str, **changes: Any) -> LaunchRequest:
        """Return a request whose launch script was edited as a site would: one setting is added."""
        script = self.resource_dir / "scripts" / "launch_docker.py"
        edited = script.with_name(f"edited_{uuid.uuid4().hex[:6]}.py")
        edited.write_text(add_setting(script.read_text(), name, value))
        argv = tuple(
            str(edited) if part.endswith("launch_docker.py") else part for part in self.spec["argv"]
        )
        return self.request(argv=argv, **changes)

    def traces(self, kernel_id: str) -> list[str]:
        """See the base class."""
        return [str(each.name) for each in self.containers(kernel_id)]

    def containers(self, kernel_id: str = "") -> list[Any]:
        """Return the containers of a kernel, or of all of the test's."""
        return [
            each
            for client in self._clients
            for each in containers_of(client)
            if each.name.startswith(f"{self.username}-") and kernel_id in each.name
        ]

    def kill(self, kernel_id: str) -> None:
        """See the base class."""
        for container in self.containers(kernel_id):
            container.kill()
            with suppress(NotFound):  # a gateway has removed it already
                container.wait()  # a busy engine answers before it knows that it has ended

    def dump(self) -> str:
        """Return what the engines know of the test's containers, for the report of a failure."""
        parts = []
        for container in self.containers():
            try:
                log = container.logs(tail=50).decode(errors="replace")
                state = json.dumps(container.attrs["State"])
            except NotFound:
                log = state = "gone meanwhile"
            parts.append(f"{container.name} {container.status} {state}\n{log}")
        return "\n".join(parts) or "no containers"

    def remove_kernels(self) -> None:
        """See the base class."""
        for client in self._clients:
            with suppress(DockerException, requests.ConnectionError):  # a node may be off
                remove_containers(client, self.username)

    async def close(self) -> None:
        """See the base class."""
        await super().close()
        for client in self._clients:
            client.close()


class DockerRig(EngineRig):
    """Containers of one engine, by default that of the environment."""

    class_name = DOCKER_PROCESS_PROXY
    mode = "docker"

    def __init__(self, folder: Path, host: str = "", network: str = "bridge") -> None:
        host = host or os.environ.get("DOCKER_HOST", "")
        super().__init__(folder, hosts=(host,), network=network)


class SwarmRig(EngineRig):
    """Services of a Swarm. The test must be in the network."""

    class_name = SWARM_PROCESS_PROXY
    mode = "swarm"

    def __init__(self, folder: Path, network: str, *hosts: str) -> None:
        """`hosts` are as in the base class; the first is a manager."""
        super().__init__(folder, hosts=hosts, network=network)
        self.arguments = (network, *hosts)

    @classmethod
    def of(cls, folder: Path, lab: SwarmLab, network: str) -> "SwarmRig":
        """Return a rig whose kernels may land on any node."""
        return cls(folder, network, *(node.host for node in lab.nodes))

    def services(self, kernel_id: str = "") -> list[Any]:
        """Return the services of a kernel, or of all of the test's."""
        found = self.engine.services.list(filters={"label": "app=enterprise-gateway"})
        return [
            each
            for each in found
            if each.name.startswith(f"{self.username}-") and kernel_id in each.name
        ]

    def traces(self, kernel_id: str) -> list[str]:
        """See the base class."""
        names = [str(each.name) for each in self.services(kernel_id)]
        return [*names, *super().traces(kernel_id)]

    def dump(self) -> str:
        """See the base class."""
        tasks = [json.dumps(task) for each in self.services() for task in each.tasks()]
        return "\n".join([*tasks, super().dump()])

    def remove_kernels(self) -> None:
        """See the base class."""
        for service in self.services():
            with suppress(NotFound):
                service.remove()
        super().remove_kernels()


def connect(host: str) -> docker.DockerClient:
    """Return a client of an engine; "" is that of the environment."""
    return docker.DockerClient(host) if host else docker.from_env()


def containers_of(client: docker.DockerClient) -> Iterator[Any]:
    """Return the containers of all kernels on an engine; of one that is off there are none."""
    with suppress(DockerException, requests.ConnectionError):
        yield from client.containers.list(
            all=True, filters={"label": "app=enterprise-gateway"}, ignore_removed=True
        )


def install_kernelspec(folder: Path, mode: str) -> Path:
    """Install the Python kernelspec for Docker below a folder and return where it is."""
    kernels = folder / "share" / "jupyter" / "kernels"
    install_kernelspecs(kernels, Mode(mode), names=["python_docker"])
    return kernels / "python_docker"
