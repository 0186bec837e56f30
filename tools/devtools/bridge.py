"""A network bridge beside those of other engines, with the way out for what is on it."""

import json
import subprocess
from collections.abc import Iterable
from ipaddress import IPv4Network

from devtools.console import SetupError, run, say
from devtools.host import which

NETWORKS = IPv4Network("10.216.0.0/16")
"""Where the engine takes the addresses of networks that its users make."""


def rules(bridge: str, subnet: IPv4Network) -> list[str]:
    """Return the rules by which containers reach one another and other networks.

    Each is a line of iptables(8): table, chain and match, with the bridge's name in it. They go in
    front of those of other engines and firewalls, which may drop what they do not know.
    """
    own = f"-m comment --comment {bridge}"
    return [
        f"nat POSTROUTING -s {subnet} ! -o {bridge} -j MASQUERADE",
        f"nat POSTROUTING -s {NETWORKS} ! -d {NETWORKS} {own} -j MASQUERADE",
        f"filter FORWARD -o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        f"filter FORWARD -i {bridge} -j ACCEPT",
        f"filter FORWARD -d {NETWORKS} {own} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        f"filter FORWARD -s {NETWORKS} {own} -j ACCEPT",
    ]


def free_subnet(taken: Iterable[IPv4Network]) -> IPv4Network:
    """Return the first of 256 private networks that overlaps with none in use."""
    used = list(taken)
    for subnet in IPv4Network("10.213.0.0/16").subnets(new_prefix=24):
        if not any(subnet.overlaps(other) for other in used):
            return subnet
    raise SetupError("10.213.0.0/16 is in use on this machine: no address left for a bridge")


def routes() -> list[IPv4Network]:
    """Return the networks to which this machine has a route, the default route left out."""
    ip = which("ip") or "ip"
    done = subprocess.run([ip, "-4", "-json", "route"], capture_output=True, text=True, check=True)
    found = [route["dst"] for route in json.loads(done.stdout or "[]")]
    return [IPv4Network(network) for network in found if network != "default"]


def create(bridge: str) -> None:
    """Create the bridge; replaces one that a killed run has left."""
    delete(bridge)
    subnet = free_subnet(routes())
    ip = which("ip") or "ip"
    run([ip, "link", "add", bridge, "type", "bridge"])
    run([ip, "address", "add", f"{subnet[1]}/{subnet.prefixlen}", "dev", bridge])
    run([ip, "link", "set", bridge, "up"])
    for rule in rules(bridge, subnet):
        table, *match = rule.split()
        try:
            run([*iptables(table), "-I", *match])
        except SetupError as exc:
            say(f"containers may lack a way out: {exc}")


def delete(bridge: str) -> None:
    """Remove the bridge and every rule that names it."""
    for table in ("nat", "filter"):
        listed = subprocess.run(
            [*iptables(table), "-S"], capture_output=True, text=True, check=False
        )
        for action, *match in (line.split() for line in listed.stdout.splitlines()):
            if action == "-A" and bridge in match:
                subprocess.run([*iptables(table), "-D", *match], capture_output=True, check=False)
    ip = which("ip") or "ip"
    subprocess.run([ip, "link", "delete", bridge], capture_output=True, check=False)


def iptables(table: str) -> list[str]:
    """Return the beginning of a command on a table of rules."""
    return [which("iptables") or "iptables", "-w", "-t", table]
