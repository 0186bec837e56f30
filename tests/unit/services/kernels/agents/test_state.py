"""State documents of agents, of which nothing is believed that cannot be."""

import json
from typing import Any

import pytest

from enterprise_gateway.services.kernels.agents.state import (
    MAX_MESSAGE_CHARS,
    MAX_REASON_CHARS,
    DocumentError,
    failure_message,
    parse_state,
)

KERNEL_ID = "2b7e1516-28ae-4d2a-abf7-158809cf4f3c"
NOW = 1_790_000_000.25
DOCUMENT: dict[str, Any] = {
    "version": 1,
    "kernel_id": KERNEL_ID,
    "kernel_name": "python_docker",
    "username": "ann",
    "execution_state": "idle",
    "last_activity": "2026-01-02T03:04:05.678901Z",
    "connections": 1,
    "reason": None,
    "annotations": {"revision": 3, "document": {"sessions": []}},
    "of a later version": {"x": 1},
}


def test_document_of_the_contract_is_taken() -> None:
    """With keys that are not known."""
    state = parse_state(json.dumps(DOCUMENT).encode(), KERNEL_ID, NOW)
    assert state.execution_state == "idle"
    assert state.last_activity == "2026-01-02T03:04:05.678901Z"
    assert state.connections == 1
    assert state.annotations.revision == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel_id": "00000000-0000-4000-8000-000000000000"},
        {"execution_state": "<b>owned</b>"},
        {"execution_state": None},
        {"last_activity": "~~~"},
        {"last_activity": "2026-13-01T00:00:00.000000Z"},
        {"last_activity": "2026-02-30T00:00:00.000000Z"},
        {"last_activity": "2026-01-01T25:00:00.000000Z"},
        {"last_activity": "2026-01-01T00:00:00Z"},
        {"last_activity": "2026-01-01T00:00:00.000000+00:00"},
        {"last_activity": "2026-01-02T03:04:05.678901Z\n"},
        {"last_activity": "٢٠٢٦-01-02T03:04:05.678901Z"},
        {"last_activity": 0},
        {"connections": 10**18},
        {"usage": {"cpu_seconds": -1}},
        {"usage": {"cpu_seconds": 1e300}},
        {"usage": {"cpu_seconds": "many"}},
        {"usage": {"memory_peak_bytes": 2**70}},
        {"usage": 5},
        {"ended_by": "x" * 33},
        {"ended_by": None},
        {"connections": -1},
        {"connections": 1.5},
        {"connections": float("nan")},
        {"kernel_name": "x" * 5000},
        {"annotations": {"revision": -1, "document": {}}},
        {"annotations": {"revision": 10**30, "document": {}}},
        {"annotations": []},
        {"reason": {"message": 5}},
        {"start": {"seconds": -1, "steps": {}}},
        {"start": {"seconds": 1, "steps": {"kernel": 1e300}}},
        {"start": {"seconds": 1, "steps": {"kernel\n": 1}}},
        {"start": {"seconds": 1, "steps": {"Kernel x died": 1}}},
        {"start": {"seconds": 1, "steps": {"a" * n: 1 for n in range(1, 50)}}},
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    """Whichever part of it is wrong, and without a word of the agent's in a line of its own."""
    with pytest.raises(DocumentError) as failure:
        parse_state(json.dumps({**DOCUMENT, **changes}).encode(), KERNEL_ID, NOW)
    assert str(failure.value).isprintable()
    assert len(str(failure.value)) < 200


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[" * 100_000, b"\xff", b"null", b'{"connections": ' + b"9" * 5000 + b"}"]
)
def test_what_is_no_document_is_refused(raw: bytes) -> None:
    """With the one error that is expected."""
    with pytest.raises(DocumentError):
        parse_state(raw, KERNEL_ID, NOW)


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59.999999Z", "2026-09-21T13:33:20.250001Z"])
def test_no_activity_is_in_the_future(text: str) -> None:
    """It would be the latest for ever."""
    raw = json.dumps({**DOCUMENT, "last_activity": text}).encode()
    state = parse_state(raw, KERNEL_ID, 1_789_997_600.25)
    assert state.last_activity == "2026-09-21T13:33:20.250000Z"


def test_long_texts_are_cut() -> None:
    """A reason still says how it begins."""
    reason = {"message": "because " + "x" * 100_000, "stderr": "y" * 100_000}
    raw = json.dumps({**DOCUMENT, "execution_state": "dead", "reason": reason}).encode()
    state = parse_state(raw, KERNEL_ID, NOW)
    assert state.reason is not None
    assert state.reason.message.startswith("because")
    assert len(state.reason.message) == MAX_REASON_CHARS
    long = json.dumps({"message": "m" * 100_000}).encode()
    assert len(failure_message(long)) == MAX_MESSAGE_CHARS


@pytest.mark.parametrize("raw", [b"", b"[" * 100_000, b'{"message": 5}', b"\xff", b"{}"])
def test_failures_without_a_message_have_none(raw: bytes) -> None:
    """The caller has only the status then."""
    assert failure_message(raw) == ""


def test_older_agent_is_known_by_what_it_does_not_say() -> None:
    """It would set the variables of a new process in the running one."""
    for changes, can_begin_anew in (({}, False), ({"notice": ""}, True), ({"notice": "x"}, True)):
        state = parse_state(json.dumps({**DOCUMENT, **changes}).encode(), KERNEL_ID, NOW)
        assert state.can_begin_anew is can_begin_anew
