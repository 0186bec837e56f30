"""Faults of a Swarm's parts, and what is left of kernels after them."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Self

import requests
from docker import DockerClient

from harness.clients.channels import Channels
from harness.clients.gateway_client import REQUEST_TIMEOUT
from harness.gateways.replica import Replica, ReplicaGroup
from harness.waiting import wait_until
from swarmlab.lab import SwarmLab
from swarmlab.machine import only_child
from swarmlab.node import SwarmNode

SAMPLE_PAUSE = 0.1
SETTLED_DEADLINE = 120.0
"""Seconds until nothing half-made may be left of a kernel: twice what is promised."""


@contextmanager
def placing_on(lab: SwarmLab, *nodes: SwarmNode) -> Iterator[None]:
    """Have new kernels on these nodes; what runs elsewhere goes on."""
    others = [each for each in lab.nodes if each not in nodes]
    set_availability(lab, others, "pause")
    try:
        yield
    finally:
        set_availability(lab, others, "active")


def set_availability(lab: SwarmLab, nodes: Sequence[SwarmNode], availability: str) -> None:
    """Say whether nodes take new tasks."""
    names = {node.name for node in nodes}
    with closing(lab.manager.client()) as client:
        for each in client.nodes.list():
            if each.attrs["Description"]["Hostname"] in names:
                each.update({**each.attrs["Spec"], "Availability": availability})


@contextmanager
def heartbeat(lab: SwarmLab, seconds: float) -> Iterator[None]:
    """Have nodes give signs of life less often, as a Swarm does by default.

    A manager that comes back gives nodes six times as long to register. They try less and less
    often while it is away, up to every 8 s: with a short heartbeat it would take living nodes for
    dead.
    """
    with closing(lab.manager.client()) as client:
        client.swarm.reload()
        before = client.swarm.attrs["Spec"]["Dispatcher"]["HeartbeatPeriod"]
        client.swarm.update(dispatcher_heartbeat_period=int(seconds * 1e9))
        try:
            yield
        finally:
            client.swarm.reload()
            client.swarm.update(dispatcher_heartbeat_period=before)


@contextmanager
def powered_off(node: SwarmNode) -> Iterator[None]:
    """Have a node without power."""
    node.power_off()
    try:
        yield
    finally:
        node.power_on()


@contextmanager
def cut_off(node: SwarmNode) -> Iterator[None]:
    """Have a node without network."""
    node.cut()
    try:
        yield
    finally:
        node.mend()


@contextmanager
def engine_killed(node: SwarmNode) -> Iterator[None]:
    """Have a node without dockerd, whose containers go on until it is back."""
    node.kill_engine()
    try:
        yield
    finally:
        node.start_engine()


@contextmanager
def engine_stopped(node: SwarmNode) -> Iterator[None]:
    """Have a node whose dockerd takes connections, but answers nothing."""
    assert node.engine.process is not None
    parent = node.engine.process.pid
    os.kill(only_child(parent), signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(parent, signal.SIGCONT)  # nsenter(1) stops and goes on with its child
        node.wait_until_ready()


@contextmanager
def lasting(seconds: float) -> Iterator[None]:
    """Have what is around this last for so long at least, unless something fails in here."""
    end = time.monotonic() + seconds
    yield
    wait_until(lambda: time.monotonic() >= end, deadline=2 * seconds, what="the time")


def labels_of(kernel_id: str) -> dict[str, Any]:
    """Return the filter for what belongs to a kernel."""
    return {"label": ["app=enterprise-gateway", f"kernel_id={kernel_id}"]}


def find_tasks(client: DockerClient, kernel_id: str) -> list[dict[str, Any]]:
    """Return the tasks of a kernel as the manager has them."""
    tasks: list[dict[str, Any]] = client.api.tasks(filters=labels_of(kernel_id))
    return tasks


def find_traces(lab: SwarmLab, kernel_id: str) -> list[str]:
    """Return the names of a kernel's service, tasks and containers, on all nodes that are on."""
    found = []
    with closing(lab.manager.client()) as client:
        found += [each.name for each in client.services.list(filters=labels_of(kernel_id))]
        found += [each["ID"] for each in find_tasks(client, kernel_id)]
    for node in lab.nodes:
        if node.machine.process is not None:
            with closing(node.client()) as client:
                containers = client.containers.list(
                    all=True, filters=labels_of(kernel_id), ignore_removed=True
                )
            found += [f"{each.name} on {node.name}" for each in containers]
    return found


def wait_until_no_trace(
    lab: SwarmLab, kernel_id: str, *, deadline: float = SETTLED_DEADLINE
) -> None:
    """Wait until nothing of a kernel is left."""
    try:
        wait_until(
            lambda: not find_traces(lab, kernel_id), deadline=deadline, what=f"end of {kernel_id}"
        )
    except TimeoutError as error:
        error.add_note(f"left: {find_traces(lab, kernel_id)}")
        raise


def state_of(replica: Replica, kernel_id: str) -> str:
    """Return a kernel's execution state, or the status code if there is none."""
    response = replica.request("GET", f"/api/kernels/{kernel_id}")
    if response.status_code != 200:
        return str(response.status_code)
    return str(response.json()["execution_state"])


def wait_for_state(
    replicas: Sequence[Replica], kernels: Sequence[str], state: str, *, deadline: float
) -> None:
    """Wait until all of these replicas say this of all of these kernels, as `state_of` does."""

    def states() -> dict[str, str]:
        return {
            f"{kernel_id} on {replica.url}": state_of(replica, kernel_id)
            for replica in replicas
            for kernel_id in kernels
        }

    try:
        wait_until(lambda: set(states().values()) <= {state}, deadline=deadline, what=state)
    except TimeoutError as error:
        error.add_note(str(states()))
        raise


def check_usable(replica: Replica, kernel_id: str) -> None:
    """Check that a kernel computes."""
    with closing(replica.connect(kernel_id)) as client:
        assert client.execute("6 * 7").result == "42"


def connect_all(group: ReplicaGroup, kernels: Sequence[str]) -> dict[str, Channels]:
    """Connect to kernels by way of the replicas in turn, and leave something in each kernel."""
    clients = {kernel_id: group.connect(kernel_id) for kernel_id in kernels}
    for kernel_id, client in clients.items():
        assert client.execute(f"mine = '{kernel_id}'").status == "ok"
    return clients


class Witness:
    """Asks replicas about kernels all the time, and keeps every answer that denies their life."""

    def __init__(self, replicas: Sequence[Replica], kernels: Sequence[str]) -> None:
        self.denials: list[str] = []
        self._kernels = list(kernels)
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._watch, args=(each,)) for each in replicas]

    def __enter__(self) -> Self:
        """Begin to ask."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ask no more."""
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _watch(self, replica: Replica) -> None:
        with requests.Session() as http:
            http.headers["Authorization"] = f"token {replica.token}"
            while not self._is_over.is_set():
                for kernel_id in self._kernels:
                    response = http.get(
                        f"{replica.url}/api/kernels/{kernel_id}", timeout=REQUEST_TIMEOUT
                    )
                    self._judge(replica, kernel_id, response)
                response = http.get(f"{replica.url}/api/kernels", timeout=REQUEST_TIMEOUT)
                if response.status_code == 200:
                    missing = set(self._kernels) - {model["id"] for model in response.json()}
                    self.denials += [f"{replica.url} does not list {each}" for each in missing]
                time.sleep(SAMPLE_PAUSE)

    def _judge(self, replica: Replica, kernel_id: str, response: requests.Response) -> None:
        is_dead = response.status_code == 200 and response.json()["execution_state"] == "dead"
        if is_dead or response.status_code not in (200, 503):
            self.denials.append(f"{replica.url} says of {kernel_id}: {response.text}")
