"""Idle containers are paused, and go on when they are used, through any gateway."""

import contextlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from docker.errors import APIError
from docker.models.containers import Container
from harness.clients.executions import stdout
from harness.engines.leftovers import find_kernel_containers
from harness.gateways.gateway import Gateway
from harness.waiting import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

NAME = "python_docker"
TIMEOUT = 2
DELAYS = {"pause_check_seconds": 0.1, "request_seconds": TIMEOUT}
CULL_SECONDS = 15
ROUNDS = 20
NANOSECONDS = 1e9


def container_of(kernel_id: str) -> Container:
    """Return the container of a kernel as it is now."""
    (container,) = find_kernel_containers(kernel_id)
    return container


def wait_until_paused(kernel_id: str) -> None:
    """Wait until the engine says that the kernel's container is paused."""
    wait_until(lambda: container_of(kernel_id).status == "paused", what="the pause")


def evaluate(gateway: Gateway, kernel_id: str, code: str) -> str:
    """Run a cell through a WebSocket of its own; return what it printed."""
    with closing(gateway.connect(kernel_id)) as channels:
        return channels.execute(code).stdout


def cpu_seconds(container: Container) -> float:
    """Return the CPU time that a container has taken."""
    stats = container.client.api.stats(container.id, stream=False, one_shot=True)
    return float(stats["cpu_stats"]["cpu_usage"]["total_usage"]) / NANOSECONDS


@pytest.fixture
def pair(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Gateway, Gateway]]:
    """Two gateways that run on one engine, and pause idle kernels soon."""
    env = {
        "EG_CLUSTER_SECRET": "what-two-gateways-share",
        "EG_PAUSE_IDLE_TIMEOUT": str(TIMEOUT),
        "EG_TEST_DELAYS": json.dumps(DELAYS),
        **getattr(request, "param", {}),
    }
    one = Gateway(tmp_path / "0", env=env)
    other = Gateway(tmp_path / "1", env=env, token=one.token, username=one.username)
    with ExitStack() as stack:
        for gateway in (one, other):
            stack.callback(gateway.close)
            gateway.start()
        yield one, other


def test_idle_container_takes_no_cpu_time_until_it_is_used(pair: tuple[Gateway, Gateway]) -> None:
    """Not even for threads of its own; variables, threads and sessions are there afterwards."""
    one, other = pair
    kernel_id = one.start_kernel(NAME)
    session = {"path": "a.ipynb", "type": "notebook", "kernel": {"id": kernel_id}}
    assert one.request("POST", "/api/sessions", json=session).status_code == 201
    code = "import threading\ndef spin():\n    global kept\n    while True: kept += 1\nkept = 0\n"
    evaluate(one, kernel_id, f"{code}threading.Thread(target=spin, daemon=True).start()")
    wait_until_paused(kernel_id)
    for gateway in pair:
        wait_until(lambda gateway=gateway: gateway.list_kernels()[kernel_id].get("paused"))
        assert gateway.list_kernels()[kernel_id]["execution_state"] == "idle"
        assert [one["path"] for one in gateway.get("/api/sessions")] == ["a.ipynb"]
    container = container_of(kernel_id)
    taken = cpu_seconds(container)
    # a container that is used takes more in this time
    assert int(evaluate(other, one.start_kernel(NAME), "print(6 * 7)")) == 42
    assert cpu_seconds(container) == taken
    assert container_of(kernel_id).status == "paused"
    first, second = evaluate(
        other, kernel_id, "print(kept)\nimport time\ntime.sleep(0.5)\nprint(kept)"
    ).split()
    assert 0 < int(first) < int(second)


def test_any_request_that_needs_the_kernel_wakes_it(pair: tuple[Gateway, Gateway]) -> None:
    """An execution, an interrupt, a restart, a session's new name; its end is an orderly one."""
    one, other = pair
    kernel_id = one.start_kernel(NAME)
    path = f"/api/kernels/{kernel_id}"
    wait_until_paused(kernel_id)
    answer = other.request("POST", f"{path}/execute", json={"code": "kept = 42; print(kept)"})
    assert stdout(json.loads(line) for line in answer.text.splitlines()) == "42\n"
    wait_until_paused(kernel_id)
    assert one.request("POST", f"{path}/interrupt").status_code == 204
    wait_until_paused(kernel_id)
    session = {"path": "b.ipynb", "type": "notebook", "kernel": {"id": kernel_id}}
    assert other.request("POST", "/api/sessions", json=session).status_code == 201
    wait_until_paused(kernel_id)
    assert evaluate(one, kernel_id, "print(kept)") == "42\n"
    wait_until_paused(kernel_id)
    assert one.request("POST", f"{path}/restart").status_code == 200
    wait_until_paused(kernel_id)
    assert other.request("DELETE", path).status_code == 204
    wait_until(lambda: not find_kernel_containers(kernel_id), what="the removal")
    assert one.request("GET", path).status_code == 404


def test_container_that_is_paused_at_that_moment_answers(pair: tuple[Gateway, Gateway]) -> None:
    """As by another gateway that has not seen the client come."""
    kernel_id = pair[0].start_kernel(NAME)
    container = container_of(kernel_id)

    def pause() -> None:
        with contextlib.suppress(APIError):  # it is paused already
            container.pause()

    with ThreadPoolExecutor(1) as pool:
        for number in range(ROUNDS):
            pausing = pool.submit(pause)
            assert evaluate(pair[number % 2], kernel_id, f"print({number})") == f"{number}\n"
            pausing.result()


def test_next_gateway_knows_paused_kernels(pair: tuple[Gateway, Gateway]) -> None:
    """Both have been killed; with the first answer the sessions are there."""
    one, other = pair
    kernel_id = one.start_kernel(NAME)
    session = {"path": "a.ipynb", "type": "notebook", "kernel": {"id": kernel_id}}
    assert one.request("POST", "/api/sessions", json=session).status_code == 201
    evaluate(one, kernel_id, "kept = 42")
    wait_until_paused(kernel_id)
    for gateway in pair:
        gateway.kill()
    other.start()
    assert [one["path"] for one in other.get("/api/sessions")] == ["a.ipynb"]
    assert other.list_kernels()[kernel_id]["execution_state"] == "idle"
    wait_until_paused(kernel_id)
    assert evaluate(other, kernel_id, "print(kept)") == "42\n"


@pytest.mark.parametrize("pair", [{"EG_CULL_IDLE_TIMEOUT": str(CULL_SECONDS)}], indirect=True)
def test_paused_kernel_is_culled_at_its_time(pair: tuple[Gateway, Gateway]) -> None:
    """As if it had not been paused, and by its agent, so that it ends in order."""
    one, other = pair
    kernel_id = one.start_kernel(NAME)
    evaluate(one, kernel_id, "1")
    used = time.monotonic()
    wait_until_paused(kernel_id)
    other.wait_until_gone(kernel_id)
    assert CULL_SECONDS - 1 <= time.monotonic() - used < 2 * CULL_SECONDS
    wait_until(lambda: not find_kernel_containers(kernel_id), what="the removal")


@pytest.mark.parametrize("pair", [{"EG_PAUSE_IDLE_TIMEOUT": "0"}], indirect=True)
def test_kernelspec_says_that_its_kernels_are_paused(pair: tuple[Gateway, Gateway]) -> None:
    """Though others are not."""
    one, _ = pair
    path = one.home / "share/jupyter/kernels" / NAME / "kernel.json"
    spec = json.loads(path.read_text())
    spec["metadata"]["pause_idle_timeout"] = 1
    path.write_text(json.dumps(spec))
    wait_until_paused(one.start_kernel(NAME))
