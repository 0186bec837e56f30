"""The one-line report of a kernel agent (section 2 of docs/agent-interface.md). No I/O."""

import hmac
from dataclasses import dataclass
from enum import Enum

import msgspec

MAX_REPORT_BYTES = 64 * 1024
"""A report line, its line feed included."""

ACCEPTED = b'{"status": "ok"}\n'
REJECTED = b'{"status": "rejected"}\n'


class ReportStatus(Enum):
    """What an agent says of its kernel."""

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
        """Return the reason for the eyes of a user."""
        message = self.message or "the kernel failed to start"
        return f"{message}\n{self.stderr.rstrip()}" if self.stderr.strip() else message


class Report(msgspec.Struct, frozen=True):
    """A well-formed report; nothing in it is trusted before `is_from`."""

    kernel_id: str
    token: str
    status: ReportStatus
    reason: FailureReason = FailureReason()

    def __repr__(self) -> str:
        """Leave the token out."""
        return f"Report(kernel_id={self.kernel_id!r}, status={self.status})"

    def is_from(self, token: str) -> bool:
        """Whether the sender knows the kernel's token; takes the same time whatever the answer."""
        return hmac.compare_digest(self.token.encode(), token.encode())


@dataclass(frozen=True, slots=True)
class MalformedReportError(Exception):
    """The line is no report; the text says why."""

    message: str


_decoder = msgspec.json.Decoder(Report)


def decode_report(line: bytes) -> Report:
    """Decode a report line.

    Raises:
        MalformedReportError: it is not one.
    """
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedReportError(str(exc)) from exc
