"""`jupyter enterprisegateway kernelspecs`: installs the kernelspecs that come with the gateway.

Each becomes a folder where Jupyter finds kernelspecs, with the version and the process proxy in its
kernel.json replaced and the launch script copied in. The site may edit and move the folder:
`{resource_dir}` in argv is its place. The command keeps edited files, and names them.
"""

import hashlib
import json
import sys
from collections.abc import Sequence
from enum import Enum
from pathlib import Path

from jupyter_core.paths import jupyter_data_dir
from traitlets import Bool, Unicode
from traitlets import Enum as Choice

from enterprise_gateway._version import __version__
from enterprise_gateway.app.commands.command import Command, print_line
from enterprise_gateway.app.configuration.check import suggest
from enterprise_gateway.errors import ConfigurationError, InvalidRequestError

_PACKAGE = Path(__file__).resolve().parents[2]
_SOURCES = (
    (_PACKAGE / "kernelspecs", _PACKAGE / "launchers"),
    (_PACKAGE.parent / "etc/kernelspecs", _PACKAGE.parent / "etc/kernel-launchers/docker/scripts"),
)
"""Folders of kernelspecs and of the launch script: in an installed package, and in a checkout."""
_SCRIPT = "launch_docker.py"
_INSTALLED = ".installed.json"
"""File in an installed kernelspec with the SHA-256 of each file as it was installed."""


class Mode(Enum):
    """How kernels run; the values are those of `--mode`."""

    DOCKER = "docker"
    """As containers of the gateway's Docker engine."""
    SWARM = "swarm"
    """As services that Docker Swarm places on its nodes."""


_PROCESS_PROXIES = {Mode.DOCKER: b"DockerProcessProxy", Mode.SWARM: b"DockerSwarmProcessProxy"}
"""Class of the process proxy in kernel.json."""


class KernelspecInstallApp(Command):
    """Installs kernelspecs for kernels in containers: those named, or all."""

    name = "jupyter enterprisegateway kernelspecs install"
    description = __doc__ or ""
    examples = """jupyter enterprisegateway kernelspecs install
jupyter enterprisegateway kernelspecs install --mode=swarm --prefix=/usr/local python_docker"""
    takes_arguments = True
    aliases = {  # noqa: RUF012 - traitlets' own way to declare them
        **Command.aliases,
        "mode": "KernelspecInstallApp.mode",
        "prefix": "KernelspecInstallApp.prefix",
    }
    flags = {  # noqa: RUF012 - likewise
        **Command.flags,
        "user": ({"KernelspecInstallApp": {"user": True}}, "Install for this user only."),
    }

    mode = Choice(
        [mode.value for mode in Mode],
        default_value=Mode.DOCKER.value,
        help="Whether kernels are containers of the Docker engine or services of the Swarm.",
    ).tag(config=True)
    prefix = Unicode(
        sys.prefix, help="Install to PREFIX/share/jupyter/kernels, such as /usr/local."
    ).tag(config=True)
    user = Bool(default_value=False, help="Install for this user only.").tag(config=True)

    async def run(self) -> None:
        """Install the kernelspecs and print their folders."""
        data = Path(jupyter_data_dir()) if self.user else Path(self.prefix) / "share" / "jupyter"
        wanted: list[str] = list(self.extra_args)
        for line in install_kernelspecs(data / "kernels", Mode(self.mode), names=wanted):
            print_line(line)


class KernelspecsApp(Command):
    """Installs the kernelspecs that come with the gateway."""

    name = "jupyter enterprisegateway kernelspecs"
    description = __doc__ or ""
    examples = "jupyter enterprisegateway kernelspecs install"
    subcommands = {  # noqa: RUF012 - likewise
        "install": (KernelspecInstallApp, "Install kernelspecs."),
    }

    async def run(self) -> None:
        """Refuse to run without a subcommand."""
        raise InvalidRequestError("Name a subcommand: install.")


def install_kernelspecs(
    kernels: Path, mode: Mode, *, version: str = __version__, names: Sequence[str] = ()
) -> list[str]:
    """Install kernelspecs below the folder `kernels`, or bring them up to date.

    Args:
        kernels: a folder such as `/usr/local/share/jupyter/kernels`.
        mode: how their kernels run.
        version: tag of the kernel images.
        names: names of the kernelspecs; all if empty.

    Returns:
        Messages for the operator, one per line.

    Raises:
        InvalidRequestError: a kernelspec does not exist.
        ConfigurationError: the folder is not writable.
    """
    specs, scripts = next(source for source in _SOURCES if source[0].is_dir())
    known = {file.parent.name: file.parent for file in sorted(specs.glob("*/kernel.json"))}
    for name in names:
        if name not in known:
            raise InvalidRequestError(f"There is no kernelspec {name}{suggest(name, known)}")
    messages = []
    for name in names or known:
        files = _read_files(known[name], scripts / _SCRIPT, version, mode)
        try:
            kept = _install(files, kernels / name)
        except OSError as exc:
            raise ConfigurationError(
                f"Kernelspec {name} cannot be installed: {exc}. Set another place with --prefix or "
                "--user."
            ) from exc
        messages.append(f"Installed kernelspec {kernels / name}")
        messages += [f"{file} was edited and is kept as it is" for file in kept]
    return messages


def is_unedited(folder: Path) -> bool:
    """Whether a kernelspec was installed by this command and has not been edited since."""
    record = folder / _INSTALLED
    return record.exists() and all(
        (folder / name).exists() and _digest((folder / name).read_bytes()) == digest
        for name, digest in json.loads(record.read_text()).items()
    )


def _install(files: dict[str, bytes], target: Path) -> list[Path]:
    """Install or update one kernelspec; return the files that the site edited and that are kept."""
    record = target / _INSTALLED
    before = json.loads(record.read_text()) if record.exists() else {}
    now = {}
    kept = []
    for name, content in files.items():
        now[name] = _digest(content)
        file = target / name
        if file.exists() and _digest(file.read_bytes()) not in (now[name], before.get(name)):
            kept.append(file)
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    record.write_text(json.dumps(now, indent=1) + "\n")
    return kept


def _read_files(source: Path, script: Path, version: str, mode: Mode) -> dict[str, bytes]:
    """Return the content of each file of a kernelspec, by its path in the folder."""
    files = {file.name: file.read_bytes() for file in sorted(source.iterdir()) if file.is_file()}
    spec = files["kernel.json"].replace(b":VERSION", b":" + version.encode())
    files["kernel.json"] = spec.replace(_PROCESS_PROXIES[Mode.SWARM], _PROCESS_PROXIES[mode])
    files[f"scripts/{_SCRIPT}"] = script.read_bytes()
    return files


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
