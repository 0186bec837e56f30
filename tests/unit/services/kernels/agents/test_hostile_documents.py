"""Documents of agents and reports: the documented error, and no other."""

import json
from contextlib import suppress

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from enterprise_gateway.services.kernels.agents.state import (
    DocumentError,
    failure_message,
    parse_state,
)
from enterprise_gateway.services.processproxies.responses.report import (
    MalformedReportError,
    decode_report,
)

STATE = {
    "kernel_id": "k",
    "execution_state": "idle",
    "last_activity": "2026-01-02T03:04:05.678901Z",
}
REPORT = {"kernel_id": "k", "token": "t", "status": "ready"}
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from(["\ud800", "9999-12-31T23:59:59.999999Z", "2026-99-99T03:04:05.678901Z"])
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=9), inner, max_size=2)
    ),
    max_leaves=4,
)


def documents(whole: dict[str, str], *more: str) -> st.SearchStrategy[bytes]:
    """Return documents with a field or two of another value, and bytes that are none."""
    names = st.sampled_from([*whole, *more])
    changes = st.dictionaries(names, values, max_size=2)
    changed = changes.map(lambda change: json.dumps({**whole, **change}).encode())
    return changed | st.binary(max_size=100)


@given(
    documents(
        STATE, "connections", "restarts", "reason", "annotations", "requests", "start", "usage",
        "ended_by", "kernel_info", "claimed",
    )
)  # fmt: skip
def test_state_is_taken_or_refused(raw: bytes) -> None:
    """Nothing that is taken is of another kernel, or in the future."""
    with suppress(DocumentError):
        state = parse_state(raw, "k", 1_800_000_000.0)
        assert state.kernel_id == "k"
        assert state.last_activity <= "2027-01-15T08:00:00.000000Z"
    assert isinstance(failure_message(raw), str)


@given(documents(REPORT, "reason", "start"))
def test_report_is_taken_or_refused(line: bytes) -> None:
    """A token of any kind is compared, and is not the kernel's."""
    with suppress(MalformedReportError):
        report = decode_report(line)
        assert not report.is_from(frozenset({"secret"}))
        assert repr(report) == repr(msgspec.structs.replace(report, token="another"))
