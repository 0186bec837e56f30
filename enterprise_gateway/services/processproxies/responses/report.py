"""The one-line report of a kernel agent (section 2 of docs/agent-interface.md). No I/O."""

import hmac
from dataclasses import dataclass
from enum import Enum

import msgspec

from enterprise_gateway.errors import UNREADABLE_JSON
from enterprise_gateway.services.processproxies.steps import StartTimes

MAX_REPORT_BYTES = 64 * 1024
"""The size of a report line, including its line feed."""

ACCEPTED = b'{"status": "ok"}\n'
REJECTED = b'{"status": "rejected"}\n'


class ReportStatus(Enum):
    """The state of a kernel, as its agent reports it."""

    READY = "ready"
    FAILED = "failed"


class FailureReason(msgspec.Struct, frozen=True):
    """Why a kernel failed; fields as in the wire contract."""

    message: str = ""
    exit_code: int | None = None
    signal: str | None = None
    out_of_memory: bool = False
    stderr: str = ""

    def describe(self) -> str:
        """Return the reason as a text for users."""
        message = self.message or "the kernel failed to start"
        return f"{message}\n{self.stderr.rstrip()}" if self.stderr.strip() else message


class Report(msgspec.Struct, frozen=True):
    """A well-formed report, which is not trusted before `is_from` has returned True."""

    kernel_id: str
    token: str
    status: ReportStatus
    reason: FailureReason = FailureReason()
    start: StartTimes | None = None
    """The steps that the agent has measured, up to the report; older agents tell none."""

    def __repr__(self) -> str:
        """Leave the token out."""
        return f"Report(kernel_id={self.kernel_id!r}, status={self.status})"

    def is_from(self, tokens: frozenset[str]) -> bool:
        """Return whether the report carries one of the tokens, in constant time."""
        own = self.token.encode()
        return sum(hmac.compare_digest(own, token.encode()) for token in tokens) > 0


@dataclass(frozen=True, slots=True)
class MalformedReportError(Exception):
    """The line is not a report; the message says why."""

    message: str


_decoder = msgspec.json.Decoder(Report)


def decode_report(line: bytes) -> Report:
    """Decode a report line.

    Raises:
        MalformedReportError: the line is not a report.
    """
    try:
        return _decoder.decode(line)
    except UNREADABLE_JSON as exc:
        raise MalformedReportError(str(exc)) from exc
