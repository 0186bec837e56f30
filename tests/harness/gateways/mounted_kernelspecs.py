# ruff: noqa: E501 - documented texts, letter for letter
"""Kernelspecs that an operator mounts into the gateway's container, and the mounts."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker

from devtools.images import KERNEL
from enterprise_gateway.app.commands import kernelspecs

KERNELS = "/usr/local/share/jupyter/kernels"
"""Where kernelspecs belong in the gateway's container."""

DOCUMENTED_IMAGE = "elyra/kernel-py:VERSION"
"""The image that the documented kernel.json names, as it stands there."""

DOCUMENTED_CONTAINER_SPEC = """{
  "metadata": {
    "process_proxy": {
      "class_name": "enterprise_gateway.services.processproxies.docker_swarm.DockerProcessProxy",
      "config": {
        "image_name": "elyra/kernel-py:VERSION"
      }
    }
  },
  "argv": [
    "python",
    "/usr/local/share/jupyter/kernels/python_docker/scripts/launch_docker.py",
    "--RemoteProcessProxy.kernel-id",
    "{kernel_id}",
    "--RemoteProcessProxy.response-address",
    "{response_address}",
    "--RemoteProcessProxy.public-key",
    "{public_key}"
  ]
}
"""
"""Jupyter Enterprise Gateway's documentation, "DockerProcessProxy", letter for letter."""

DOCUMENTED_SERVICE_METADATA = """{
  "metadata": {
    "process_proxy": {
      "class_name": "enterprise_gateway.services.processproxies.docker_swarm.DockerSwarmProcessProxy",
      "config": {
        "image_name": "elyra/kernel-py:VERSION"
      }
    }
  }
}
"""
DOCUMENTED_SERVICE_ARGV = """{
  "argv": [
    "python",
    "/usr/local/share/jupyter/kernels/python_docker/scripts/launch_docker.py",
    "--RemoteProcessProxy.kernel-id",
    "{kernel_id}",
    "--RemoteProcessProxy.response-address",
    "{response_address}",
    "--RemoteProcessProxy.public-key",
    "{public_key}"
  ]
}
"""
"""The same for "DockerSwarmProcessProxy", whose kernel.json is shown in two parts."""


def documented_service_spec() -> str:
    """Return the documented kernel.json of a service, put together."""
    parts = (DOCUMENTED_SERVICE_METADATA, DOCUMENTED_SERVICE_ARGV)
    return json.dumps({name: value for part in parts for name, value in json.loads(part).items()})


@contextmanager
def documented_image(client: docker.DockerClient) -> Iterator[None]:
    """Have this project's Python kernel under the documented name."""
    client.images.get(KERNEL.tag).tag(DOCUMENTED_IMAGE)
    try:
        yield
    finally:
        client.images.remove(DOCUMENTED_IMAGE)


def install_kernelspecs(prefix: Path, mode: str) -> Path:
    """Install the project's kernelspecs as an operator would; returns their folder."""
    kernels = prefix / "share" / "jupyter" / "kernels"
    kernelspecs.install_kernelspecs(kernels, kernelspecs.Mode(mode))
    return kernels


def mark_kernels(kernelspec: Path, label: str) -> None:
    """Add a label to the workloads of a kernelspec's launch script."""
    script = kernelspec / "scripts" / "launch_docker.py"
    line = '        "component": "kernel",\n'
    text = script.read_text(encoding="utf-8")
    assert line in text
    script.write_text(text.replace(line, f'{line}        "{label}": "yes",\n'), encoding="utf-8")


def write_mounts(file: Path, mounts: Mapping[Path, str]) -> Path:
    """Write a stack file that adds read-only mounts to the gateway: paths there by paths here."""
    volumes = [
        {"type": "bind", "source": str(source), "target": target, "read_only": True}
        for source, target in mounts.items()
    ]
    added: dict[str, Any] = {"services": {"enterprise-gateway": {"volumes": volumes}}}
    file.write_text(json.dumps({"version": "3.8", **added}), encoding="utf-8")
    return file
