"""The kernel agent as one file, for images that have none.

The file is a POSIX shell script followed by a zip archive: `sh FILE` finds a Python and executes it
with the same file, which Python runs as an archive (zipapp, PEP 441). It is built from packages of
the gateway's own installation: no installer is needed, and gateways of the same release build the
same bytes.
"""

import asyncio
import hashlib
import importlib.util
import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from enterprise_gateway.errors import ConfigurationError

NAME_PREFIX = "enterprise-gateway-agent-"
"""Prefix of the names of volumes, configs and containers for the bundle."""
PACKAGES = ("kernel_agent", "h11")
"""Packages in the bundle."""
FOLDER = "/opt/enterprise-gateway"
"""Folder of the bundle in a container; a folder, since a volume is mounted as one."""
FILE = "agent"
"""Name of the bundle in that folder."""
MAIN = "__main__.py"
"""The file of an archive that Python runs."""
LABELS = {"app": "enterprise-gateway", "component": "agent"}
"""Labels of volumes, configs and containers for the bundle."""

_PRELUDE = "prelude.sh"
_MAIN = "archive_main.py"
_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest date of the zip format."""
_FILE_MODE = 0o100644 << 16
_DIGEST_CHARS = 16
"""Length of the digest in the name; Docker limits names of configs to 64 characters."""


@dataclass(frozen=True, slots=True)
class AgentBundle:
    """The file, and the name of the volume or config that holds it."""

    name: str
    """`enterprise-gateway-agent-` and a digest of the content."""
    content: bytes = field(repr=False)


class BundleMaker:
    """Builds the bundle on the first request, in a thread, and caches it."""

    def __init__(self) -> None:
        self._making: asyncio.Task[AgentBundle] | None = None

    async def bundle(self) -> AgentBundle:
        """Return the bundle. Cancelling a caller does not cancel the build."""
        if self._making is None:
            making = asyncio.to_thread(build_bundle)
            self._making = asyncio.get_running_loop().create_task(making)
        return await asyncio.shield(self._making)


def build_bundle() -> AgentBundle:
    """Build the bundle from the installed packages: the same files give the same bytes.

    Raises:
        ConfigurationError: the agent's package is of another release.
    """
    agent = _folder("kernel_agent")
    if not (agent / _PRELUDE).is_file():
        raise ConfigurationError(
            f"The package kernel_agent in {agent} has no {_PRELUDE}: install it from the same "
            "release as the gateway."
        )
    return pack_bundle((agent / _PRELUDE).read_bytes(), read_modules())


def read_modules() -> dict[str, bytes]:
    """Return the modules of the agent and its dependencies by their names in the archive."""
    modules = {MAIN: (_folder("kernel_agent") / _MAIN).read_bytes()}
    for package in PACKAGES:
        for name, path in _modules(_folder(package), package):
            modules[name] = path.read_bytes()
    return modules


def pack_bundle(prelude: bytes, modules: Mapping[str, bytes]) -> AgentBundle:
    """Return a shell script followed by an archive; the same input gives the same bytes."""
    content = io.BytesIO()
    content.write(prelude)
    with zipfile.ZipFile(content, "w") as archive:
        for name, source in modules.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = _FILE_MODE
            entry.create_system = 3  # Unix, on every platform
            archive.writestr(entry, source, zipfile.ZIP_DEFLATED, compresslevel=9)
    made = content.getvalue()
    digest = hashlib.sha256(made).hexdigest()[:_DIGEST_CHARS]
    return AgentBundle(f"{NAME_PREFIX}{digest}", made)


def _modules(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    """Yield the modules of a package with their names in the archive, without its tests."""
    for path in sorted(folder.iterdir()):
        if path.suffix == ".py":
            yield f"{name}/{path.name}", path
        elif (path / "__init__.py").is_file() and path.name != "tests":
            yield from _modules(path, f"{name}/{path.name}")


def _folder(package: str) -> Path:
    """Return the folder of a package, without importing it."""
    spec = importlib.util.find_spec(package)
    assert spec is not None  # noqa: S101 - the gateway depends on it
    assert spec.submodule_search_locations  # noqa: S101 - it is a package
    return Path(next(iter(spec.submodule_search_locations)))
