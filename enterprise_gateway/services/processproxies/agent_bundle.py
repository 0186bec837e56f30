"""The kernel agent as one file, for images that have none.

The file is a POSIX shell script that goes over into a zip archive: `sh FILE` finds a Python and
executes it with the same file, which Python takes for the archive (zipapp, PEP 441). It is made of
the packages beside which the gateway itself is installed, and nothing but them: no installer is
needed, and gateways of the same release make the same bytes.
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
"""What the names of volumes, configs and containers for the bundle begin with."""
PACKAGES = ("kernel_agent", "h11", "wsproto")
"""What the agent consists of; pyzmq is compiled, so it has to be in the image."""
FOLDER = "/opt/enterprise-gateway"
"""Where the bundle is in a container: a folder, since a volume is one."""
FILE = "agent"
"""The bundle's name in it."""
MAIN = "__main__.py"
"""What Python runs of an archive."""
LABELS = {"app": "enterprise-gateway", "component": "agent"}
"""Labels of volumes, configs and containers for the bundle."""

_PRELUDE = "prelude.sh"
_MAIN = "archive_main.py"
_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip archive can say."""
_FILE_MODE = 0o100644 << 16
_DIGEST_CHARS = 16
"""Of the name, which Docker limits to 64 characters for configs."""


@dataclass(frozen=True, slots=True)
class AgentBundle:
    """The file, and what the engine calls that which holds it."""

    name: str
    """`enterprise-gateway-agent-` and a digest of the content: another content has another name."""
    content: bytes = field(repr=False)


class BundleMaker:
    """Makes the bundle when it is first asked for, and keeps it.

    Lives on one event loop, which goes on while it is made.
    """

    def __init__(self) -> None:
        self._making: asyncio.Task[AgentBundle] | None = None

    async def bundle(self) -> AgentBundle:
        """Return the bundle. Whoever is cancelled leaves it to be made for the next."""
        if self._making is None:
            making = asyncio.to_thread(build_bundle)
            self._making = asyncio.get_running_loop().create_task(making)
        return await asyncio.shield(self._making)


def build_bundle() -> AgentBundle:
    """Make the bundle of the installed packages: for the same files the same bytes.

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
    """Return the agent and what it needs, by the names in the archive."""
    modules = {MAIN: (_folder("kernel_agent") / _MAIN).read_bytes()}
    for package in PACKAGES:
        for name, path in _modules(_folder(package), package):
            modules[name] = path.read_bytes()
    return modules


def pack_bundle(prelude: bytes, modules: Mapping[str, bytes]) -> AgentBundle:
    """Return a shell script with an archive behind it: of the same the same bytes."""
    content = io.BytesIO()
    content.write(prelude)
    with zipfile.ZipFile(content, "w") as archive:
        for name, source in modules.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = _FILE_MODE
            entry.create_system = 3  # Unix, whatever this is made on
            archive.writestr(entry, source, zipfile.ZIP_DEFLATED, compresslevel=9)
    made = content.getvalue()
    digest = hashlib.sha256(made).hexdigest()[:_DIGEST_CHARS]
    return AgentBundle(f"{NAME_PREFIX}{digest}", made)


def _modules(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    """Yield the modules of a package with their names in the archive; its tests are left out."""
    for path in sorted(folder.iterdir()):
        if path.suffix == ".py":
            yield f"{name}/{path.name}", path
        elif (path / "__init__.py").is_file() and path.name != "tests":
            yield from _modules(path, f"{name}/{path.name}")


def _folder(package: str) -> Path:
    """Return where a package is; it is not imported."""
    spec = importlib.util.find_spec(package)
    assert spec is not None  # noqa: S101 - the gateway depends on it
    assert spec.submodule_search_locations  # noqa: S101 - it is a package
    return Path(next(iter(spec.submodule_search_locations)))
