"""Which nodes of a Swarm wait for an image, and which do not have it; and who ends a pull."""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from harness.waiting import eventually

from enterprise_gateway.errors import ConflictError, LaunchError, NotFoundError
from enterprise_gateway.services.processproxies.engine.client import DockerEngine
from enterprise_gateway.services.processproxies.engine.services import DockerServices
from enterprise_gateway.services.processproxies.pulls import nodes as module
from enterprise_gateway.services.processproxies.pulls.nodes import (
    NodePulls,
    describe_failure,
    find_waiting,
)
from enterprise_gateway.services.processproxies.pulls.pulls import Pulls
from enterprise_gateway.services.processproxies.workloads.swarm_objects import (
    Node,
    NodeDescription,
    NodeSpec,
    NodeStatus,
    Service,
    ServiceSpec,
    Task,
    TaskStatus,
)
from enterprise_gateway.settings import DockerSettings, HostSettings, LiveSettings, Settings

IMAGE = "registry.example.org/team/kernel:1"
NODES = [
    Node(id=name, status=NodeStatus("ready"), description=NodeDescription(f"host-{name}"))
    for name in ("a", "b", "c")
]


def task(node: str, state: str, err: str = "") -> Task:
    """Return the task of a node."""
    status = TaskStatus(state, err=err)
    return Task(
        created_at="", service_id="s", desired_state="complete", status=status, node_id=node
    )


@pytest.mark.parametrize("state", ["complete", "failed", "running", "starting", "rejected"])
def test_node_is_done_once_its_task_is_past_the_pull(state: str) -> None:
    """A task that could not start or be run has its image, or never will."""
    assert find_waiting(NODES[:1], [task("a", state)]) == []


def test_nodes_without_a_task_are_waited_for() -> None:
    """Swarm makes the tasks of a service one after the other."""
    waiting = find_waiting(NODES, [task("a", "complete"), task("b", "preparing")])
    assert [node.id for node in waiting] == ["b", "c"]


def test_failure_names_nodes_and_reasons() -> None:
    """Nodes that were refused the image, and those that were too slow."""
    refused = task("b", "rejected", "No such image: x")
    tasks = [task("a", "complete"), refused, refused, task("b", "preparing"), task("c", "pending")]
    words = describe_failure("x", NODES, tasks, 5.0)
    assert "2 of 3 nodes: host-b: No such image: x; host-c: not within 5 s" in words


def test_image_on_all_nodes_is_no_failure() -> None:
    """A task whose command is missing in the image has it all the same."""
    tasks = [task("a", "complete"), task("b", "failed", "no /bin/true"), task("c", "running")]
    assert describe_failure("x", NODES, tasks, 5.0) == ""


@pytest.mark.parametrize(
    ("state", "availability"), [("ready", "drain"), ("ready", "pause"), ("down", "active")]
)
def test_only_nodes_that_take_tasks_count(state: str, availability: str) -> None:
    """A node that is drained or away is asked for nothing."""
    assert not Node(id="n", status=NodeStatus(state), spec=NodeSpec(availability)).takes_tasks
    assert NODES[0].takes_tasks


class Swarm(DockerServices):
    """A swarm whose nodes pull as the test says.

    Attributes:
        created: how many services were ever created.
        state: of all tasks.
        looks: how often tasks were listed.
        answers: while it is set, services can be created.
    """

    def __init__(self) -> None:
        super().__init__(DockerEngine(DockerSettings()), "")
        self.created = 0
        self.state = "preparing"
        self.looks = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self._services: dict[str, Service] = {}

    @property
    def present(self) -> list[str]:
        """The ids of the services that there are."""
        return [service.id for service in self._services.values()]

    async def create(self, spec: Mapping[str, Any], registry_auth: str = "") -> str:
        """See the base class."""
        del registry_auth
        await self.answers.wait()
        name = spec["Name"]
        if name in self._services:
            raise ConflictError("taken")
        self.created += 1
        created = datetime.fromtimestamp(time.time(), UTC).isoformat()
        self._services[name] = Service(str(self.created), created, ServiceSpec(name))
        return str(self.created)

    async def inspect(self, service_id: str) -> Service:
        """See the base class."""
        if service_id not in self._services:
            raise NotFoundError("gone")
        return self._services[service_id]

    async def remove(self, service_id: str) -> None:
        """See the base class."""
        self._services = {
            name: service for name, service in self._services.items() if service.id != service_id
        }

    async def nodes(self) -> list[Node]:
        """See the base class."""
        return NODES

    async def tasks_of(self, service_ids: Sequence[str]) -> list[Task]:
        """See the base class."""
        self.looks += 1
        if not set(service_ids) <= set(self.present):
            raise NotFoundError("gone")
        return [task(node.id, self.state) for node in NODES]

    async def until_looked_at(self, times: int = 2) -> None:
        """Wait until a pull has looked some more times."""
        before = self.looks
        await eventually(lambda: self.looks >= before + times)


@pytest.fixture
async def swarm(monkeypatch: pytest.MonkeyPatch) -> Swarm:
    """A swarm, which is looked at often."""
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.01)
    return Swarm()


def gateway(swarm: Swarm, tmp_path: Path, seconds: float = 60.0) -> NodePulls:
    """Return the pulls of one more gateway."""
    settings = Settings(
        docker=DockerSettings(pull_timeout=seconds), host=HostSettings(home=tmp_path)
    )
    live = LiveSettings(settings)
    return NodePulls(live, swarm, Pulls(live, DockerEngine(settings.docker)))


async def cancel(pull: "asyncio.Task[None]") -> None:
    """Give a pull up."""
    pull.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await pull


async def test_pull_that_joined_ends_no_other_gateways(swarm: Swarm, tmp_path: Path) -> None:
    """The one that has begun it goes on to its end."""
    first = asyncio.create_task(gateway(swarm, tmp_path).pull(IMAGE))
    await swarm.until_looked_at()
    second = asyncio.create_task(gateway(swarm, tmp_path).pull(IMAGE))
    await swarm.until_looked_at(4)
    await cancel(second)
    await swarm.until_looked_at()
    assert swarm.present == ["1"]
    swarm.state = "complete"
    await first
    assert (swarm.created, swarm.present) == (1, [])


async def test_pull_that_was_begun_here_ends_with_its_caller(swarm: Swarm, tmp_path: Path) -> None:
    """Another gateway that waits for it begins again, and does not take it for done."""
    first = asyncio.create_task(gateway(swarm, tmp_path).pull(IMAGE))
    await swarm.until_looked_at()
    second = asyncio.create_task(gateway(swarm, tmp_path).pull(IMAGE))
    await swarm.until_looked_at(4)
    await cancel(first)
    await eventually(lambda: swarm.present == ["2"])
    assert not second.done()
    swarm.state = "complete"
    await second
    assert swarm.present == []


async def test_pull_whose_service_is_removed_begins_again(swarm: Swarm, tmp_path: Path) -> None:
    """Its nodes have not settled, so it has not succeeded."""
    pull = asyncio.create_task(gateway(swarm, tmp_path).pull(IMAGE))
    await swarm.until_looked_at()
    await swarm.remove("1")
    await eventually(lambda: swarm.present == ["2"])
    swarm.state = "rejected"
    with pytest.raises(LaunchError, match="was not pulled by 3 of 3 nodes"):
        await pull
    assert swarm.present == []


async def test_pull_that_has_ended_is_not_joined(swarm: Swarm, tmp_path: Path) -> None:
    """A gateway was killed over it: what it pulled may be old."""
    pulls = gateway(swarm, tmp_path)
    await swarm.create({"Name": pulls._name(IMAGE)})
    swarm.state = "complete"
    await pulls.pull(IMAGE)
    assert (swarm.created, swarm.present) == (2, [])


async def test_deadline_of_a_pull_includes_its_beginning(swarm: Swarm, tmp_path: Path) -> None:
    """A manager may be silent."""
    swarm.answers.clear()
    with pytest.raises(LaunchError, match="the swarm did not begin to within"):
        await gateway(swarm, tmp_path, 0.05).pull(IMAGE)


async def test_slow_nodes_are_told_at_the_deadline(swarm: Swarm, tmp_path: Path) -> None:
    """And nothing is left of the pull."""
    with pytest.raises(LaunchError, match="3 of 3 nodes: host-a: not within 1 s"):
        await gateway(swarm, tmp_path, 1.0).pull(IMAGE)
    assert swarm.present == []
