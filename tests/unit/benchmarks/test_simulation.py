"""The simulated cluster: what it says must be what the engine and the agents say."""

import asyncio
import json
import socket

import msgspec
import pytest

from benchmarks.simulation import documents
from benchmarks.simulation.agents import Link
from benchmarks.simulation.cluster import Cluster
from benchmarks.simulation.engine import call_name
from benchmarks.simulation.kernel import (
    Place,
    format_time,
    make_kernel,
    read_stamp,
    stamp,
    stream_message,
)
from enterprise_gateway.services.processproxies.contract import WorkloadState
from enterprise_gateway.services.processproxies.workloads.containers import workload_of_container
from enterprise_gateway.services.processproxies.workloads.services import workload_of_service
from enterprise_gateway.services.processproxies.workloads.swarm_objects import Node, Service, Task


def test_stamp_survives_in_a_message_of_the_same_size() -> None:
    """A client reads when a message was sent, and the message stays a message."""
    message = stream_message()
    stamped = stamp(message, 12_345_678_901_234)
    assert read_stamp(stamped) == 12_345_678_901_234
    assert len(stamped) == len(message)
    content = json.loads(stamped[stamped.rindex(b'{"name"') :])
    assert len(content["text"]) == 200


@pytest.mark.parametrize("number", [1, 255, 256, 1016])
def test_kernel_is_found_at_its_address(number: int) -> None:
    """One server plays all agents; the address tells them apart."""
    cluster = Cluster(Place.CONTAINERS, 1016)
    found = cluster.at(make_kernel(number).address)
    assert found is not None
    assert found.kernel_id == make_kernel(number).kernel_id


def test_container_is_a_workload_to_the_gateway() -> None:
    """The gateway understands the simulated engine's list as it does the real one's."""
    kernel = make_kernel(7)
    workload = workload_of_container(documents.container(kernel), documents.NETWORK_NAME)
    assert workload is not None
    assert workload.kernel_id == kernel.kernel_id
    assert workload.endpoint is not None
    assert workload.endpoint.host == kernel.address


def test_service_and_task_are_a_workload_to_the_gateway() -> None:
    """So is what it says of a Swarm."""
    kernel = make_kernel(300)
    service = msgspec.convert(documents.service(kernel), Service)
    task = msgspec.convert(documents.task(kernel), Task)
    nodes = {node.id: node for node in msgspec.convert(documents.nodes(), list[Node])}
    assert task.service_id == service.id
    assert task.node_id in nodes
    workload = workload_of_service(service, task, nodes, documents.NETWORK_NAME)
    assert workload.kernel_id == kernel.kernel_id
    assert workload.state is WorkloadState.RUNNING
    assert workload.endpoint is not None
    assert workload.endpoint.host == kernel.address


def test_lists_are_filtered_as_the_engine_does() -> None:
    """All labels must fit; of names and services one."""
    one, other = make_kernel(1), make_kernel(2)
    of_one = {"label": ["app=enterprise-gateway", f"kernel_id={one.kernel_id}"]}
    assert documents.select([one, other], of_one) == [one]
    assert documents.select([one, other], {"label": ["component"]}) == [one, other]
    assert documents.select([one, other], {"label": ["app=another"]}) == []
    both = {"service": [one.name, str(documents.service(other)["ID"])]}
    assert documents.select([one, other], both) == [one, other]
    assert documents.select([one], {"desired-state": ["shutdown"]}) == []
    assert documents.select([one], {"desired-state": ["running"]}) == [one]
    assert documents.parse_filters('{"label": {"a=b": true}}') == {"label": ["a=b"]}
    assert documents.parse_filters("") == {}


def test_started_kernel_takes_a_spare_place_and_its_events_are_told() -> None:
    """A follower of the engine hears of it from its creation to its end."""
    cluster = Cluster(Place.CONTAINERS, 2)
    events = cluster.subscribe()
    kernel = cluster.create("bench-k", ["A=1"], {"kernel_id": "k"}, is_running=False)
    assert kernel.number == 3
    cluster.remove(kernel)
    assert not cluster.has(kernel)
    told = [events.get_nowait()["Action"] for _ in range(events.qsize())]
    assert told == ["create", "die", "destroy"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1.41/containers/json", "GET /containers/json"),
        ("/v1.41/containers/abc/json", "GET /containers/ID/json"),
        ("/services", "GET /services"),
        ("/v1.41/services/abc", "GET /services/ID"),
        ("/v1.41/networks/some-net", "GET /networks/ID"),
    ],
)
def test_calls_are_counted_without_ids(path: str, name: str) -> None:
    """A thousand kernels are not a thousand kinds of calls."""
    assert call_name("GET", path) == name


def test_time_is_written_as_agents_do() -> None:
    """Six digits and a Z."""
    assert format_time(1.5) == "1970-01-01T00:00:01.500000Z"


async def test_link_asks_for_one_acknowledgement_at_a_time() -> None:
    """As an agent does: a ping for what was sent, and none while its pong is awaited."""
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    reader, writer = await asyncio.open_connection(sock=theirs)
    try:
        link = Link(make_kernel(1), transport)
        message = stream_message()
        link.send(message)
        link.send(message)
        async with asyncio.timeout(60):
            received = await reader.readexactly(2 * (4 + len(message)) + 10)
            assert received.endswith(b"\x89\x08" + (1).to_bytes(8))
            link.send(message)
            await reader.readexactly(4 + len(message))
            link.unacknowledged = False
            link.send(message)
            received = await reader.readexactly(4 + len(message) + 10)
        assert received.endswith(b"\x89\x08" + (2).to_bytes(8))
    finally:
        transport.close()
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(0)
