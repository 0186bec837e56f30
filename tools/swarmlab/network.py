"""The network under a Swarm: a switch, with a cable to each node and one to this machine."""

import subprocess
from ipaddress import IPv4Network

from devtools.console import SetupError, run
from swarmlab.machine import Machine, end, hold

SWITCH = """
set -e
ip link set lo up
ip link add switch type bridge
ip link set switch up
echo up
exec cat >/dev/null
"""
"""Holds the switch in a network namespace of its own, where no firewall of this machine looks."""


class Underlay:
    """One switch; it ends with the process that made it."""

    def __init__(self, link: str, subnet: IPv4Network) -> None:
        """`link` is the name of this machine's interface, at most 15 characters."""
        self.link = link
        self.subnet = subnet
        self.process: subprocess.Popen[str] | None = None

    @property
    def gateway(self) -> str:
        """The address of this machine."""
        return str(self.subnet[-2])

    def address(self, number: int) -> str:
        """Return the address of a node; they count from 1."""
        return str(self.subnet[number])

    def mac(self, number: int) -> str:
        """Return the hardware address of a node, the same at each boot, as others remember it."""
        return "02:00:" + ":".join(f"{byte:02x}" for byte in self.subnet[number].packed)

    def create(self) -> None:
        """Make the switch, and connect this machine."""
        self.process = hold(["unshare", "--net", "--", "sh", "-c", SWITCH])
        cable = ["type", "veth", "peer", "name", "host", "netns", str(self.process.pid)]
        run(["ip", "link", "add", self.link, *cable])
        self._switch("host", "master", "switch", "up")
        run(["ip", "address", "add", f"{self.gateway}/{self.subnet.prefixlen}", "dev", self.link])
        run(["ip", "link", "set", self.link, "up"])

    def delete(self) -> None:
        """Remove it all, if it was made."""
        if self.process is not None:
            # the namespace, left to itself, goes some time after its last process
            subprocess.run(["ip", "link", "delete", self.link], capture_output=True, check=False)
            end(self.process)
            self.process = None

    def connect(self, machine: Machine, number: int) -> None:
        """Connect a machine that has been booted; its address is that of the number."""
        port = f"n{number}"
        # that of a machine powered off just now may still be there
        subprocess.run(self._inside("link", "delete", port), capture_output=True, check=False)
        peer = ["name", "eth0", "address", self.mac(number), "netns", str(machine.init)]
        run(self._inside("link", "add", port, "type", "veth", "peer", *peer))
        self._switch(port, "master", "switch", "up")
        address = f"{self.address(number)}/{self.subnet.prefixlen}"
        machine.run("ip", "address", "add", address, "dev", "eth0")
        machine.run("ip", "link", "set", "eth0", "up")

    def cut(self, number: int) -> None:
        """Unplug a node's cable."""
        self._switch(f"n{number}", "down")

    def mend(self, number: int) -> None:
        """Plug it in again."""
        self._switch(f"n{number}", "up")

    def _switch(self, port: str, *change: str) -> None:
        run(self._inside("link", "set", port, *change))

    def _inside(self, *arguments: str) -> list[str]:
        if self.process is None:
            raise SetupError("the Swarm has ended")
        return ["nsenter", f"--net=/proc/{self.process.pid}/ns/net", "ip", *arguments]
