"""A kernel's container and its sidecar's, as one workload."""

import dataclasses

import pytest

from enterprise_gateway.services.processproxies.contract import (
    ORDERLY_EXIT,
    AgentEndpoint,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.workloads.names import sidecar_name, workload_name
from enterprise_gateway.services.processproxies.workloads.sidecars import (
    Member,
    PairIndex,
    SidecarPair,
)

KERNEL_ID = "00000000-0000-0000-0000-000000000007"
STARTING, RUNNING, DEAD = WorkloadState.STARTING, WorkloadState.RUNNING, WorkloadState.DEAD
KILLED = "exit code 137 (killed)"


def member(sidecar_of: str = "", state: WorkloadState = RUNNING, reason: str = "") -> Member:
    """Return a kernel's container `k`, or that of its sidecar `c`."""
    name = workload_name("ann", KERNEL_ID)
    endpoint = AgentEndpoint("10.0.0.2" if sidecar_of else "10.0.0.1", 8898)
    workload = Workload(
        kernel_id=KERNEL_ID,
        name=sidecar_name(name, KERNEL_ID) if sidecar_of else name,
        username="" if sidecar_of else "ann",
        state=state,
        created=8.0 if sidecar_of else 7.0,
        endpoint=endpoint if state is RUNNING else None,
        exit_reason=reason,
    )
    return Member("c" if sidecar_of else "k", workload, sidecar_of)


KERNEL = member()
SIDECAR = member("k")


def test_kernel_without_sidecar_is_what_its_container_is() -> None:
    """As with every image that has an agent."""
    (pair,) = PairIndex([KERNEL])
    assert pair.workload == KERNEL.workload
    assert pair.unpaired_id == ""


def test_pair_is_one_workload_where_the_sidecar_listens() -> None:
    """Everything else is from the kernel's container, in either order of observation."""
    for members in ([KERNEL, SIDECAR], [SIDECAR, KERNEL]):
        (pair,) = PairIndex(members)
        expected = dataclasses.replace(KERNEL.workload, endpoint=SIDECAR.workload.endpoint)
        assert pair.workload == expected
        assert pair.unpaired_id == ""


@pytest.mark.parametrize(("kernel", "sidecar"), [(STARTING, RUNNING), (RUNNING, STARTING)])
def test_pair_starts_until_both_run(kernel: WorkloadState, sidecar: WorkloadState) -> None:
    """Until then there is no agent."""
    workload = SidecarPair(member(state=kernel), member("k", sidecar)).workload
    assert workload.state is STARTING
    assert workload.endpoint is None


@pytest.mark.parametrize(
    ("kernel", "sidecar", "reason"),
    [
        (KILLED, None, KILLED),
        (KILLED, "exit code 1", KILLED),
        (None, "exit code 2", "its sidecar ended: exit code 2"),
        (None, ORDERLY_EXIT, ORDERLY_EXIT),
        (KILLED, ORDERLY_EXIT, ORDERLY_EXIT),
        (ORDERLY_EXIT, ORDERLY_EXIT, ORDERLY_EXIT),
        (ORDERLY_EXIT, None, "its container ended by itself (exit code 0)"),
        (ORDERLY_EXIT, "exit code 1", "its container ended by itself (exit code 0)"),
    ],
)
def test_pair_is_dead_when_either_is(kernel: str | None, sidecar: str | None, reason: str) -> None:
    """The kernel's container has the reason; the sidecar's shows whether the end was requested."""
    pair = SidecarPair(
        member(state=DEAD, reason=kernel) if kernel else KERNEL,
        member("k", DEAD, sidecar) if sidecar else SIDECAR,
    )
    assert pair.workload.state is DEAD
    assert pair.workload.endpoint is None
    assert pair.workload.exit_reason == reason
    left = "" if kernel and sidecar else ("c" if kernel else "k")
    assert pair.unpaired_id == left


def test_sidecar_alone_is_a_dead_kernel() -> None:
    """It carries the kernel's name, although the kernel's container is gone."""
    (pair,) = PairIndex([SIDECAR])
    assert pair.workload.state is DEAD
    assert pair.workload.name == KERNEL.workload.name
    assert pair.workload.username == "ann"
    assert pair.unpaired_id == "c"
    (pair,) = PairIndex([member("k", DEAD, "exit code 1")])
    assert pair.workload.exit_reason == "its sidecar ended: exit code 1"
    assert pair.unpaired_id == ""


def test_sidecar_that_is_gone_is_remembered_until_its_kernel_is() -> None:
    """Otherwise the kernel would look as if it waited for its sidecar."""
    pairs = PairIndex([KERNEL, member("k", DEAD, KILLED)])
    pairs.drop("c")
    (pair,) = pairs
    assert pair.workload.state is DEAD
    assert pair.unpaired_id == "k"
    assert list(pairs.members) == ["k"]
    assert pairs.member("c") is None
    pairs.drop("k")
    assert not list(pairs)


def test_kernel_that_is_gone_leaves_its_sidecar() -> None:
    """Until the sidecar is gone, too. Dropping twice does no harm."""
    pairs = PairIndex([KERNEL, SIDECAR])
    pairs.drop("k")
    assert list(pairs.members) == ["c"]
    pairs.drop("k")
    pairs.drop("c")
    pairs.drop("c")
    assert not list(pairs)


def test_pair_are_told_apart_by_the_kernels_container() -> None:
    """A kernel id may have a dead workload and a living one."""
    old = dataclasses.replace(member(state=DEAD, reason=KILLED), engine_id="old")
    first, second = PairIndex([old, KERNEL, SIDECAR])
    assert (first.workload.state, second.workload.state) == (DEAD, RUNNING)


@pytest.mark.parametrize("is_first", [True, False])
def test_container_of_another_kernel_is_no_sidecar(*, is_first: bool) -> None:
    """Its image may have the label: the kernel that it names is as if it were not there."""
    other = dataclasses.replace(SIDECAR.workload, kernel_id="other")
    stranger = Member("s", other, "k")
    pairs = PairIndex([stranger, KERNEL, SIDECAR] if is_first else [KERNEL, SIDECAR, stranger])
    pair = pairs.get(KERNEL.pair)
    assert pair is not None
    assert pair.members == [KERNEL, SIDECAR]
    found = pairs.get(stranger.pair)
    assert found is not None
    assert (found.workload.kernel_id, found.workload.state) == ("other", DEAD)
    pairs.drop("s")
    assert [each.workload.state for each in pairs] == [RUNNING]


@pytest.mark.parametrize("username", ["ann", "x" * 26, "", "b--40c"])
def test_sidecars_name_fits_into_a_swarm(username: str) -> None:
    """A service's name may have 63 characters."""
    name = sidecar_name(workload_name(username, KERNEL_ID), KERNEL_ID)
    assert len(name) <= 63
    assert KERNEL_ID in name
    assert name[0].isalnum()
