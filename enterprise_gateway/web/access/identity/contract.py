"""What a way of knowing users owes, and gets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from multidict import CIMultiDict, CIMultiDictProxy

from enterprise_gateway.services.users import User


class ExpiredError(Exception):
    """A credential is genuine, but its time is over; the text tells its owner."""


@dataclass(frozen=True, slots=True)
class Sender:
    """What is known of the sender of a request besides its tokens.

    Attributes:
        address: Of the peer of the TCP connection, which no header changes.
        certificate: Of the peer, as `SSLSocket.getpeercert` returns it; None without TLS.
        headers: Of the request.
    """

    address: str
    certificate: Mapping[str, Any] | None
    headers: CIMultiDict[str] | CIMultiDictProxy[str]


class TokenIdentity(Protocol):
    """Knows users by tokens."""

    async def identify(self, token: str, *, is_suspect: bool) -> User | None:
        """Return the user of a token, None if it is not known here.

        Args:
            token: What the client has sent; anything.
            is_suspect: Whether many wrong tokens have come from the same address.

        Raises:
            ExpiredError: It was known here.
            UnavailableError: It cannot be known now.
        """


class SenderIdentity(Protocol):
    """Knows users by what comes with each of their requests, without their doing."""

    def identify(self, sender: Sender) -> User | None:
        """Return the user who sends a request, None if that is not known here."""
