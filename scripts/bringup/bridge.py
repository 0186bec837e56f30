"""A network bridge beside those of other engines, with the way out for what is on it."""

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network

from bringup.console import SetupError, run, say
from bringup.host import which

BRIDGE = "eg-engine0"


@dataclass(frozen=True)
class Rule:
    """An iptables rule, in front of those of other engines and firewalls."""

    table: str
    chain: str
    match: tuple[str, ...]

    def command(self, action: str) -> list[str]:
        """Return the command that inserts (`-I`) or deletes (`-D`) the rule."""
        iptables = which("iptables") or "iptables"
        return [iptables, "-w", "-t", self.table, action, self.chain, *self.match]


def rules(subnet: IPv4Network) -> list[Rule]:
    """Return what containers need to reach other networks, and the answers to reach them."""
    accept = ("-j", "ACCEPT")
    answers = ("-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED")
    return [
        Rule("nat", "POSTROUTING", ("-s", str(subnet), "!", "-o", BRIDGE, "-j", "MASQUERADE")),
        Rule("filter", "FORWARD", ("-o", BRIDGE, *answers, *accept)),
        Rule("filter", "FORWARD", ("-i", BRIDGE, *accept)),
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


def create() -> IPv4Network:
    """Make the bridge; one left behind by a run that was killed is replaced."""
    ip = which("ip") or "ip"
    subnet = free_subnet(routes())
    subprocess.run([ip, "link", "delete", BRIDGE], capture_output=True, check=False)
    run([ip, "link", "add", BRIDGE, "type", "bridge"])
    run([ip, "address", "add", f"{subnet[1]}/{subnet.prefixlen}", "dev", BRIDGE])
    run([ip, "link", "set", BRIDGE, "up"])
    for rule in rules(subnet):
        try:
            run(rule.command("-I"))
        except SetupError as exc:
            say(f"containers may lack a way out: {exc}")
    return subnet


def delete(subnet: IPv4Network) -> None:
    """Remove the bridge and its rules, as far as they are there."""
    ip = which("ip") or "ip"
    commands = [rule.command("-D") for rule in rules(subnet)]
    for command in [*commands, [ip, "link", "delete", BRIDGE]]:
        subprocess.run(command, capture_output=True, check=False)
