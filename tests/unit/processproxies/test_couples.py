"""A kernel's container and its companion's, as one workload."""

import dataclasses

import pytest

from enterprise_gateway.services.processproxies.contract import (
    ORDERLY_EXIT,
    AgentEndpoint,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.couples import Couple, Couples, Part
from enterprise_gateway.services.processproxies.names import companion_name, workload_name

KERNEL_ID = "00000000-0000-0000-0000-000000000007"
STARTING, RUNNING, DEAD = WorkloadState.STARTING, WorkloadState.RUNNING, WorkloadState.DEAD
KILLED = "exit code 137 (killed)"


def part(companion_of: str = "", state: WorkloadState = RUNNING, reason: str = "") -> Part:
    """Return a kernel's container `k`, or that of its companion `c`."""
    name = workload_name("ann", KERNEL_ID)
    endpoint = AgentEndpoint("10.0.0.2" if companion_of else "10.0.0.1", 8898)
    workload = Workload(
        kernel_id=KERNEL_ID,
        name=companion_name(name, KERNEL_ID) if companion_of else name,
        username="" if companion_of else "ann",
        state=state,
        created=8.0 if companion_of else 7.0,
        endpoint=endpoint if state is RUNNING else None,
        exit_reason=reason,
    )
    return Part("c" if companion_of else "k", workload, companion_of)


KERNEL = part()
COMPANION = part("k")


def test_kernel_without_companion_is_what_its_container_is() -> None:
    """As are all whose images have an agent."""
    (couple,) = Couples([KERNEL])
    assert couple.workload == KERNEL.workload
    assert couple.survivor == ""


def test_couple_is_one_workload_where_the_companion_listens() -> None:
    """Everything else is as the kernel's container says, in whatever order they are seen."""
    for parts in ([KERNEL, COMPANION], [COMPANION, KERNEL]):
        (couple,) = Couples(parts)
        expected = dataclasses.replace(KERNEL.workload, endpoint=COMPANION.workload.endpoint)
        assert couple.workload == expected
        assert couple.survivor == ""


@pytest.mark.parametrize(("kernel", "companion"), [(STARTING, RUNNING), (RUNNING, STARTING)])
def test_couple_starts_until_both_run(kernel: WorkloadState, companion: WorkloadState) -> None:
    """Nobody looks for an agent before that."""
    workload = Couple(part(state=kernel), part("k", companion)).workload
    assert workload.state is STARTING
    assert workload.endpoint is None


@pytest.mark.parametrize(
    ("kernel", "companion", "reason"),
    [
        (KILLED, None, KILLED),
        (KILLED, "exit code 1", KILLED),
        (None, "exit code 2", "its companion ended: exit code 2"),
        (None, ORDERLY_EXIT, ORDERLY_EXIT),
        (KILLED, ORDERLY_EXIT, ORDERLY_EXIT),
        (ORDERLY_EXIT, ORDERLY_EXIT, ORDERLY_EXIT),
        (ORDERLY_EXIT, None, "its container ended by itself (exit code 0)"),
        (ORDERLY_EXIT, "exit code 1", "its container ended by itself (exit code 0)"),
    ],
)
def test_couple_is_dead_when_either_is(
    kernel: str | None, companion: str | None, reason: str
) -> None:
    """Why is the kernel's container's to say; whether it was meant to end, the companion's."""
    couple = Couple(
        part(state=DEAD, reason=kernel) if kernel else KERNEL,
        part("k", DEAD, companion) if companion else COMPANION,
    )
    assert couple.workload.state is DEAD
    assert couple.workload.endpoint is None
    assert couple.workload.exit_reason == reason
    left = "" if kernel and companion else ("c" if kernel else "k")
    assert couple.survivor == left


def test_companion_alone_is_a_dead_kernel() -> None:
    """It has the kernel's name, by which nothing more is to be found."""
    (couple,) = Couples([COMPANION])
    assert couple.workload.state is DEAD
    assert couple.workload.name == KERNEL.workload.name
    assert couple.workload.username == "ann"
    assert couple.survivor == "c"
    (couple,) = Couples([part("k", DEAD, "exit code 1")])
    assert couple.workload.exit_reason == "its companion ended: exit code 1"
    assert couple.survivor == ""


def test_companion_that_is_gone_is_remembered_until_its_kernel_is() -> None:
    """Without it the kernel would look like one that is waiting for its companion."""
    couples = Couples([KERNEL, part("k", DEAD, KILLED)])
    couples.drop("c")
    (couple,) = couples
    assert couple.workload.state is DEAD
    assert couple.survivor == "k"
    assert list(couples.parts) == ["k"]
    assert couples.part("c") is None
    couples.drop("k")
    assert not list(couples)


def test_kernel_that_is_gone_leaves_its_companion() -> None:
    """Until that is gone, too. Dropping twice is fine."""
    couples = Couples([KERNEL, COMPANION])
    couples.drop("k")
    assert list(couples.parts) == ["c"]
    couples.drop("k")
    couples.drop("c")
    couples.drop("c")
    assert not list(couples)


def test_couples_are_told_apart_by_the_kernels_container() -> None:
    """A kernel id may have a dead workload and a living one."""
    old = dataclasses.replace(part(state=DEAD, reason=KILLED), engine_id="old")
    first, second = Couples([old, KERNEL, COMPANION])
    assert (first.workload.state, second.workload.state) == (DEAD, RUNNING)


@pytest.mark.parametrize("username", ["ann", "x" * 26, "", "b--40c"])
def test_companions_name_fits_into_a_swarm(username: str) -> None:
    """63 characters are all that a service's name may have."""
    name = companion_name(workload_name(username, KERNEL_ID), KERNEL_ID)
    assert len(name) <= 63
    assert KERNEL_ID in name
    assert name[0].isalnum()
