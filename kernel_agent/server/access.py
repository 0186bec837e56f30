"""Whose connections may be open: docs/agent-interface.md, section 3.

The gateway says on whose behalf it makes a request. What a share or a credential has opened is
closed once that is gone, also where no gateway is between client and agent.
"""

from __future__ import annotations

import asyncio
from typing import Any, Callable, Dict, Iterable, Mapping, NamedTuple, Optional, Protocol, Tuple
from weakref import WeakKeyDictionary

from kernel_agent.server.http import HttpError

MAX_CHARS = 1024
"""Length of each parameter."""
MAX_DIGITS = 9
MAX_CREDENTIALS = 1000
"""Revoked credentials remembered at a time, and in one request."""
REMEMBER_SECONDS = 20.0
"""How long a revoked credential is refused: a gateway may be opening a connection with it."""
REVOKED = "your credential was revoked, or what it allows has changed: connect again in a moment"
EXPIRED = "your credential has expired: sign in again"
NOT_SHARED = "the kernel is not shared with you any more, or in another way: connect again"

_ACCESSES = ("read", "write")


class Client(NamedTuple):
    """On whose behalf a request is made; all "" for a client that the gateway does not know."""

    user: str = ""
    credential: str = ""
    grant: str = ""
    """Id of the share by which the client is there; "": by none."""
    valid_for: Optional[float] = None
    """Seconds until the credential expires; None: it does not."""


class Connection(Protocol):
    """What a client has opened."""

    def revoke(self, reason: str) -> None:
        """Close it: the client may not have it any more."""


class Access:
    """Decides which clients may connect, and closes the connections of those that may not."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin without shares.

        Args:
            clock: seconds that never go back.
        """
        self._clock = clock
        self._grants: Dict[str, str] = {}
        self._revoked: Dict[str, float] = {}
        """When each was revoked, the oldest first."""
        self._open: "WeakKeyDictionary[Connection, Client]" = WeakKeyDictionary()
        self._ends: "WeakKeyDictionary[Connection, float]" = WeakKeyDictionary()
        """When the credentials of connections expire."""
        self._timer: Optional[asyncio.TimerHandle] = None

    def admit(self, client: Client) -> bool:
        """Return whether a client may write.

        Raises:
            HttpError: It may not connect.
        """
        self._forget_old()
        if client.credential in self._revoked:
            raise HttpError(403, REVOKED)
        if not client.grant:
            return True
        access = self._grants.get(client.grant)
        if access is None:
            raise HttpError(403, NOT_SHARED)
        return access == "write"

    def watch(self, client: Client, connection: Connection) -> None:
        """Close a connection once its client may not have it any more."""
        if client.credential or client.grant:
            self._open[connection] = client
        if client.valid_for is not None:
            self._ends[connection] = self._clock() + client.valid_for
            self._wait_for_end()

    def revoke(self, credentials: Iterable[str]) -> None:
        """Close what was opened with credentials, and refuse them for a while."""
        revoked = frozenset(credentials)
        now = self._clock()
        for credential in revoked:
            self._revoked.pop(credential, None)
            self._revoked[credential] = now
        while len(self._revoked) > MAX_CREDENTIALS:
            del self._revoked[next(iter(self._revoked))]
        self._forget_old()
        self._close(lambda client: client.credential in revoked, REVOKED)

    def replace_grants(self, annotations: Mapping[str, Any]) -> None:
        """Take over the shares in new annotations, and close what is there by none of them."""
        shares = annotations.get("shares")
        self._grants = {}
        for share in shares if isinstance(shares, list) else []:
            if isinstance(share, dict) and share.get("access") in _ACCESSES:
                self._grants[str(share.get("id"))] = share["access"]

        def has_lost_share(client: Client) -> bool:
            return bool(client.grant) and client.grant not in self._grants

        self._close(has_lost_share, NOT_SHARED)

    def _forget_old(self) -> None:
        """Forget the credentials that are refused no longer."""
        end = self._clock() - REMEMBER_SECONDS
        while self._revoked:
            credential, since = next(iter(self._revoked.items()))
            if since > end:
                return
            del self._revoked[credential]

    def _wait_for_end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ends:
            delay = min(self._ends.values()) - self._clock()
            self._timer = asyncio.get_running_loop().call_later(delay, self._close_expired)

    def _close_expired(self) -> None:
        now = self._clock()
        for connection in [each for each, end in self._ends.items() if end <= now]:
            del self._ends[connection]
            self._open.pop(connection, None)
            connection.revoke(EXPIRED)
        self._wait_for_end()

    def _close(self, is_refused: Callable[[Client], bool], reason: str) -> None:
        for connection, client in list(self._open.items()):
            if is_refused(client):
                del self._open[connection]
                connection.revoke(reason)


def read_client(query: Mapping[str, str]) -> Client:
    """Return on whose behalf a request is made.

    Raises:
        HttpError: A parameter is too long, or `valid_for` is no number.
    """
    user, credential, grant = (query.get(name, "") for name in ("user", "credential", "grant"))
    if max(map(len, (user, credential, grant))) > MAX_CHARS:
        raise HttpError(400, f"user, credential and grant have at most {MAX_CHARS} characters")
    return Client(user, credential, grant, _read_seconds(query.get("valid_for", "")))


def _read_seconds(text: str) -> Optional[float]:
    if not text:
        return None
    if len(text) > MAX_DIGITS or not (text.isascii() and text.isdecimal()):
        raise HttpError(400, f"valid_for is not a number of at most {MAX_DIGITS} digits")
    return float(text)


def read_credentials(body: Mapping[str, Any]) -> Tuple[str, ...]:
    """Return the credentials in the body of `POST /v1/revoke`.

    Raises:
        HttpError: It has none, too many, or others than texts.
    """
    given = body.get("credentials")
    if not isinstance(given, list) or not all(isinstance(each, str) and each for each in given):
        raise HttpError(400, "credentials is not a list of texts")
    if len(given) > MAX_CREDENTIALS:
        raise HttpError(400, f"credentials has more than {MAX_CREDENTIALS} elements")
    return tuple(given)
