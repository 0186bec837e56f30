"""The deployed stack under load: updates, scaling and a death that no client has to know of.

What a client retries: requests that may be repeated after a lost connection, 502, 503 or 504; the
start of a kernel only if no connection came about, or after a 503 with `Retry-After`.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest
from harness.clients.load import Load
from harness.clients.load_record import Figures
from harness.clients.load_rest import RestClient, RestLoad
from harness.gateways.stack import SERVICE, START_DEADLINE, Stack
from harness.waiting import wait_until

pytestmark = [
    pytest.mark.docker,
    pytest.mark.kernel,
    pytest.mark.client,
]

CLIENTS = 10
STARTS_AT_ONCE = 4
LINES = 50


@pytest.fixture(scope="module")
def kernels(stack: Stack) -> Iterator[list[str]]:
    """The ids of as many kernels as there are clients."""
    with ThreadPoolExecutor(STARTS_AT_ONCE) as pool:
        ids = list(pool.map(stack.start_kernel, ["python_docker"] * CLIENTS))
    yield ids
    for kernel_id in ids:
        stack.request("DELETE", f"/api/kernels/{kernel_id}")


class Trouble:
    """What is done to the stack, and what came of it."""

    figures: Figures
    failures: list[str]


@contextmanager
def under_load(stack: Stack, kernels: list[str]) -> Iterator[Trouble]:
    """Have both kinds of load on the stack, and see at the end that nothing failed or was lost."""
    trouble = Trouble()
    with (
        closing(RestClient([stack.url], stack.token)) as rest,
        Load(kernels, [[stack.url]], stack.token) as load,
    ):
        with RestLoad(stack.url, stack.token, stack.username, kernels) as requests:
            load.wait_for_more(LINES)
            yield trouble
            load.wait_for_more(LINES)
        trouble.figures = load.finish(rest)
        trouble.failures = requests.failures
        assert requests.starts


def test_rolling_update_hides_nothing(stack: Stack, kernels: list[str]) -> None:
    """All replicas are replaced, one after the other: no request fails, no WebSocket closes."""
    with under_load(stack, kernels) as trouble:
        stack.update()
    assert trouble.failures == []
    assert trouble.figures.outages == ()


def test_scaling_hides_nothing(stack: Stack, kernels: list[str]) -> None:
    """A third replica comes and one goes: no request fails, no WebSocket closes."""
    with under_load(stack, kernels) as trouble:
        scale(stack, 3)
        scale(stack, 2)
    assert trouble.failures == []
    assert trouble.figures.outages == ()


def test_reload_of_the_balancer_hides_nothing(stack: Stack, kernels: list[str]) -> None:
    """As for a renewed certificate: no request fails, no WebSocket closes."""
    with under_load(stack, kernels) as trouble:
        stack.reload_balancer()
    assert trouble.failures == []
    assert trouble.figures.outages == ()


def test_killed_replica_costs_the_starts_that_it_was_at(stack: Stack, kernels: list[str]) -> None:
    """All else may be tried again; no WebSocket closes, whichever replica authorised it."""
    with under_load(stack, kernels) as trouble:
        victim = stack.kill_replica()
        wait_until(
            lambda: victim.id not in {replica.id for replica in stack.replicas()},
            what="end of the replica",
        )
        wait_until(stack.is_complete, deadline=START_DEADLINE, what="another replica")
    assert trouble.figures.outages == ()
    # to be told by 502 that it is not known whether it was done
    assert all(failure.startswith("POST /api/kernels: 502") for failure in trouble.failures)


def scale(stack: Stack, count: int) -> None:
    """Have so many replicas, and wait until they serve and surplus ones are gone."""
    stack.docker("service", "scale", "--detach", f"{SERVICE}={count}")
    stack.replica_count = count
    wait_until(
        lambda: stack.is_complete() and len(stack.replicas()) == count,
        deadline=START_DEADLINE,
        what=f"{count} replicas",
    )
