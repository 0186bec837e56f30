"""What users have used, by the lines of events."""

import json

from enterprise_gateway.services.events.accounts import Account, Accounts
from enterprise_gateway.services.events.events import (
    Claimed,
    Culled,
    Dead,
    Ended,
    KernelEvent,
    Usage,
    encode_event,
)

HOUR = 3600.0
NOON = "2026-11-30T12:00:00.000000Z"


def end(
    owner: str, launch: str, *, time: str = "2026-11-30T12:00:00.000000Z", **used: float
) -> Ended:
    """Make the end of a workload."""
    usage = Usage(**{"seconds": HOUR, "cpu_seconds": HOUR / 2, **used})  # type: ignore[arg-type] # numbers
    return Ended(id=launch, time=time, owner=owner, kernel_id="k", launch=launch, usage=usage)


def accounts_of(*events: KernelEvent) -> Accounts:
    """Add up events as lines."""
    accounts = Accounts()
    for event in events:
        accounts.add_line(encode_event(event) + b"\n")
    assert accounts.faulty == 0
    return accounts


def test_hours_of_each_user() -> None:
    """Kernel, CPU and GPU hours, and the most memory that one workload had."""
    events = (
        end("ann", "1", memory_peak_bytes=100),
        end("ann", "2", gpus=2, memory_peak_bytes=700),
        end("bob", "3", seconds=2 * HOUR),
    )
    assert accounts_of(*events).by_owner() == [
        Account("ann", 2, 2.0, 1.0, 2.0, 700),
        Account("bob", 1, 2.0, 0.5, 0.0, 0),
    ]


def test_workload_counts_once_however_many_replicas_tell_of_it() -> None:
    """Nor does its death count beside its end, which was later."""
    died = Dead(
        id="d", time="2026-11-30T11:00:00.000000Z", owner="ann", kernel_id="k", launch="1",
        usage=Usage(seconds=HOUR / 2, cpu_seconds=HOUR / 4), reason="", cause="signal",
    )  # fmt: skip
    (account,) = accounts_of(end("ann", "1"), died, end("ann", "1"), died).by_owner()
    assert account == Account("ann", 1, 1.0, 0.5, 0.0, 0)


def test_time_in_a_pool_is_not_the_users() -> None:
    """Neither its hours nor those of its GPU."""
    taken = Claimed(
        id="c", time="2026-11-30T11:00:00.000000Z", owner="ann", kernel_id="k", launch="1",
        seconds=0.1, waited=0.75 * HOUR,
    )  # fmt: skip
    (account,) = accounts_of(end("ann", "1", gpus=1), taken).by_owner()
    assert (account.kernel_hours, account.gpu_hours) == (0.25, 0.25)


def test_workloads_of_a_month() -> None:
    """By when they ended."""
    accounts = accounts_of(
        end("ann", "1", time="2026-10-31T23:59:59.999999Z"),
        end("ann", "2", time="2026-11-01T00:00:00.000000Z"),
        end("ann", "3", time="2026-12-01T00:00:00.000000Z"),
    )
    (account,) = accounts.by_owner("2026-11", "2026-12")
    assert account.workloads == 1
    assert accounts.by_owner("2027") == []


def test_json_log_is_a_file_of_events_too() -> None:
    """Its other lines are passed over; what is no JSON is counted."""
    accounts = Accounts()
    culled = Culled(
        id="e", time="2026-11-30T11:00:00.000000Z", owner="ann", kernel_id="k", launch="1",
        usage=Usage(seconds=HOUR),
    )  # fmt: skip
    event = json.loads(encode_event(culled))
    for document in (
        {"logger": "enterprise_gateway.events", "message": "…", "event": event},
        {"logger": "enterprise_gateway.access", "message": "200 GET /"},
    ):
        accounts.add_line(json.dumps(document).encode())
    assert accounts.faulty == 0
    for line in (b"{", b"[]", b'{"kind": "unknown"}', b"\xff", b"[" * 100_000, b"1e999"):
        accounts.add_line(line)
    accounts.add_line(b"\n")
    assert accounts.faulty == 6
    assert [account.owner for account in accounts.by_owner()] == ["ann"]
