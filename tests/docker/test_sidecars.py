"""A site's own launch script: Enterprise Gateway's image gets a sidecar, ours needs none."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from harness.clients.cells import expect_output_beyond_the_gateway
from harness.clients.languages import PYTHON
from harness.gateways.gateway import Gateway
from harness.kernels.site_kernels import (
    NEW_ARGUMENTS,
    OLD_ARGUMENTS,
    ensure_eg_image,
    expect_input_and_interrupt,
    install_site_kernelspec,
)
from harness.waiting import wait_until

from devtools.images import KERNEL
from enterprise_gateway.services.processproxies.launch.sidecar import DEFAULT_SIDECAR_IMAGE
from enterprise_gateway.services.processproxies.workloads.sidecars import SIDECAR_LABEL

pytestmark = [pytest.mark.docker, pytest.mark.kernel, pytest.mark.client]


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.DockerClient]:
    """A client of the engine, which has the image."""
    with contextlib.closing(docker.from_env()) as client:
        ensure_eg_image(client)
        yield client


@pytest.fixture
def site(tmp_path: Path, engine: docker.DockerClient) -> Iterator[Gateway]:
    """A running gateway with a site's kernelspecs."""
    gateway = Gateway(tmp_path / "gateway")
    kernels = gateway.home / "share/jupyter/kernels"
    install_site_kernelspec(kernels, "site_eg", ensure_eg_image(engine))
    for spelling, arguments in (("old", OLD_ARGUMENTS), ("new", NEW_ARGUMENTS)):
        install_site_kernelspec(kernels, f"site_{spelling}", KERNEL.tag, arguments=arguments)
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.close()


def containers(engine: docker.DockerClient, kernel_id: str) -> list[Any]:
    """Return the kernel's own container first, then its sidecar."""
    found = engine.containers.list(
        all=True, filters={"label": f"kernel_id={kernel_id}"}, ignore_removed=True
    )
    return sorted(found, key=lambda each: SIDECAR_LABEL in each.labels)


def until_nothing_is_left(engine: docker.DockerClient, kernel_id: str) -> None:
    """Wait until neither of the two is there."""
    wait_until(lambda: not containers(engine, kernel_id), deadline=120, what="removal of both")


@pytest.mark.parametrize("name", ["site_old", "site_new"])
def test_image_with_an_agent_needs_no_sidecar(
    site: Gateway, engine: docker.DockerClient, name: str
) -> None:
    """The script's container is all there is, with what the site wants of it."""
    kernel_id = site.start_kernel(name)
    (container,) = containers(engine, kernel_id)
    assert container.labels["site"] == "acme"
    client = site.connect(kernel_id)
    assert client.execute("open('/data/note').read()").result == "'from the volume'"
    site.delete_kernel(kernel_id)
    until_nothing_is_left(engine, kernel_id)


def test_sidecar_is_what_the_documentation_says(site: Gateway, engine: docker.DockerClient) -> None:
    """Beside its kernel, found like it, and without rights that it does not need."""
    kernel_id = site.start_kernel("site_eg")
    kernel, sidecar = containers(engine, kernel_id)
    assert SIDECAR_LABEL not in kernel.labels
    assert sidecar.name == f"{kernel.name}-agent"
    labels = {name: value for name, value in kernel.labels.items() if name in sidecar.labels}
    labels.pop("enterprise-gateway.inputs", None)  # the image's
    assert labels == {"app": "enterprise-gateway", "component": "kernel", "kernel_id": kernel_id}
    assert sidecar.labels[SIDECAR_LABEL] == kernel.id
    config, host = sidecar.attrs["Config"], sidecar.attrs["HostConfig"]
    assert config["Image"] == DEFAULT_SIDECAR_IMAGE
    assert config["User"] == "1000:100"
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["CapDrop"] == ["ALL"]
    assert host["ReadonlyRootfs"]
    assert (host["Memory"], host["PidsLimit"]) == (1 << 30, 64)
    assert host["LogConfig"] == {
        "Type": "json-file",
        "Config": {"max-size": "10m", "max-file": "3"},
    }
    assert host["NetworkMode"] == kernel.attrs["HostConfig"]["NetworkMode"]
    steps = [*site.request("GET", f"/api/kernels/{kernel_id}").json()["start"]["steps"]]
    before = ["admission", "pull", "queue", "prepare"]
    workloads = ["create", "start", "boot", "sidecar", "agent", "kernel"]
    assert steps == [*before, *workloads, "report", "check"]


def test_kernel_with_a_sidecar_is_a_kernel_like_any_other(
    site: Gateway, engine: docker.DockerClient
) -> None:
    """It runs code, asks, is interrupted, restarted and deleted; nothing is left of the two."""
    kernel_id = site.start_kernel("site_eg")
    client = site.connect(kernel_id)
    assert client.execute("open('/data/note').read()").result == "'from the volume'"
    expect_input_and_interrupt(site, client, kernel_id)

    before = {each.id for each in containers(engine, kernel_id)}
    restart = site.request("POST", f"/api/kernels/{kernel_id}/restart")
    assert restart.status_code == 200, restart.text
    after = containers(engine, kernel_id)
    assert len(after) == 2
    assert not before & {each.id for each in after}
    client = site.connect(kernel_id)
    assert client.execute("x").of_type("error")[0].content["ename"] == "NameError"

    site.delete_kernel(kernel_id)
    until_nothing_is_left(engine, kernel_id)
    assert site.request("GET", f"/api/kernels/{kernel_id}").status_code == 404


def test_output_goes_on_after_the_gateway_was_killed(
    site: Gateway, engine: docker.DockerClient
) -> None:
    """Another process finds the kernel where its sidecar is, and no line is lost."""
    kernel_id = site.start_kernel("site_eg")
    expect_output_beyond_the_gateway(site, kernel_id, PYTHON.lines)
    assert site.request("POST", f"/api/kernels/{kernel_id}/restart").ok
    assert site.connect(kernel_id).execute("1 + 1").result == "2"
    site.delete_kernel(kernel_id)
    until_nothing_is_left(engine, kernel_id)


def test_sidecar_keeps_the_log_on_a_disk(site: Gateway, engine: docker.DockerClient) -> None:
    """Beyond its memory, in a volume that goes with it; the rest of its files are read-only."""
    kernel_id = site.start_kernel("site_eg")
    sidecar = containers(engine, kernel_id)[1]
    (mount,) = sidecar.attrs["Mounts"]
    assert (mount["Destination"], mount["Type"]) == ("/tmp", "volume")
    written = sidecar.exec_run("touch /tmp/x /home/jovyan/x")
    assert written.exit_code == 1
    assert b"'/home/jovyan/x': Read-only" in written.output
    assert b"/tmp/x" not in written.output
    assert b"in memory only" not in sidecar.logs()

    site.delete_kernel(kernel_id)
    until_nothing_is_left(engine, kernel_id)
    with pytest.raises(docker.errors.NotFound):
        engine.volumes.get(mount["Name"])


def until_dead(gateway: Gateway, kernel_id: str) -> str:
    """Wait until a kernel is dead, and return why."""

    def model() -> Any:
        return gateway.request("GET", f"/api/kernels/{kernel_id}").json()

    wait_until(lambda: model().get("execution_state") == "dead", what="the death")
    return str(model()["reason"])


def test_kernel_whose_container_is_killed_is_dead_with_its_sidecar(
    site: Gateway, engine: docker.DockerClient
) -> None:
    """The engine says why, the sidecar goes, and the kernel can be launched again."""
    kernel_id = site.start_kernel("site_eg")
    containers(engine, kernel_id)[0].kill()
    assert "137" in until_dead(site, kernel_id)
    until_nothing_is_left(engine, kernel_id)
    assert site.request("POST", f"/api/kernels/{kernel_id}/restart").ok
    assert site.connect(kernel_id).execute("1 + 1").result == "2"
    site.delete_kernel(kernel_id)
    until_nothing_is_left(engine, kernel_id)


def test_kernel_that_dies_in_its_container_is_dead(
    site: Gateway, engine: docker.DockerClient
) -> None:
    """Its launcher would go on without it."""
    kernel_id = site.start_kernel("site_eg")
    code = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    site.connect(kernel_id).start_execution(code)
    assert until_dead(site, kernel_id)
    until_nothing_is_left(engine, kernel_id)


@pytest.mark.parametrize("is_removed", [False, True], ids=["killed", "removed"])
def test_kernel_whose_sidecar_dies_is_dead(
    site: Gateway, engine: docker.DockerClient, *, is_removed: bool
) -> None:
    """No client could reach it any more."""
    kernel_id = site.start_kernel("site_eg")
    sidecar = containers(engine, kernel_id)[1]
    if is_removed:
        sidecar.remove(force=True, v=True)
    else:
        sidecar.kill()
    assert "its sidecar ended" in until_dead(site, kernel_id)
    until_nothing_is_left(engine, kernel_id)


@pytest.mark.parametrize("killed", [0, 1], ids=["kernel", "sidecar"])
def test_what_died_without_a_gateway_is_cleared_away(
    site: Gateway, engine: docker.DockerClient, killed: int
) -> None:
    """The next gateway finds half of a pair, which is no kernel."""
    kernel_id = site.start_kernel("site_eg")
    site.kill()
    containers(engine, kernel_id)[killed].kill()
    site.start()
    until_nothing_is_left(engine, kernel_id)
    assert site.request("GET", f"/api/kernels/{kernel_id}").status_code in (200, 404)


def test_sidecar_outlives_its_kernel_for_seconds_only(
    site: Gateway, engine: docker.DockerClient
) -> None:
    """Even if there is no gateway that would remove it."""
    kernel_id = site.start_kernel("site_eg")
    kernel, sidecar = containers(engine, kernel_id)
    site.kill()
    kernel.kill()

    def has_ended() -> bool:
        sidecar.reload()
        return bool(sidecar.status == "exited")

    wait_until(has_ended, deadline=120, what="the sidecar's own end")
    assert sidecar.attrs["State"]["ExitCode"] == 3
    sidecar.remove(v=True)


def test_missing_image_of_sidecars_is_told(tmp_path: Path, engine: docker.DockerClient) -> None:
    """With the name of the setting; nothing is left of the kernel."""
    gateway = Gateway(tmp_path / "gateway", env={"EG_SIDECAR_IMAGE": "registry.invalid/nothing:1"})
    kernels = gateway.home / "share/jupyter/kernels"
    install_site_kernelspec(kernels, "site_eg", ensure_eg_image(engine))
    try:
        gateway.start()
        body = {"name": "site_eg", "env": {"KERNEL_USERNAME": gateway.username}}
        answer = gateway.request("POST", "/api/kernels", json=body)
        assert answer.status_code == 500
        assert "EG_SIDECAR_IMAGE" in answer.text
        gateway.wait_until_no_kernels()
    finally:
        gateway.close()
