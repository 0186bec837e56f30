"""The kernelspecs installed on this machine.

They are found in `jupyter --paths`, as by `jupyter kernelspec list`; IPython's old folder is not
searched. A thread reads them, since the folders may be on a network file system, and files that
have not changed are not parsed again.
"""

import asyncio
import importlib.util
import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from enterprise_gateway.errors import ConfigurationError, GatewayError, NotFoundError
from enterprise_gateway.services.kernelspecs.kernelspec import (
    Kernelspec,
    parse_kernelspec,
)
from enterprise_gateway.services.processproxies.registry import LOCAL_PROCESS_PROXY, ProxyRegistry
from enterprise_gateway.settings import LiveSettings

NATIVE_KERNEL = "python3"
NATIVE_ALIAS = "python"
"""jupyter_client's second name of the native kernel, unless a kernelspec has that name."""
CONTAINER_KERNEL = "python_docker"
ENGINE_CHECK_SECONDS = 2.0

_log = logging.getLogger(__name__)
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_NAME = re.compile(r"[a-z0-9._-]+")


class _Stamp(NamedTuple):
    """A fingerprint that changes whenever a kernelspec's folder or its `kernel.json` does."""

    folder_mtime_ns: int
    file_mtime_ns: int
    file_size_bytes: int


class _Fault(NamedTuple):
    """Why a kernelspec cannot be used."""

    text: str


_Known = tuple[_Stamp, Kernelspec | _Fault]
"""A kernelspec as it was read, and when."""


class Kernelspecs:
    """The installed kernelspecs that the settings allow."""

    def __init__(self, live: LiveSettings, proxies: ProxyRegistry) -> None:
        self._live = live
        self._proxies = proxies
        self._parsed: dict[Path, _Known] = {}
        self._has_engine = False

    async def all(self) -> dict[str, Kernelspec]:
        """Return the allowed kernelspecs by name.

        Invalid ones are left out, with one warning after each change.
        """
        return {
            name: spec
            for name, spec in (await self._allowed()).items()
            if isinstance(spec, Kernelspec)
        }

    async def get(self, name: str) -> Kernelspec:
        """Return the kernelspec of that name, in whatever case.

        `python` is the native kernel where no kernelspec is called so.

        Raises:
            NotFoundError: there is none, or it is not allowed.
            ConfigurationError: it is invalid.
        """
        specs = await self._allowed()
        spec = specs.get(_resolve(name, specs))
        if spec is None:
            raise NotFoundError(f"Kernel spec {name} not found")
        if isinstance(spec, _Fault):
            raise ConfigurationError(f"Kernel spec {name} cannot be used: {spec.text}.")
        return spec

    async def report_local_kernels(self) -> None:
        """Tell the operator if other users may run code as the gateway's user, or are kept from it.

        A list of allowed kernelspecs shows that the operator has decided this.
        """
        settings = self._live.current
        if settings.kernels.allowed_kernels:
            return
        local = [name for name, spec in (await self._installed()).items() if _is_local(spec)]
        if local and settings.identity.is_configured:
            _log.info(
                "Kernels of %s are processes of the gateway's machine and user, and not offered, "
                "since users are told apart: each of them could read what this user can, the "
                "cluster secret included. To offer them nevertheless, name them and all others in "
                "KernelSpecManager.allowed_kernelspecs (EG_ALLOWED_KERNELS).",
                ", ".join(local),
            )
            return
        reasons = [
            "the gateway runs as root" if os.getuid() == 0 else "",
            ""
            if settings.server.ip in _LOOPBACK
            else f"it listens on {settings.server.ip or 'all addresses'}",
        ]
        if local and any(reasons):
            _log.warning(
                "Kernels of %s are processes of the gateway's machine and user, with all that this "
                "user can read, the gateway's secrets included, and %s. Name the kernelspecs to "
                "offer in KernelSpecManager.allowed_kernelspecs (EG_ALLOWED_KERNELS).",
                ", ".join(local),
                " and ".join(filter(None, reasons)),
            )

    async def _installed(self) -> dict[str, Kernelspec | _Fault]:
        native = self._live.current.kernels.ensure_native_kernel
        return await asyncio.to_thread(self._read, native=native)

    async def _allowed(self) -> dict[str, Kernelspec | _Fault]:
        """Return those that the settings name; by default all, but no local one to known users."""
        settings = self._live.current
        found = await self._installed()
        allowed = {name.lower() for name in settings.kernels.allowed_kernels}
        if allowed:
            return {name: spec for name, spec in found.items() if name in allowed}
        if settings.identity.is_configured:
            return {name: spec for name, spec in found.items() if not _is_local(spec)}
        return found

    async def default_name(self) -> str:
        """Return the name of the kernelspec for requests that name none.

        It need not exist: starting it then fails with its name in the message. An engine that has
        answered once, or that the settings name, is only away: clients whose kernels run in
        containers never get a process of the gateway's machine instead.
        """
        configured = self._live.current.kernels.default_kernel_name
        specs = await self.all()
        if configured:
            return _resolve(configured, specs)
        container = specs.get(CONTAINER_KERNEL)
        if container is not None and await self._can_launch(container):
            return CONTAINER_KERNEL
        return NATIVE_KERNEL

    async def _can_launch(self, spec: Kernelspec) -> bool:
        if self._has_engine or self._live.current.docker.host:
            return True
        try:
            async with asyncio.timeout(ENGINE_CHECK_SECONDS):
                await self._proxies.get(spec.proxy_class).check()
        except (GatewayError, TimeoutError):
            return False
        self._has_engine = True
        return True

    def _read(self, *, native: bool) -> dict[str, Kernelspec | _Fault]:
        """Read the kernelspec folders, in a thread. The first of two with the same name wins."""
        parsed = self._parsed if self._live.current.kernels.kernelspec_cache_enabled else {}
        seen: dict[Path, _Known] = {}
        found: dict[str, Kernelspec | _Fault] = {}
        for folder in _folders(self._live.current.host.kernelspec_folders):
            name = folder.name.lower()
            if name in found or not _NAME.fullmatch(name):
                continue
            try:
                stamp = _stamp(folder)
            except OSError:
                continue
            known = parsed.get(folder)
            seen[folder] = known if known and known[0] == stamp else (stamp, _parse(name, folder))
            found[name] = seen[folder][1]
        self._parsed = seen
        if native and NATIVE_KERNEL not in found:
            spec = _native_kernelspec()
            if spec is not None:
                found[NATIVE_KERNEL] = spec
        return found


def _is_local(spec: Kernelspec | _Fault) -> bool:
    return isinstance(spec, Kernelspec) and spec.proxy_class == LOCAL_PROCESS_PROXY


def _folders(roots: Iterable[Path]) -> list[Path]:
    folders: list[Path] = []
    for root in roots:
        try:
            folders.extend(sorted(path for path in root.iterdir() if path.is_dir()))
        except OSError:
            continue
    return folders


def _stamp(folder: Path) -> _Stamp:
    file = (folder / "kernel.json").stat()
    return _Stamp(folder.stat().st_mtime_ns, file.st_mtime_ns, file.st_size)


def _resolve(name: str, specs: Mapping[str, object]) -> str:
    """Return the name under which a kernelspec is known."""
    lower = name.lower()
    return NATIVE_KERNEL if lower == NATIVE_ALIAS and lower not in specs else lower


def _parse(name: str, folder: Path) -> Kernelspec | _Fault:
    try:
        raw = (folder / "kernel.json").read_bytes()
        spec = parse_kernelspec(name, folder, raw, _resource_names(folder))
    except (OSError, ValueError, RecursionError, ConfigurationError) as exc:
        _log.warning("Kernelspec %s is left out: %s", folder, exc)
        return _Fault(str(exc).rstrip("."))
    if "executor_image_name" in spec.proxy_config:
        _log.info("Kernelspec %s: executor_image_name is ignored, no Spark executors", folder)
    return spec


def _resource_names(folder: Path) -> tuple[str, ...]:
    names = (path.name for path in folder.iterdir())
    return tuple(
        sorted(
            name
            for name in names
            if name in {"kernel.js", "kernel.css"} or name.startswith("logo-")
        )
    )


def _native_kernelspec() -> Kernelspec | None:
    """Return a kernelspec for the ipykernel of this interpreter, if there is one."""
    module = importlib.util.find_spec("ipykernel")
    if module is None or module.origin is None:
        return None
    folder = Path(module.origin).parent / "resources"
    if not folder.is_dir():
        return None
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "metadata": {"debugger": True},
    }
    return parse_kernelspec(
        NATIVE_KERNEL, folder, msgspec.json.encode(spec), _resource_names(folder)
    )
