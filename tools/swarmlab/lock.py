"""The number of a lab, which tells it from others on this machine, and the lock that holds it.

The kernel releases the locks of a process that ends. So a number whose lock is free has no lab,
and its leftovers are removed before the next lab begins.
"""

import fcntl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from devtools.bridge import routes
from devtools.console import SetupError
from devtools.host import cache_dir
from swarmlab.machine import Paths, remove_cgroups, remove_machine

RUN = Path("/run/enterprise-gateway/swarm")
UNDERLAYS = IPv4Network("10.214.0.0/16")
OVERLAYS = "10.215.0.0/16"
"""Pool of addresses inside the Swarms; they are not seen outside, so all have the same."""


@dataclass(frozen=True)
class LabLock:
    """The name, network and folders of the lab that holds a number."""

    number: int

    @property
    def tag(self) -> str:
        """The beginning of names: machines, cgroups; also this machine's network interface."""
        return f"eg-swarm{self.number}"

    @property
    def subnet(self) -> IPv4Network:
        """The network of its nodes."""
        return list(UNDERLAYS.subnets(new_prefix=24))[self.number]

    @property
    def paths(self) -> Paths:
        """Its folders."""
        return Paths(RUN / str(self.number), cache_dir() / "swarm" / str(self.number))

    def clear(self) -> None:
        """Remove the interface, cgroups and files of a lab that has ended."""
        subprocess.run(["ip", "link", "delete", self.tag], capture_output=True, check=False)
        remove_cgroups(f"{self.tag}-*")
        remove_machine(self.paths)


@contextmanager
def lock_lab() -> Iterator[LabLock]:
    """Hold a number that no other lab holds, and whose network is free.

    Raises:
        SetupError: there is none left.
    """
    RUN.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in range(UNDERLAYS.num_addresses // 256):
        with (RUN / f"{number}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            found = LabLock(number)
            found.clear()
            if any(found.subnet.overlaps(other) for other in routes()):
                continue
            clear_dead(number)
            try:
                yield found
            finally:
                found.clear()
            return
    raise SetupError(f"{UNDERLAYS} is in use on this machine: no address left for a Swarm")


def clear_dead(own: int) -> None:
    """Do so for killed labs of other numbers."""
    for folder in [*RUN.iterdir(), *(cache_dir() / "swarm").glob("*")]:
        if not folder.name.isdecimal() or int(folder.name) == own or not folder.is_dir():
            continue
        with (RUN / f"{folder.name}.lock").open("w") as lock, suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            LabLock(int(folder.name)).clear()
