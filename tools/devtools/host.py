"""The machine that the commands run on: its distribution and package manager."""

import os
import platform
import shutil
from collections.abc import Iterable
from pathlib import Path

from devtools.console import SetupError, run, step

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""

VENV = ROOT / ".venv"


def cache_dir() -> Path:
    """Return the folder of caches, which may be deleted between two runs."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "enterprise-gateway"


def distribution() -> dict[str, str]:
    """Return the fields of os-release (`ID`, `VERSION_CODENAME`, …); empty where there is none."""
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def can_install() -> bool:
    """Whether this is root on Debian, Ubuntu or one of their descendants."""
    release = distribution()
    family = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    return os.geteuid() == 0 and bool(family & {"debian", "ubuntu"})


def install_commands(packages: dict[str, str]) -> None:
    """Install the packages whose commands are missing.

    Args:
        packages: Name of the package by the command it brings.

    Raises:
        SetupError: something is missing and may not or cannot be installed.
    """
    missing = {command: name for command, name in packages.items() if not which(command)}
    if not missing:
        return
    if not can_install():
        commands = ", ".join(sorted(missing))
        raise SetupError(f"missing: {commands} (installed by itself for root on Debian and Ubuntu)")
    apt_install(sorted(set(missing.values())))


def which(command: str) -> str | None:
    """Return the path of a command, the administrator's folders included."""
    return shutil.which(command, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def apt_install(packages: Iterable[str]) -> None:
    """Install Debian packages, without starting the services they bring."""
    names = list(packages)
    # systemctl does nothing under SYSTEMD_OFFLINE: an installed service is not a started one
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "SYSTEMD_OFFLINE": "1"}
    with step(f"Installing {' '.join(names)}"):
        run(["apt-get", "update", "-q"], env=env)
        run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *names], env=env)


def environment(host: str | None) -> dict[str, str]:
    """Return this process' environment, with the programs of .venv and the engine `host` in it."""
    path = f"{VENV / 'bin'}:{os.environ.get('PATH', os.defpath)}"
    return {**os.environ, "PATH": path, **({"DOCKER_HOST": host} if host else {})}
