"""The same files with docker-compose, on a single engine that is in no Swarm."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container
from harness.engines.leftovers import find_containers
from harness.engines.swarm import find_services, remove_services
from harness.gateways.compose import COMPOSE_FILE, ComposeProject
from harness.gateways.mounted_kernelspecs import (
    DOCUMENTED_CONTAINER_SPEC,
    DOCUMENTED_IMAGE,
    KERNELS,
    documented_image,
    install_kernelspecs,
    mark_kernels,
)
from harness.kernels.kernelspecs import derive_kernelspec
from harness.waiting import wait_until

from swarmlab.lab import SwarmLab

pytestmark = [pytest.mark.docker, pytest.mark.kernel]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[ComposeProject]:
    """A project of docker-compose that is up."""
    with up(ComposeProject(tmp_path)) as project:
        yield project


@contextmanager
def up(project: ComposeProject) -> Iterator[ComposeProject]:
    """Have a project of docker-compose up."""
    try:
        project.up()
        yield project
    finally:
        project.close()


def start(project: ComposeProject, name: str) -> Container:
    """Start a kernel that computes, and return its container."""
    kernel_id = project.start_kernel(name)
    assert project.connect(kernel_id).execute("6 * 7").result == "42"
    (container,) = (each for each in find_containers(project.username) if kernel_id in each.name)
    return container


def test_kernels_are_containers_of_the_engine(project: ComposeProject) -> None:
    """One runs code, and ends; the gateway is not root, and everything has its label."""
    kernel_id = project.start_kernel("python_docker")
    assert project.connect(kernel_id).execute("6 * 7").result == "42"
    assert [each.name for each in find_containers(project.username)] == [
        f"{project.username}-{kernel_id}"
    ]
    project.delete_kernel(kernel_id)
    wait_until(lambda: not find_containers(project.username), what="the container's end")
    assert project.compose("exec", "-T", "enterprise-gateway", "id", "-u").strip() == "1000"
    with closing(docker.from_env()) as client:
        label = {"label": f"com.docker.compose.project={project.name}"}
        containers = client.containers.list(filters=label, ignore_removed=True)
        assert {each.labels["component"] for each in containers} == {
            "enterprise-gateway",
            "enterprise-gateway-proxy",
            "engine-proxy",
        }
        networks = client.networks.list(names=[project.name])
        (volume,) = client.volumes.list(filters=label)
    assert len(networks) == 3
    made = [*containers, *networks, volume]
    labels = [getattr(each, "labels", None) or each.attrs["Labels"] for each in made]
    assert {each["app"] for each in labels} == {"enterprise-gateway"}


def test_kernel_reaches_the_gateways_response_port_only(project: ComposeProject) -> None:
    """Of all its ports; HTTP is in a network that kernels are not in."""
    reach = """
import socket
for port in (8877, 8888):
    try:
        socket.create_connection(("enterprise-gateway", port), 5).close()
        print(port, "open")
    except OSError as error:
        print(port, "closed")
"""
    kernel_id = project.start_kernel("python_docker")
    assert project.connect(kernel_id).execute(reach).stdout == "8877 open\n8888 closed\n"


def test_kernel_without_a_way_out_works_in_the_stack(tmp_path: Path) -> None:
    """The stack has the network for it, and gateway and load balancer are in it."""
    kernels = install_kernelspecs(tmp_path / "site", "docker")
    derive_kernelspec(kernels, "python_docker", "python_inside", config={"network": "none"})
    scripts = kernels / "python_inside" / "scripts"
    scripts.unlink()  # a link that leads nowhere in the gateway's container
    shutil.copytree(kernels / "python_docker" / "scripts", scripts)
    with up(ComposeProject(tmp_path, mounts={kernels: KERNELS})) as project:
        container = start(project, "python_inside")
        container.reload()
        networks = container.attrs["NetworkSettings"]["Networks"]
        assert list(networks) == [f"{project.name}-internal"]


def test_mounted_folder_takes_the_place_of_the_images_kernelspecs(tmp_path: Path) -> None:
    """All of them; those that are in it are started by its scripts, whatever their name."""
    kernels = install_kernelspecs(tmp_path / "site", "docker")
    mark_kernels(kernels / "python_docker", "site")
    (kernels / "python_docker").rename(kernels / "python_site")
    shutil.copytree(kernels / "python_site", kernels / "python_docker")
    shutil.rmtree(kernels / "scala_docker")
    with up(ComposeProject(tmp_path, mounts={kernels: KERNELS})) as project:
        offered = set(project.get("/api/kernelspecs")["kernelspecs"])
        assert {"python_docker", "python_site", "r_docker"} < offered
        assert "scala_docker" not in offered
        for name in ("python_docker", "python_site"):
            container = start(project, name)
            assert container.labels["site"] == "yes"


def test_mounted_kernelspecs_win_one_by_one(tmp_path: Path) -> None:
    """A folder of one kernelspec, and the documented kernel.json alone; the others stay."""
    kernels = install_kernelspecs(tmp_path / "site", "docker")
    mark_kernels(kernels / "python_tf_docker", "site")
    file = kernels / "python_tf_docker" / "kernel.json"
    file.write_text(file.read_text().replace("kernel-tf-py", "kernel-py"))
    documented = tmp_path / "kernel.json"
    documented.write_text(DOCUMENTED_CONTAINER_SPEC)
    mounts = {
        kernels / "python_tf_docker": f"{KERNELS}/python_tf_docker",
        documented: f"{KERNELS}/python_docker/kernel.json",
    }
    with (
        closing(docker.from_env()) as client,
        documented_image(client),
        up(ComposeProject(tmp_path, mounts=mounts)) as project,
    ):
        assert "r_docker" in project.get("/api/kernelspecs")["kernelspecs"]
        assert start(project, "python_tf_docker").labels["site"] == "yes"
        container = start(project, "python_docker")
        assert container.attrs["Config"]["Image"] == DOCUMENTED_IMAGE


def test_without_the_override_kernels_are_services(shared_lab: SwarmLab, tmp_path: Path) -> None:
    """Of the Swarm that the engine manages, while the gateway is a plain container there."""
    project = ComposeProject(tmp_path, files=(COMPOSE_FILE,), node=shared_lab.manager)
    with closing(shared_lab.manager.client()) as client, up(project):
        kernels = [project.start_kernel("python_docker") for _ in shared_lab.nodes]
        names = find_services(client, project.username)
        assert sorted(names) == sorted(f"{project.username}-{kernel}" for kernel in kernels)
        manager = client.info()["Swarm"]["NodeID"]
        tasks = [task for name in names for task in client.services.get(name).tasks()]
        assert any(task["NodeID"] != manager for task in tasks)
        for kernel_id in kernels:
            assert project.connect(kernel_id).execute("6 * 7").result == "42"
            project.delete_kernel(kernel_id)
        wait_until(lambda: not find_services(client, project.username), what="the services' end")
        remove_services(shared_lab, project.username)


def test_down_leaves_nothing(tmp_path: Path) -> None:
    """Of what docker-compose made."""
    project = ComposeProject(tmp_path)
    try:
        project.compose("up", "--no-start")
    finally:
        project.close()
    with closing(docker.from_env()) as client:
        assert project.traces(client) == []
