"""The kernelspecs installed on this machine.

They are found in `jupyter --paths`, as `jupyter kernelspec list` does; IPython's folder of old is
not looked at. Reading is done in a thread, since the folders may be on a network file system, and
files that have not changed are not parsed again.
"""

import asyncio
import importlib.util
import logging
import re
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec
from jupyter_core.paths import jupyter_path

from enterprise_gateway.errors import GatewayError, NotFoundError
from enterprise_gateway.services.kernelspecs.kernelspec import Kernelspec, parse_kernelspec
from enterprise_gateway.services.proxies import Proxies
from enterprise_gateway.settings import LiveSettings

NATIVE_KERNEL = "python3"
CONTAINER_KERNEL = "python_docker"
ENGINE_CHECK_SECONDS = 2.0

_log = logging.getLogger(__name__)
_NAME = re.compile(r"[a-z0-9._-]+")


class _Stamp(NamedTuple):
    """Changes whenever a kernelspec's folder or its `kernel.json` does."""

    folder_mtime_ns: int
    file_mtime_ns: int
    file_size_bytes: int


class Kernelspecs:
    """The installed kernelspecs that the settings allow."""

    def __init__(self, live: LiveSettings, proxies: Proxies) -> None:
        self._live = live
        self._proxies = proxies
        self._parsed: dict[Path, tuple[_Stamp, Kernelspec | None]] = {}
        self._has_engine = False

    async def all(self) -> dict[str, Kernelspec]:
        """Return the allowed kernelspecs by name.

        Faulty ones are left out, with a warning once a change.
        """
        settings = self._live.current.kernels
        found = await asyncio.to_thread(self._read, native=settings.ensure_native_kernel)
        allowed = {name.lower() for name in settings.allowed_kernels}
        return {name: spec for name, spec in found.items() if not allowed or name in allowed}

    async def get(self, name: str) -> Kernelspec:
        """Return the kernelspec of that name, in whatever case.

        Raises:
            NotFoundError: there is none, or it is not allowed.
        """
        specs = await self.all()
        try:
            return specs[name.lower()]
        except KeyError:
            raise NotFoundError(f"Kernel spec {name} not found") from None

    async def default_name(self) -> str:
        """Return the name of the kernelspec for requests that name none.

        It need not exist: then starting it fails with its name in the message. An engine that has
        answered once, or that the settings name, is only away: whoever gets containers as a rule
        never gets a process of the gateway's machine instead.
        """
        configured = self._live.current.kernels.default_kernel_name
        if configured:
            return configured.lower()
        container = (await self.all()).get(CONTAINER_KERNEL)
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

    def _read(self, *, native: bool) -> dict[str, Kernelspec]:
        """Read the kernelspec folders, in a thread. The first of two with the same name wins."""
        parsed = self._parsed if self._live.current.kernels.kernelspec_cache_enabled else {}
        seen: dict[Path, tuple[_Stamp, Kernelspec | None]] = {}
        found: dict[str, Kernelspec] = {}
        for folder in _folders():
            name = folder.name.lower()
            if name in found or not _NAME.fullmatch(name):
                continue
            try:
                stamp = _stamp(folder)
            except OSError:
                continue
            known = parsed.get(folder)
            seen[folder] = known if known and known[0] == stamp else (stamp, _parse(name, folder))
            spec = seen[folder][1]
            if spec is not None:
                found[name] = spec
        self._parsed = seen
        if native and NATIVE_KERNEL not in found:
            spec = _native_kernelspec()
            if spec is not None:
                found[NATIVE_KERNEL] = spec
        return found


def _folders() -> list[Path]:
    roots = [Path(path) for path in jupyter_path("kernels")]
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


def _parse(name: str, folder: Path) -> Kernelspec | None:
    try:
        raw = (folder / "kernel.json").read_bytes()
        return parse_kernelspec(name, folder, raw, _resource_names(folder))
    except (OSError, ValueError) as exc:
        _log.warning("Kernelspec %s is left out: %s", folder, exc)
        return None


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
