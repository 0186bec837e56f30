"""Symbolic links in folders of the host, where the gateway can see them."""

import os
import socket
import threading
from pathlib import Path

import pytest
from harness.waiting import eventually

from enterprise_gateway.errors import ConfigurationError, ForbiddenError, UnavailableError
from enterprise_gateway.services.processproxies.sandbox import host_folders
from enterprise_gateway.services.processproxies.sandbox.host_folders import (
    HostFolders,
    is_on_host,
)
from enterprise_gateway.services.processproxies.sandbox.networks import NetworkChoice
from enterprise_gateway.services.processproxies.sandbox.plan import SandboxPlan, plan_sandbox
from enterprise_gateway.services.processproxies.sandbox.volumes import HostPolicy
from enterprise_gateway.settings import DockerSettings, Settings

from .test_plan import REQUEST

NEAR = DockerSettings()
FAR = DockerSettings(host="tcp://engine:2376")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the host that kernels may have, seen by a gateway in no container."""
    monkeypatch.setattr(host_folders, "is_on_host", lambda engine: engine.startswith("unix:"))
    root = tmp_path / "root"
    (root / "data").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    return root


async def check(
    root: Path,
    path: Path,
    docker: DockerSettings = NEAR,
    *,
    is_requested: bool = False,
    folders: HostFolders | None = None,
) -> None:
    """Look at one folder."""
    sandbox = plan_sandbox(REQUEST, Settings(), is_service=False).sandbox
    binds = (str(path),)
    plan = SandboxPlan(
        sandbox, NetworkChoice(), () if is_requested else binds, binds if is_requested else ()
    )
    await (folders or HostFolders()).check(plan, HostPolicy((str(root),), ()), docker)


@pytest.mark.parametrize("is_requested", [True, False])
async def test_link_out_of_the_root_is_refused(root: Path, *, is_requested: bool) -> None:
    """At the end of the path and on the way, directly and by another link."""
    (root / "out").symlink_to(root.parent / "secret")
    (root / "up").symlink_to("..")
    (root / "twice").symlink_to("out")
    error = ForbiddenError if is_requested else ConfigurationError
    for name in ("out", "up/secret", "twice", "up"):
        with pytest.raises(error, match="leads to"):
            await check(root, root / name, is_requested=is_requested)


async def test_link_within_the_root_is_followed(root: Path) -> None:
    """And the root may be a link itself."""
    (root / "same").symlink_to("data")
    await check(root, root / "same", is_requested=True)
    alias = root.parent / "alias"
    alias.symlink_to(root)
    await check(alias, alias / "data", is_requested=True)


async def test_request_needs_a_folder_that_is_there(root: Path) -> None:
    """The engine's message names its own paths; a kernelspec's is left to the engine."""
    with pytest.raises(ForbiddenError, match="No such file"):
        await check(root, root / "none", is_requested=True)
    await check(root, root / "none")


async def test_request_needs_a_folder_that_the_gateway_can_see(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another machine, or in a container without the folder, links cannot be checked."""
    await check(root, root / "data", is_requested=True)
    with pytest.raises(ForbiddenError, match="cannot be seen"):
        await check(root, root / "data", FAR, is_requested=True)
    await check(root, root / "data", FAR)
    monkeypatch.setattr(host_folders, "is_on_host", lambda _: False)
    with pytest.raises(ForbiddenError, match="cannot be seen"):
        await check(root, root / "data", is_requested=True)
    monkeypatch.setattr(Path, "is_mount", lambda path: path == root)
    await check(root, root / "data", is_requested=True)


async def test_file_server_that_is_away_holds_up_nothing_else(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start fails in time, others work, and there is an end to the threads that wait."""
    back = threading.Event()
    resolve = os.path.realpath

    def realpath(path: str, *, strict: bool = False) -> str:
        if path.endswith("away"):
            back.wait(60)
        return resolve(path, strict=strict)

    monkeypatch.setattr(host_folders.os.path, "realpath", realpath)
    monkeypatch.setattr(host_folders, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(host_folders, "MAX_LOOKS", 2)
    folders = HostFolders()
    for number in range(3):
        with pytest.raises(UnavailableError, match="does not answer"):
            await check(root, root / "away", folders=folders)
        assert folders._looking == min(number + 1, 2)
    back.set()
    await eventually(lambda: folders._looking == 0)
    monkeypatch.setattr(host_folders, "LOOK_SECONDS", 60.0)
    await check(root, root / "data", folders=folders)


def test_engine_of_the_same_host_is_told_by_its_socket(tmp_path: Path) -> None:
    """A process of the same PID namespace is at its other end; another machine has none."""
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as engine:
        assert not is_on_host(f"unix://{path}")
        engine.bind(str(path))
        engine.listen()
        assert is_on_host(f"unix://{path}")
    assert not is_on_host("tcp://engine:2376")
