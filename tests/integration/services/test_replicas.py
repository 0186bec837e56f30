"""Three replicas on one engine: what is done through one of them holds for all."""

import itertools
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import docker
import pytest
import requests
from harness.engines.leftovers import find_containers
from harness.gateways.gateway import START_DEADLINE, Gateway
from harness.waiting import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

LIMIT = 3
LIMIT_PER_USER = 2
STARTS = 9
SAME_DEADLINE = 60.0
"""Seconds until every gateway knows what was done through another one.

It is within 1 s where nothing else is going on; these machines also begin and end kernels then.
"""

Trio = tuple[Gateway, ...]


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    """Gateways that share what replicas share, and nothing else."""
    folder = tmp_path_factory.mktemp("trio")
    env = {
        "EG_CLUSTER_SECRET": "what-three-gateways-share",
        "EG_MAX_KERNELS": str(LIMIT),
        "EG_MAX_KERNELS_PER_USER": str(LIMIT_PER_USER),
    }
    first = Gateway(folder / "0", env=env)
    with ExitStack() as stack:
        gateways = [first]
        stack.callback(first.close)
        for name in "12":
            more = Gateway(folder / name, env=env, token=first.token, username=first.username)
            gateways.append(more)
            stack.callback(more.close)
        for gateway in gateways:
            gateway.start_process()
        for gateway in gateways:
            wait_until(gateway.answers, deadline=START_DEADLINE, what="the gateway's first answer")
        yield tuple(gateways)


@pytest.fixture(autouse=True)
def _clean(trio: Trio) -> Iterator[None]:
    """End the kernels of each test."""
    yield
    for kernel_id in trio[0].list_kernels():
        trio[0].request("DELETE", f"/api/kernels/{kernel_id}")
    trio[0].wait_until_no_kernels()
    wait_until_same(trio, set())


def wait_until_same(trio: Trio, kernels: set[str]) -> None:
    """Wait until every gateway lists the same models of just these kernels."""

    def are_same() -> bool:
        first, *others = [gateway.list_kernels() for gateway in trio]
        return set(first) == kernels and all(other == first for other in others)

    try:
        wait_until(are_same, deadline=SAME_DEADLINE, what="the same list of all gateways")
    except TimeoutError:
        first, *others = [gateway.list_kernels() for gateway in trio]
        assert set(first) == kernels
        assert others == [first] * len(others)
        raise  # they are the same by now, and too late


def wait_until_containers(trio: Trio, count: int) -> None:
    """Wait until there are just so many containers: the engine takes its time to remove others."""
    wait_until(lambda: len(find_containers(trio[0].username)) == count, what=f"{count} containers")


def statuses(trio: Trio, kernel_id: str) -> set[int]:
    """Return the gateways' answers to a GET of a kernel."""
    return {gateway.request("GET", f"/api/kernels/{kernel_id}").status_code for gateway in trio}


def are_dead(trio: Trio, kernel_id: str) -> bool:
    """Say whether all gateways know that the kernel has died."""
    return all(gateway.list_kernels()[kernel_id]["execution_state"] == "dead" for gateway in trio)


@pytest.mark.parametrize("users", [1, 3])
def test_limits_are_exact(trio: Trio, users: int) -> None:
    """Of nine starts at once just as many succeed as may, in all and of each user."""

    def start(turn: int) -> tuple[str, requests.Response]:
        username = f"{trio[0].username}-{turn // 3 % users}"
        body = {"name": "python_docker", "env": {"KERNEL_USERNAME": username}}
        return username, trio[turn % 3].request("POST", "/api/kernels", json=body)

    with ThreadPoolExecutor(STARTS) as pool:
        answers = list(pool.map(start, range(STARTS)))
    assert {answer.status_code for _, answer in answers} == {201, 403}
    started = {
        answer.json()["id"]: username for username, answer in answers if answer.status_code == 201
    }
    assert max(Counter(started.values()).values()) <= LIMIT_PER_USER
    assert len(started) == (LIMIT if users > 1 else LIMIT_PER_USER)
    wait_until_same(trio, set(started))
    wait_until_containers(trio, len(started))


def test_all_list_the_same(trio: Trio) -> None:
    """Start, rename, restart and DELETE through one are there for all, at once."""
    first, second, third = trio
    draft = {"path": "a.ipynb", "type": "notebook", "kernel": {"name": "python_docker"}}
    created = first.request("POST", "/api/sessions", json=draft)
    assert created.status_code == 201, created.text
    session = created.json()
    kernel_id = session["kernel"]["id"]
    wait_until_same(trio, {kernel_id})
    path = f"/api/sessions/{session['id']}"
    assert second.request("PATCH", path, json={"path": "b.ipynb"}).status_code == 200

    def are_renamed() -> bool:
        paths = [[one["path"] for one in gateway.get("/api/sessions")] for gateway in trio]
        return paths == [["b.ipynb"]] * len(trio)

    wait_until(are_renamed, deadline=SAME_DEADLINE, what="the new path everywhere")
    with closing(second.connect(kernel_id)) as client:
        assert client.execute("x = 1").status == "ok"
        restart = third.request("POST", f"/api/kernels/{kernel_id}/restart")
        assert restart.status_code == 200
        assert client.execute("x").status == "error"
    wait_until_same(trio, {kernel_id})
    second.delete_kernel(kernel_id)
    wait_until(lambda: statuses(trio, kernel_id) == {404}, deadline=SAME_DEADLINE)
    for _ in range(10):
        assert statuses(trio, kernel_id) == {404}
        assert not any(gateway.list_kernels() for gateway in trio)
    assert not any(gateway.get("/api/sessions") for gateway in trio)


def test_dead_kernel_is_restarted_through_another(trio: Trio) -> None:
    """It comes back under its id, with its environment, for all of them."""
    first, second, third = trio
    kernel_id = first.start_kernel("python_docker", {"KERNEL_MARK": "a$b"})
    wait_until_same(trio, {kernel_id})
    with closing(third.connect(kernel_id)) as client:
        assert client.execute("1").status == "ok"
        kill_container(first, kernel_id)
        wait_until(lambda: are_dead(trio, kernel_id), what="the death")
        (error,) = client.execute("1").of_type("error")
        assert error.content["ename"] == "KernelDied"
        restart = second.request("POST", f"/api/kernels/{kernel_id}/restart")
        assert restart.status_code == 200, restart.text
        client.receive_until_lost()
    wait_until_same(trio, {kernel_id})
    with closing(third.connect(kernel_id)) as client:
        mark = client.execute("__import__('os').environ['KERNEL_MARK']").result
    assert mark == "'a$b'"


def kill_container(gateway: Gateway, kernel_id: str) -> None:
    """Kill a kernel's container."""
    (container,) = (
        each for each in find_containers(gateway.username) if kernel_id in str(each.name)
    )
    with closing(docker.from_env()) as client:
        client.containers.get(container.id).kill()


def test_path_has_one_session(trio: Trio) -> None:
    """Three simultaneous requests for a path get one session and one kernel."""
    draft = {"path": "same.ipynb", "type": "notebook", "kernel": {"name": "python_docker"}}

    def create(gateway: Gateway) -> Any:
        response = gateway.request("POST", "/api/sessions", json=draft)
        assert response.status_code == 201, response.text
        return response.json()

    with ThreadPoolExecutor(len(trio)) as pool:
        # one user may have two kernels
        made = list(pool.map(create, trio[:2]))
    made.extend(map(create, itertools.islice(trio, 2, None)))
    assert len({(model["id"], model["kernel"]["id"]) for model in made}) == 1
    wait_until_same(trio, {made[0]["kernel"]["id"]})
    wait_until_containers(trio, 1)
