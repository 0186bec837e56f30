"""Jupyter sessions in the annotations of a kernel: pure.

The annotations are a JSON object; sessions are the list under its key `sessions`. Other keys are
kept. An agent can write anything there, so a session is valid only with the message authentication
code of a gateway.
"""

import hmac
from typing import Annotated

import msgspec

from enterprise_gateway.services.kernels.access.annotations import (
    read_annotations,
    replace_entry,
)

KEY = "sessions"
_KEY_LABEL = b"enterprise-gateway sessions\0"
"""No kernel id, so no agent's token is ever this key."""
MAX_TEXT_CHARS = 4096

Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT_CHARS)]


class Session(msgspec.Struct, frozen=True, omit_defaults=True):
    """A session as it is stored in annotations."""

    id: Text
    path: Text
    name: Text | None = None
    type: Text = ""
    claimed: float = 0.0
    """0 for a session; for a claim to its path, when that was made, in seconds since the epoch."""
    user: Text = ""
    """Whose it is, as in the names of workloads; "": the kernel's owner's.

    Others are those who use a kernel by a share.
    """
    mac: str = ""
    """HMAC-SHA256 over the other fields and the kernel's id, in hexadecimal."""


class _Document(msgspec.Struct):
    sessions: list[Session] = []


class SessionStore:
    """Reads and writes the sessions of one kernel."""

    def __init__(self, cluster_secret: bytes, kernel_id: str) -> None:
        self._key = derive_session_key(cluster_secret)
        self._kernel_id = kernel_id

    def sessions_in(self, document: msgspec.Raw) -> list[Session]:
        """Return the valid sessions, those that a gateway has tied to this kernel.

        The most that an agent can forge is an earlier session of this kernel.
        """
        stored = read_annotations(document, _Document).sessions
        return [each for each in stored if hmac.compare_digest(each.mac.encode(), self._mac(each))]

    def with_session(self, session: Session, document: msgspec.Raw) -> dict[str, object]:
        """Return the annotations with a session added; it replaces one of the same id."""
        others = [other for other in self.sessions_in(document) if other.id != session.id]
        own = msgspec.structs.replace(session, mac=self._mac(session).decode())
        return replace_entry(document, KEY, [*others, own])

    def without_session(self, session_id: str, document: msgspec.Raw) -> dict[str, object]:
        """Return the annotations with a session removed."""
        others = [other for other in self.sessions_in(document) if other.id != session_id]
        return replace_entry(document, KEY, others)

    def _mac(self, session: Session) -> bytes:
        fields = [
            self._kernel_id,
            session.id,
            session.path,
            session.name,
            session.type,
            session.claimed,
        ]
        if session.user:
            fields.append(session.user)
        return hmac.digest(self._key, msgspec.json.encode(fields), "sha256").hex().encode()


def derive_session_key(cluster_secret: bytes) -> bytes:
    """Return the key that authenticates the sessions in annotations. No agent knows it.

    It derives from the cluster secret, so no replica has to store or share it.
    """
    return hmac.digest(cluster_secret, _KEY_LABEL, "sha256")
