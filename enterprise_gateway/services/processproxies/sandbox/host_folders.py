"""Looks at the folders of the host that kernels are to have, where this gateway can see them."""

import asyncio
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

from enterprise_gateway.errors import (
    ConfigurationError,
    ForbiddenError,
    GatewayError,
    UnavailableError,
)
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
MAX_LOOKS = 64
"""How many threads may look at once."""
_NO_ANSWER = (
    "The folders of the host that the kernel is to have as volumes cannot be looked at: their file "
    "system does not answer."
)
_UNIX = "unix://"
_PEER = struct.Struct("3i")
"""`struct ucred` of unix(7): pid, uid, gid."""


class HostFolders:
    """Checks that no symbolic link leads out of the allowed folders.

    A user who may write there can change links after this. What a request asks for must be visible
    here; a kernelspec's folders are the operator's choice.

    A file server that is away holds a thread for as long as it is. So these threads are not those
    of other work, they are few, and the gateway's end does not wait for them.
    """

    def __init__(self) -> None:
        self._looking = 0

    async def check(self, plan: SandboxPlan, policy: HostPolicy, docker: DockerSettings) -> None:
        """Look at the folders of one kernel.

        Raises:
            ConfigurationError: a folder of the kernelspec leads elsewhere.
            ForbiddenError: one of the request does, is missing, or cannot be seen from here.
            UnavailableError: the file system does not answer.
        """
        if plan.binds:
            await self._check(
                partial(_look, plan.binds, policy, docker, must_see=False), ConfigurationError
            )
        if plan.requested_binds:
            await self._check(
                partial(_look, plan.requested_binds, policy, docker, must_see=True), ForbiddenError
            )

    async def _check(self, look: Callable[[], None], error: type[GatewayError]) -> None:
        if self._looking >= MAX_LOOKS:
            raise UnavailableError(_NO_ANSWER)
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[None] = loop.create_future()
        self._looking += 1

        def finish(failure: Exception | None) -> None:
            self._looking -= 1
            if outcome.done():
                return
            if failure is not None:
                outcome.set_exception(failure)
            else:
                outcome.set_result(None)

        def run() -> None:
            failure = None
            try:
                look()
            except Exception as exc:  # noqa: BLE001 - told to the caller
                failure = exc
            with suppress(RuntimeError):  # the gateway has ended meanwhile
                loop.call_soon_threadsafe(finish, failure)

        threading.Thread(target=run, name="host folders", daemon=True).start()
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await outcome
        except PathError as exc:
            raise error(f"A volume is refused: {exc}.") from exc
        except TimeoutError as exc:
            raise UnavailableError(_NO_ANSWER) from exc


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
