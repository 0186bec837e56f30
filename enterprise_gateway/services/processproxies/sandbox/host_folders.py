"""Looks at the folders of the host that kernels are to have, where this gateway can see them."""

import asyncio
import os
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

from enterprise_gateway.errors import ConfigurationError, ForbiddenError
from enterprise_gateway.services.processproxies.engine.client import DEFAULT_HOST
from enterprise_gateway.services.processproxies.sandbox.host_paths import (
    PathError,
    check_host_path,
    is_in,
)
from enterprise_gateway.services.processproxies.sandbox.plan import SandboxPlan
from enterprise_gateway.services.processproxies.sandbox.volumes import HostPolicy
from enterprise_gateway.settings import DockerSettings

LOOK_SECONDS = 5.0
"""How long the file system may take; an NFS server that is away takes for ever."""
_UNIX = "unix://"
_PEER = struct.Struct("3i")
"""`struct ucred` of unix(7): pid, uid, gid."""


async def check_folders(plan: SandboxPlan, policy: HostPolicy, docker: DockerSettings) -> None:
    """Check that no symbolic link leads out of the allowed folders.

    A user who may write there can change links after this. What a request asks for must be visible
    here; a kernelspec's folders are the operator's choice.

    Raises:
        ConfigurationError: a folder of the kernelspec leads elsewhere, or does not answer.
        ForbiddenError: one of the request does, is missing, or cannot be seen from here.
    """
    for paths, error, is_requested in (
        (plan.binds, ConfigurationError, False),
        (plan.requested_binds, ForbiddenError, True),
    ):
        if not paths:
            continue
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await asyncio.to_thread(_look, paths, policy, docker, must_see=is_requested)
        except PathError as exc:
            raise error(f"A volume is refused: {exc}.") from exc
        except TimeoutError as exc:
            raise error(f"A volume is refused: {paths[0]} does not answer.") from exc


def _look(
    paths: Iterable[str], policy: HostPolicy, docker: DockerSettings, *, must_see: bool
) -> None:
    real_roots = [*policy.roots, *(os.path.realpath(root) for root in policy.roots)]
    for path in paths:
        if must_see and not _is_of_host(path, policy.roots, docker.host or DEFAULT_HOST):
            raise PathError(
                f"{path} cannot be seen by the gateway, so links in it cannot be checked; mount "
                "its folder of allowed_volume_roots into the gateway at the same path"
            )
        try:
            real = os.path.realpath(path, strict=must_see)
        except OSError as exc:
            raise PathError(f"{path}: {exc.strerror}") from exc
        try:
            check_host_path(real, real_roots, policy.sockets)
        except PathError as exc:
            raise PathError(f"{path} leads to {real}, which {exc}") from exc


def _is_of_host(path: str, roots: Iterable[str], engine: str) -> bool:
    """Return whether a path means here what it means on the engine's host."""
    root = next((Path(root) for root in roots if is_in(path, root)), None)
    if root is None or not root.is_dir():
        return False
    is_mounted = any(folder.is_mount() for folder in (root, *root.parents[:-1]))
    return is_mounted or is_on_host(engine)


def is_on_host(engine: str) -> bool:
    """Return whether this process is on the engine's own host, and not in a container there.

    The kernel tells the process at the other end of a unix socket by its number, which is 0 if it
    is in another PID namespace (unix(7), SO_PEERCRED).
    """
    if not engine.startswith(_UNIX):
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(LOOK_SECONDS)
        try:
            probe.connect(engine.removeprefix(_UNIX))
        except OSError:
            return False
        peer = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    pid: int = _PEER.unpack(peer)[0]
    return pid != 0
