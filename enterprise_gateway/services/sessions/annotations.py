"""Jupyter sessions in the annotations of a kernel: pure.

The annotations are a JSON object; sessions are the list under its key `sessions`. Other keys are
left alone.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

KEY = "sessions"


class Session(msgspec.Struct, frozen=True, omit_defaults=True):
    """A session as it is stored."""

    id: str
    path: str
    name: str = ""
    type: str = ""
    claimed: float = 0.0
    """If not 0, this is no session yet but a claim to its path, made then (since the epoch)."""


def sessions_in(annotations: Mapping[str, Any]) -> list[Session]:
    """Return the sessions of a kernel."""
    stored = annotations.get(KEY)
    return msgspec.convert(stored, list[Session]) if stored else []


def with_session(session: Session, annotations: Mapping[str, Any]) -> dict[str, Any]:
    """Return the annotations with a session added, or replaced if there is one of that id."""
    others = [other for other in sessions_in(annotations) if other.id != session.id]
    return {**annotations, KEY: msgspec.to_builtins([*others, session])}


def without_session(session_id: str, annotations: Mapping[str, Any]) -> dict[str, Any]:
    """Return the annotations with a session removed."""
    others = [other for other in sessions_in(annotations) if other.id != session_id]
    return {**annotations, KEY: msgspec.to_builtins(others)}
