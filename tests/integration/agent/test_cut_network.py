"""A network between client and agent that is cut for a while."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Network

import pytest
from harness.agents.agent import Agent
from harness.agents.messages import texts
from harness.waiting import eventually

from jupyter_wire.messages import Message
from swarmlab.machine import end, hold
from swarmlab.network import Underlay

pytestmark = pytest.mark.kernel

NODE = "ip link set lo up; echo up; exec cat >/dev/null"
PORT = 8898
COUNT = """
import time
for number in range(100_000):
    print(number, flush=True)
    time.sleep(0.05)
"""
READ_STATE = """
import sys, urllib.request
request = urllib.request.Request(sys.argv[1], headers={"Authorization": f"Bearer {sys.argv[2]}"})
print(urllib.request.urlopen(request, timeout=60).read().decode())
"""


class Node:
    """A network namespace behind a cable; stands for `swarmlab.machine.Machine`."""

    def __init__(self) -> None:
        self.process = hold(["unshare", "--net", "--", "sh", "-c", NODE])
        self.init = self.process.pid
        self.prefix = ("nsenter", f"--net=/proc/{self.init}/ns/net", "--")

    def run(self, *command: str) -> str:
        """Run a command inside; return what it prints."""
        done = subprocess.run([*self.prefix, *command], check=True, capture_output=True, text=True)
        return done.stdout


@pytest.fixture
def underlay() -> Iterator[Underlay]:
    """A network with this machine in it, in a range that is for tests (RFC 2544)."""
    number = os.getpid() % 250
    made = Underlay(f"egcut{number}", IPv4Network(f"198.18.{number}.0/24"))
    try:
        made.create()
        yield made
    finally:
        made.delete()


@pytest.fixture
def node(underlay: Underlay) -> Iterator[Node]:
    """Another machine in the network."""
    made = Node()
    try:
        underlay.connect(made, 1)  # type: ignore[arg-type] # it needs no more of a machine
        yield made
    finally:
        end(made.process)


async def test_websocket_survives_a_cut_and_loses_nothing(underlay: Underlay, node: Node) -> None:
    """For many ping intervals: the client does not count meanwhile, and never notices."""
    listen = f"tcp:{underlay.address(1)}:{PORT}"
    settings = {"ping_interval": 0.2}
    async with Agent(prefix=node.prefix, listen=listen, settings=settings) as agent:

        def connections() -> int:
            url = f"{agent.url()}/v1/state"
            state = json.loads(node.run(sys.executable, "-c", READ_STATE, url, agent.token))
            return int(state["connections"])

        client = await agent.connect("s")
        await client.run(COUNT)
        seen: list[Message] = []

        async def read_until(number: int) -> None:
            while f"\n{number}\n" not in texts(seen):
                seen.append(await client.receive())

        await read_until(5)
        underlay.cut(1)
        try:
            await eventually(lambda: connections() == 0)
        finally:
            underlay.mend(1)
        await read_until(100)
        lines = texts(seen).split("\n")[:101]
        assert lines == [str(number) for number in range(101)]
