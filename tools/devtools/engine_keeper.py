"""The process that runs a private engine and stops it when its last user has ended."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

from docker.errors import DockerException
from requests.exceptions import RequestException

from devtools import bridge
from devtools.private_engine import Paths, connected, remove_containers

STOP_TIMEOUT = 30.0
"""Seconds that dockerd gets to end by itself."""


def keep_engine(paths: Paths) -> None:
    """Run the engine until no process holds a lease on it."""
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    unmount(paths)
    bridge.create(paths.bridge)
    try:
        with (paths.run / "lease").open("w") as lease:
            dockerd = start(paths)
            try:
                signal.signal(signal.SIGCHLD, _end)
                if dockerd.poll() is None:
                    fcntl.flock(lease, fcntl.LOCK_EX)
            finally:
                for number in (signal.SIGCHLD, signal.SIGTERM):
                    signal.signal(number, signal.SIG_DFL)
                with suppress(OSError):
                    os.write(sys.stdout.fileno(), b"stopping\n")
                stop(paths, dockerd)
                unmount(paths)
    finally:
        bridge.delete(paths.bridge)


def _end(_signum: int, _frame: FrameType | None) -> None:
    raise SystemExit(1)


def start(paths: Paths) -> subprocess.Popen[bytes]:
    """Start dockerd, sharing nothing with another engine but the kernel."""
    paths.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    (paths.run / "docker.pid").unlink(missing_ok=True)
    # dockerd would give the bridge the address that it had last time
    shutil.rmtree(paths.data / "network", ignore_errors=True)
    config = paths.run / "daemon.json"
    config.write_text("{}", encoding="ascii")
    return subprocess.Popen(
        [
            # should this process be killed, the engine ends too
            *("setpriv", "--pdeathsig", "TERM", "dockerd"),
            f"--config-file={config}",
            f"--host={paths.host}",
            f"--data-root={paths.data}",
            f"--exec-root={paths.run}/exec",
            f"--pidfile={paths.run}/docker.pid",
            f"--bridge={paths.bridge}",
            f"--default-address-pool=base={bridge.NETWORKS},size=24",
            # with true it would empty the chains of another engine
            "--iptables=false",
            "--ip6tables=false",
            # a containerd of the system may serve another engine
            "--containerd-namespace=enterprise-gateway",
            "--containerd-plugins-namespace=enterprise-gateway-plugins",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def stop(paths: Paths, dockerd: subprocess.Popen[bytes]) -> None:
    """End containers and engine, by force where nothing else helps."""
    if dockerd.poll() is None:
        with suppress(DockerException, RequestException), connected(paths) as client:
            remove_containers(client)
        dockerd.terminate()
    try:
        dockerd.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        dockerd.kill()
        dockerd.wait()


def unmount(paths: Paths) -> None:
    """Unmount the file systems that a killed engine has left in its folders."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    for point in mount_points(lines, [paths.data, paths.run]):
        subprocess.run(["umount", "--lazy", point], check=False)


def mount_points(mountinfo: list[str], folders: list[Path]) -> list[str]:
    """Return the mount points inside `folders`, the innermost first; see proc(5)."""
    points = [line.split()[4].encode().decode("unicode_escape") for line in mountinfo]
    inside = [point for point in points if any(folder in Path(point).parents for folder in folders)]
    return sorted(inside, key=len, reverse=True)
