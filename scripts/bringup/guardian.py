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

from bringup import bridge
from bringup.private_engine import Places, connected, remove_containers

STOP_TIMEOUT = 30.0
"""Seconds that dockerd gets to end by itself."""


def guard(at: Places) -> None:
    """Run the engine until nobody holds a lease on it."""
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    unmount(at)
    bridge.create(at.bridge)
    try:
        with (at.run / "lease").open("w") as lease:
            dockerd = start(at)
            try:
                signal.signal(signal.SIGCHLD, _end)
                if dockerd.poll() is None:
                    fcntl.flock(lease, fcntl.LOCK_EX)
            finally:
                for number in (signal.SIGCHLD, signal.SIGTERM):
                    signal.signal(number, signal.SIG_DFL)
                with suppress(OSError):
                    os.write(sys.stdout.fileno(), b"stopping\n")
                stop(at, dockerd)
                unmount(at)
    finally:
        bridge.delete(at.bridge)


def _end(_signum: int, _frame: FrameType | None) -> None:
    raise SystemExit(1)


def start(at: Places) -> subprocess.Popen[bytes]:
    """Start dockerd, sharing nothing with another engine but the kernel."""
    at.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    (at.run / "docker.pid").unlink(missing_ok=True)
    # dockerd would give the bridge the address that it had last time
    shutil.rmtree(at.data / "network", ignore_errors=True)
    config = at.run / "daemon.json"
    config.write_text("{}", encoding="ascii")
    return subprocess.Popen(
        [
            # should this process be killed, the engine ends too
            *("setpriv", "--pdeathsig", "TERM", "dockerd"),
            f"--config-file={config}",
            f"--host={at.host}",
            f"--data-root={at.data}",
            f"--exec-root={at.run}/exec",
            f"--pidfile={at.run}/docker.pid",
            f"--bridge={at.bridge}",
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


def stop(at: Places, dockerd: subprocess.Popen[bytes]) -> None:
    """End containers and engine, by force where nothing else helps."""
    if dockerd.poll() is None:
        with suppress(DockerException, RequestException), connected(at) as client:
            remove_containers(client)
        dockerd.terminate()
    try:
        dockerd.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        dockerd.kill()
        dockerd.wait()


def unmount(at: Places) -> None:
    """Unmount what an engine that was killed left mounted in its folders."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    for point in mount_points(lines, [at.data, at.run]):
        subprocess.run(["umount", "--lazy", point], check=False)


def mount_points(mountinfo: list[str], folders: list[Path]) -> list[str]:
    """Return what is mounted strictly inside `folders`, the innermost first; see proc(5)."""
    points = [line.split()[4].encode().decode("unicode_escape") for line in mountinfo]
    inside = [point for point in points if any(folder in Path(point).parents for folder in folders)]
    return sorted(inside, key=len, reverse=True)
