"""Kernelspecs of the site's own in the stack: a folder that is mounted into its gateways."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from harness.gateways.mounted_kernelspecs import (
    DOCUMENTED_IMAGE,
    KERNELS,
    documented_image,
    documented_service_spec,
    install_kernelspecs,
    mark_kernels,
)
from harness.gateways.stack import Stack

from devtools.images import KERNEL
from swarmlab.lab import SwarmLab

pytestmark = [pytest.mark.docker, pytest.mark.kernel]


@pytest.fixture(scope="module")
def site(shared_lab: SwarmLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose `python_docker` is the documented kernel.json with an edited launch script.

    `python_site` is a copy of the project's own with the same script. There are no others.
    """
    folder = tmp_path_factory.mktemp("site")
    installed = install_kernelspecs(folder, "swarm")
    kernels = folder / "kernels"
    kernels.mkdir()
    mark_kernels(installed / "python_docker", "site")
    (installed / "python_docker").rename(kernels / "python_site")
    script = Path("python_docker", "scripts", "launch_docker.py")
    (kernels / script).parent.mkdir(parents=True)
    (kernels / script).write_bytes((kernels / "python_site/scripts/launch_docker.py").read_bytes())
    (kernels / "python_docker" / "kernel.json").write_text(documented_service_spec())
    stack = Stack(shared_lab, folder, mounts={kernels: KERNELS})
    with ExitStack() as used:
        for node in shared_lab.nodes:
            used.enter_context(documented_image(used.enter_context(closing(node.client()))))
        used.callback(stack.close)
        stack.deploy()
        yield stack


@pytest.mark.parametrize(
    ("name", "image"), [("python_docker", DOCUMENTED_IMAGE), ("python_site", KERNEL.tag)]
)
def test_mounted_folder_takes_the_place_of_the_images_kernelspecs(
    site: Stack, name: str, image: str
) -> None:
    """They are offered without being listed anywhere; the kernel is what its script makes."""
    assert set(site.get("/api/kernelspecs")["kernelspecs"]) == {"python_docker", "python_site"}
    kernel_id = site.start_kernel(name)
    assert site.connect(kernel_id).execute("6 * 7").result == "42"
    spec = service_of(site, kernel_id)["Spec"]
    assert spec["Labels"]["site"] == "yes"
    assert spec["TaskTemplate"]["ContainerSpec"]["Image"] == image
    site.delete_kernel(kernel_id)


def service_of(stack: Stack, kernel_id: str) -> dict[str, Any]:
    """Return what the Swarm says of a kernel's service."""
    with closing(stack.lab.manager.client()) as client:
        (service,) = client.services.list(filters={"label": f"kernel_id={kernel_id}"})
        return dict(service.attrs)
