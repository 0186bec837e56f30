"""The bodies of the HTTP interface of executions: docs/agent-interface.md, section 3. Pure."""

from __future__ import annotations

import hashlib
import math
from typing import Any, Dict, Mapping, NamedTuple, Optional

from kernel_agent.wire.message import encode_json

MAX_KEY_CHARS = 255
MAX_TIMEOUT_SECONDS = 10_000_000.0


class BodyError(ValueError):
    """A body or header is not what the interface takes; the text says where and why."""


class ExecuteBody(NamedTuple):
    """What a client asks to execute."""

    code: str
    stop_on_error: bool
    """Whether the requests that are queued behind it are aborted if it fails."""
    allow_stdin: bool
    """Whether the client answers `input()`."""
    timeout: Optional[float]
    """After how many seconds of running it is interrupted."""

    def content(self) -> Dict[str, Any]:
        """Return the content of the `execute_request`."""
        return {
            "code": self.code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": self.allow_stdin,
            "stop_on_error": self.stop_on_error,
        }

    def fingerprint(self) -> str:
        """Return what another body with the same idempotency key does not have."""
        return hashlib.sha256(encode_json(list(self))).hexdigest()


def parse_execute(document: Mapping[str, Any]) -> ExecuteBody:
    """Return the body of `POST /v1/execute`.

    Raises:
        BodyError: it is malformed.
    """
    fields = dict(document)
    body = ExecuteBody(
        _take(fields, "code", str),
        _take(fields, "stop_on_error", bool, default=True),
        _take(fields, "allow_stdin", bool, default=False),
        _take_timeout(fields),
    )
    _refuse_rest(fields)
    return body


def parse_input(document: Mapping[str, Any]) -> str:
    """Return the text of `POST /v1/executions/<msg_id>/input`.

    Raises:
        BodyError: it is malformed.
    """
    fields = dict(document)
    value: str = _take(fields, "value", str)
    _refuse_rest(fields)
    return value


def parse_key(header: str) -> str:
    """Return an `Idempotency-Key`.

    Raises:
        BodyError: it is empty, too long, or not printable ASCII.
    """
    key = header.strip()
    if not (0 < len(key) <= MAX_KEY_CHARS and key.isascii() and key.isprintable()):
        raise BodyError(f"Idempotency-Key is not 1 to {MAX_KEY_CHARS} printable ASCII characters")
    return key


def derive_msg_id(kernel_id: str, key: str) -> str:
    """Return the id of the request that a key stands for; the same for equal arguments."""
    return hashlib.sha256(f"{kernel_id}\n{key}".encode()).hexdigest()[:32]


def parse_position(text: str) -> int:
    """Return an `after` or a `Last-Event-ID`.

    Raises:
        BodyError: it is not a number.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise BodyError("after is not the n of a record")
    return int(text)


def _take(fields: Dict[str, Any], name: str, kind: type, *, default: object = None) -> Any:  # noqa: ANN401  # of `kind`
    value = fields.pop(name, default)
    if value is None:
        raise BodyError(f"{name} is missing")
    if type(value) is not kind:
        raise BodyError(f"{name} is not a {'string' if kind is str else 'boolean'}")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as exc:  # ipykernel would never reply
            raise BodyError(f"{name} has half of a surrogate pair, which is no character") from exc
    return value


def _take_timeout(fields: Dict[str, Any]) -> Optional[float]:
    value = fields.pop("timeout", None)
    if value is None:
        return None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not (0 < value <= MAX_TIMEOUT_SECONDS) or not math.isfinite(value):
        raise BodyError(
            f"timeout is not a number of seconds above 0, at most {MAX_TIMEOUT_SECONDS:.0f}"
        )
    return float(value)


def _refuse_rest(fields: Mapping[str, Any]) -> None:
    if fields:
        raise BodyError(f"unknown field: {next(iter(fields))[:100]}")
