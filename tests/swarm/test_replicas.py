"""Replicas of the gateway on a Swarm: whatever was done through one of them holds for all."""

import itertools
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
import requests
from harness.clients.channels import Channels
from harness.clients.gateway_client import REQUEST_TIMEOUT
from harness.engines.swarm import find_services
from harness.gateways.replica import Replica, ReplicaGroup
from harness.kernels.kernelspecs import derive_kernelspec
from harness.waiting import wait_until

from swarmlab.lab import SwarmLab

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

LIMIT = 10
STARTS = 20
SAME_DEADLINE = 120.0
"""Seconds until every replica knows what was done through another one.

It is within 1 s where nothing else is going on; these machines also begin and end kernels then.
"""
CULLED = "culled_soon"
CULL_IDLE_SECONDS = 2


@pytest.fixture(scope="module")
def trio(
    shared_lab: SwarmLab, network: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ReplicaGroup]:
    """Three running replicas, one on each node, which leave at most `LIMIT` kernels."""
    group = ReplicaGroup(
        tmp_path_factory.mktemp("trio"),
        shared_lab,
        network,
        shared_lab.nodes,
        env={"EG_MAX_KERNELS": str(LIMIT)},
    )
    for replica in group.replicas:
        derive_kernelspec(
            replica.home / "share/jupyter/kernels",
            "python_docker",
            CULLED,
            cull_idle_timeout=CULL_IDLE_SECONDS,
            cull_interval=1,
        )
    with group.running():
        yield group


def wait_until_all(trio: ReplicaGroup, probe: Callable[[Replica], bool], what: str) -> None:
    """Wait until something is true of every replica."""
    wait_until(lambda: all(map(probe, trio.replicas)), deadline=SAME_DEADLINE, what=what)


def wait_until_same(trio: ReplicaGroup, kernels: Sequence[str]) -> None:
    """Wait until every replica lists the same models of just these kernels."""

    def are_same() -> bool:
        first, *others = [replica.list_kernels() for replica in trio.replicas]
        return set(first) == set(kernels) and all(other == first for other in others)

    wait_until(are_same, deadline=SAME_DEADLINE, what="the same list of all replicas")


def is_gone(kernel_id: str) -> Callable[[Replica], bool]:
    """Return a condition: the replica knows no such kernel."""
    return lambda replica: (
        replica.request("GET", f"/api/kernels/{kernel_id}").status_code == 404
        and kernel_id not in replica.list_kernels()
    )


def test_limit_is_exact(lab: SwarmLab, trio: ReplicaGroup) -> None:
    """Of twenty starts at once through three replicas, ten succeed with a limit of ten.

    No replica lists one of the others at any time.
    """
    seen: set[str] = set()
    has_ended = threading.Event()

    def look(replica: Replica) -> None:
        with requests.Session() as http:
            http.headers.update(replica.http.headers)
            is_last = False
            while not is_last:
                is_last = has_ended.wait(0.1)
                answer = http.get(f"{replica.url}/api/kernels", timeout=REQUEST_TIMEOUT)
                seen.update(model["id"] for model in answer.json() if answer.ok)

    def start(replica: Replica) -> requests.Response:
        body = {"name": "python_docker", "env": {"KERNEL_USERNAME": trio.username}}
        return replica.request("POST", "/api/kernels", json=body)

    turns = list(itertools.islice(itertools.cycle(trio.replicas), STARTS))
    with ThreadPoolExecutor(STARTS + len(trio.replicas)) as pool:
        looking = [pool.submit(look, replica) for replica in trio.replicas]
        try:
            answers = list(pool.map(start, turns))
            counted = Counter(answer.status_code for answer in answers)
            assert counted == {201: LIMIT, 403: STARTS - LIMIT}
            kernels = [answer.json()["id"] for answer in answers if answer.status_code == 201]
            wait_until_same(trio, kernels)
        finally:
            has_ended.set()
        for each in looking:
            each.result()
        assert seen == set(kernels)
        wait_until_same(trio, kernels)
        with closing(lab.manager.client()) as client:
            wait_until(
                lambda: len(find_services(client, trio.username)) <= LIMIT,
                what="end of the surplus",
            )
            assert len(find_services(client, trio.username)) == LIMIT
        for status in pool.map(trio.request, ["DELETE"] * LIMIT, map(path_of, kernels)):
            assert status.status_code == 204
    wait_until_same(trio, [])
    trio.wait_until_no_kernels()


def path_of(kernel_id: str) -> str:
    """Return the path of a kernel's resource."""
    return f"/api/kernels/{kernel_id}"


def test_all_replicas_list_the_same(trio: ReplicaGroup) -> None:
    """Models are equal, and follow what is done through one of them: start, use, delete."""
    first, second, third = trio.replicas
    kernel_id = first.start_kernel("python_docker")
    wait_until_same(trio, [kernel_id])
    with closing(second.connect(kernel_id)) as client:
        request_id = client.start_execution("input()", allow_stdin=True)
        client.receive_until(lambda message: message.type == "input_request")
        wait_until_all(
            trio,
            lambda replica: (
                replica.list_kernels()[kernel_id]["execution_state"] == "busy"
                and replica.list_kernels()[kernel_id]["connections"] == 1
            ),
            what="busy kernel with a connection",
        )
        client.send("input_reply", {"value": ""}, channel="stdin")
        client.finish_execution(request_id)
    wait_until_same(trio, [kernel_id])
    third.delete_kernel(kernel_id)
    wait_until_all(trio, is_gone(kernel_id), what="end of the kernel everywhere")
    trio.wait_until_no_kernels()


def test_kernel_that_another_replica_restarts_begins_anew(trio: ReplicaGroup) -> None:
    """Its WebSockets through the other replicas stay open and lead to the new process."""
    first, second, third = trio.replicas
    kernel_id = first.start_kernel("python_docker")
    with closing(second.connect(kernel_id)) as client:
        assert client.execute("mine = 1").status == "ok"
        restart = third.request("POST", f"{path_of(kernel_id)}/restart")
        assert restart.status_code == 200, restart.text
        assert client.execute("mine").of_type("error")[0].content["ename"] == "NameError"
    wait_until_same(trio, [kernel_id])
    first.delete_kernel(kernel_id)


def test_culled_kernel_is_gone_everywhere(trio: ReplicaGroup) -> None:
    """When one replica does not know it any more, none does, and nothing is left of it."""
    kernel_id = trio.replicas[0].start_kernel(CULLED)
    trio.replicas[1].wait_until_gone(kernel_id)
    wait_until_all(trio, is_gone(kernel_id), what="end of the kernel everywhere")
    trio.wait_until_no_kernels()


def test_dead_kernel_is_dead_everywhere_until_deleted(lab: SwarmLab, trio: ReplicaGroup) -> None:
    """All give the same reason; a DELETE through one makes all forget it."""
    kernel_id = trio.replicas[0].start_kernel("python_docker")
    wait_until_same(trio, [kernel_id])
    kill_containers(lab, kernel_id)

    def is_dead(replica: Replica) -> bool:
        return bool(replica.list_kernels()[kernel_id]["execution_state"] == "dead")

    wait_until(lambda: is_dead(trio.replicas[0]), what="death of the kernel")
    wait_until_all(trio, is_dead, what="death of the kernel everywhere")
    reasons = {replica.list_kernels()[kernel_id]["reason"] for replica in trio.replicas}
    assert len(reasons) == 1, reasons
    trio.replicas[1].delete_kernel(kernel_id)
    wait_until_all(trio, is_gone(kernel_id), what="end of the kernel everywhere")
    trio.wait_until_no_kernels()


def test_replica_started_after_a_death_knows_the_dead(lab: SwarmLab, trio: ReplicaGroup) -> None:
    """It has their name and reason from the engine, and can restart them."""
    first, *_, late = trio.replicas
    kernel_id = first.start_kernel("python_docker")
    late.stop()
    kill_containers(lab, kernel_id)
    wait_until(
        lambda: first.list_kernels()[kernel_id]["execution_state"] == "dead", what="the death"
    )
    late.start_process()
    wait_until(late.answers, what="the late replica's first answer")

    def obituary(replica: Replica) -> list[str]:
        model = replica.list_kernels().get(kernel_id, {})
        return [model.get(key, "") for key in ("name", "execution_state", "reason")]

    wait_until(
        lambda: obituary(late) == obituary(first),
        deadline=SAME_DEADLINE,
        what="the dead kernel in the late replica's list",
    )
    restart = late.request("POST", f"{path_of(kernel_id)}/restart")
    assert restart.status_code == 200, restart.text
    with closing(first.connect(kernel_id)) as client:
        assert client.execute("6 * 7").result == "42"
    wait_until_same(trio, [kernel_id])
    late.delete_kernel(kernel_id)
    trio.wait_until_no_kernels()


def kill_containers(lab: SwarmLab, kernel_id: str) -> None:
    """Kill the kernel's container, wherever it is."""
    for node in lab.nodes:
        with closing(node.client()) as client:
            for container in client.containers.list(
                filters={"label": f"kernel_id={kernel_id}"}, ignore_removed=True
            ):
                container.kill()


class Wanderer:
    """A client that makes each request of its life to another replica than the one before."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._turns = itertools.cycle(replicas)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Make a request that must succeed; returns the JSON of the answer, if there is one."""
        response = next(self._turns).request(method, path, json=body)
        assert response.ok, response.text
        return response.json() if response.content else None

    def connect(self, kernel_id: str, session_id: str) -> Channels:
        """Open a WebSocket."""
        return next(self._turns).connect(kernel_id, session_id=session_id)


@pytest.mark.parametrize("first", range(3))
def test_each_request_may_go_to_another_replica(trio: ReplicaGroup, first: int) -> None:
    """Nothing in a whole client's life needs the replica that served it before."""
    client = Wanderer([*trio.replicas[first:], *trio.replicas[:first]])
    assert "python_docker" in client.ask("GET", "/api/kernelspecs")["kernelspecs"]
    new = {"path": uuid.uuid4().hex, "type": "notebook", "name": ""}
    session = client.ask("POST", "/api/sessions", {**new, "kernel": {"name": "python_docker"}})
    kernel_id = session["kernel"]["id"]
    path = f"/api/sessions/{session['id']}"
    assert client.ask("GET", path)["kernel"]["id"] == kernel_id
    assert client.ask("PATCH", path, {"name": "renamed"})["name"] == "renamed"
    assert client.ask("GET", path)["name"] == "renamed"
    wait_until_all(
        trio,
        lambda replica: [each["name"] for each in replica.get("/api/sessions")] == ["renamed"],
        what="the session in every list",
    )

    # four connections of one client session, each through the next replica
    channels = client.connect(kernel_id, "wandering")
    assert channels.execute("mine = 41").status == "ok"
    channels = client.connect(kernel_id, "wandering")
    endless = channels.start_execution("mine += 1\nprint(mine)\nwhile True: pass")
    channels.receive_until(lambda message: message.type == "stream")
    channels = client.connect(kernel_id, "wandering")
    client.ask("POST", f"{path_of(kernel_id)}/interrupt")
    error = channels.finish_execution(endless).of_type("error")[0]
    assert error.content["ename"] == "KeyboardInterrupt"
    channels = client.connect(kernel_id, "wandering")
    assert channels.execute("mine").result == "42"
    assert client.ask("POST", f"{path_of(kernel_id)}/restart")["id"] == kernel_id
    assert channels.execute("mine").status == "error"

    assert client.ask("PATCH", path, {"path": f"{new['path']}/moved"})["kernel"]["id"] == kernel_id
    assert client.ask("DELETE", path) is None
    wait_until_all(trio, lambda replica: replica.get("/api/sessions") == [], what="no session")
    wait_until_all(trio, is_gone(kernel_id), what="end of the kernel everywhere")
