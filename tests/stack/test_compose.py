"""The same files with docker-compose, on a single engine that is in no Swarm."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import docker
import pytest
from harness.compose import ComposeProject
from harness.leftovers import find_containers
from harness.waiting import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.kernel]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[ComposeProject]:
    """A project of docker-compose that is up."""
    project = ComposeProject(tmp_path)
    try:
        project.up()
        yield project
    finally:
        project.close()


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
        containers = client.containers.list(filters=label)
        assert {each.labels["component"] for each in containers} == {
            "enterprise-gateway",
            "enterprise-gateway-proxy",
            "engine-proxy",
        }
        (network,) = client.networks.list(names=[project.name])
        (volume,) = client.volumes.list(filters=label)
    made = [*containers, network, volume]
    labels = [getattr(each, "labels", None) or each.attrs["Labels"] for each in made]
    assert {each["app"] for each in labels} == {"enterprise-gateway"}


def test_down_leaves_nothing(tmp_path: Path) -> None:
    """Of what docker-compose made."""
    project = ComposeProject(tmp_path)
    try:
        project.compose("up", "--no-start")
    finally:
        project.close()
    with closing(docker.from_env()) as client:
        assert project.traces(client) == []
