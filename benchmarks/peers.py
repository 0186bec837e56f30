"""The servers to compare the gateway with, installed in environments of their own."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

INSTALL_SECONDS = 600.0


class PeerUnreachableError(Exception):
    """The peer could not be installed."""


@dataclass(frozen=True)
class Peer:
    """A server to install."""

    name: str
    requirements: tuple[str, ...]
    script: str
    """Its command, in `bin`."""


ENTERPRISE_GATEWAY = Peer(
    "enterprise-gateway-3.3.0",
    # In one command: with a newer ipykernel the resolver leaves its pins.
    ("jupyter_enterprise_gateway==3.3.0", "ipykernel<7"),
    "jupyter-enterprisegateway",
)
JUPYTER_SERVER = Peer("jupyter-server-2.21", ("jupyter_server>=2.21,<2.22",), "jupyter-server")


def install(peer: Peer) -> Path:
    """Install a peer unless that was done before.

    Returns:
        Its command.

    Raises:
        PeerUnreachableError: no package index, or the versions are not there.
    """
    folder = _cache() / peer.name
    complete = folder / "complete"
    if not complete.exists():
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(folder / "bin" / "pip"), "install", "--quiet", *peer.requirements])
        complete.touch()
    return folder / "bin" / peer.script


def install_files(requirement: str) -> Path:
    """Unpack a wheel without what it depends on, unless that was done before.

    Returns:
        The folder that holds its packages.
    """
    folder = _cache() / requirement.replace("==", "-")
    complete = folder / "complete"
    if not complete.exists():
        pip = install(ENTERPRISE_GATEWAY).parent / "pip"
        _run([str(pip), "install", "-q", "--no-deps", "--target", str(folder), requirement])
        complete.touch()
    return folder


def _cache() -> Path:
    caches = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return caches / "enterprise-gateway" / "bench"


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().splitlines()
        raise PeerUnreachableError(reason[-1] if reason else "the installation failed") from error
    except subprocess.TimeoutExpired as error:
        raise PeerUnreachableError("the installation took too long") from error
