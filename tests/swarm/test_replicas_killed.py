"""`kill -9` of replicas under load: clients come back through others, and miss nothing."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from harness.clients.load import Load
from harness.clients.load_client import LoadClient
from harness.clients.load_rest import RestClient
from harness.gateways.replica import ReplicaGroup

from swarmlab.lab import SwarmLab

pytestmark = [pytest.mark.docker, pytest.mark.kernel, pytest.mark.client]

KERNELS = int(os.environ.get("EG_LOAD_KERNELS", "12"))
CLIENTS = 10
STARTS_AT_ONCE = 4
LINES = 100
"""What each client gets before and after a kill: some two seconds' worth."""


@pytest.fixture
def trio(lab: SwarmLab, network: str, tmp_path: Path) -> Iterator[ReplicaGroup]:
    """Three running replicas, one on each node."""
    group = ReplicaGroup(tmp_path, lab, network, lab.nodes)
    try:
        group.start()
        yield group
    finally:
        group.close()


def test_clients_of_a_killed_replica_miss_nothing(trio: ReplicaGroup) -> None:
    """Ten clients of one replica go on through the others, then those of a second replica.

    Their kernels print all the time, and each has a request waiting behind. A prompt that was open
    when the first replica died takes its answer from the third.
    """
    with ThreadPoolExecutor(STARTS_AT_ONCE) as pool:
        kernels = list(pool.map(lambda _: trio.start_kernel(), range(KERNELS)))
    first, second, third = trio.replicas
    orders = [[first.url, second.url, third.url], [first.url, third.url, second.url]]
    with (
        closing(RestClient([third.url], trio.token)) as rest,
        closing(LoadClient(kernels[-1], orders[1], trio.token, "asking")) as asking,
        Load(kernels[:CLIENTS], orders, trio.token) as load,
    ):
        asking_id = asking.channels.start_execution("name = input('who? ')\nname", allow_stdin=True)
        prompt = asking.wait_for_prompt()
        load.wait_for_more(LINES)
        for victim in (first, second):
            victim.kill()
            load.wait_for_more(LINES)
            victim.start()
        asking.channels.send(
            "input_reply", {"value": "Ada"}, channel="stdin", parent_header=prompt.header
        )
        asking.wait_for_end(asking_id)
        assert asking.record.execution(asking_id).result == "'Ada'"
        assert asking.url == third.url
        figures = load.finish(rest)
    assert len(figures.outages) >= CLIENTS
