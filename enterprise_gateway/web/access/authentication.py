"""Authentication: finds out who sends a request, or refuses it."""

import logging
import math
import time
from http import HTTPStatus

from aiohttp import web

from enterprise_gateway.services.users import USER
from enterprise_gateway.settings import LiveSettings
from enterprise_gateway.web.access.failures import LIMIT, Failures
from enterprise_gateway.web.access.identity.contract import Sender
from enterprise_gateway.web.access.identity.identities import Finding, Identities
from enterprise_gateway.web.access.refusals import describe_refusal
from enterprise_gateway.web.access.tokens import present_tokens
from enterprise_gateway.web.errors import ErrorResponse

ACCEPTED_TOKEN: web.RequestKey[str] = web.RequestKey("accepted_token", str)
"""The token by which the user of a request is known; "" if it is by other means."""

_log = logging.getLogger(__name__)


class Authentication:
    """Knows the users of requests, and counts wrong tokens."""

    def __init__(self, live: LiveSettings, identities: Identities) -> None:
        self._live = live
        self._identities = identities
        self._failures = Failures()

    async def authenticate(self, request: web.Request, peer: str) -> ErrorResponse | None:
        """Set the user of a request; return the refusal if there is none.

        Args:
            request: With the client's address as the proxy in front reports it.
            peer: The address of the peer of the TCP connection.

        Raises:
            UnavailableError: Its user cannot be known now.
        """
        address = request.remote or ""
        sender = Sender(peer, request.get_extra_info("peercert"), request.headers)
        is_suspect = self._failures.seconds_left(address, time.monotonic()) > 0
        found = await self._identities.identify(
            present_tokens(request), sender, is_suspect=is_suspect
        )
        for token in found.wrong:
            count = self._failures.add(address, token, time.monotonic())
            if count:
                _report(address, count)
        if found.user is not None:
            request[USER] = found.user
            request[ACCEPTED_TOKEN] = found.token
            return None
        if found.fault is not None:
            raise found.fault
        return self._refuse(request, address, found)

    def _refuse(self, request: web.Request, address: str, found: Finding) -> ErrorResponse:
        seconds = self._failures.seconds_left(address, time.monotonic())
        if found.wrong and seconds > 0:
            response = ErrorResponse(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"The token of the request is wrong, like more than {LIMIT} others that came from "
                f"this address within a minute. Try again in {math.ceil(seconds)} s.",
            )
            response.headers["Retry-After"] = str(math.ceil(seconds))  # RFC 6585 section 4
            return response
        message = found.expired or describe_refusal(self._live.current, request)
        response = ErrorResponse(HTTPStatus.UNAUTHORIZED, message)
        response.headers["WWW-Authenticate"] = "Bearer"  # RFC 9110 section 15.5.2
        return response


def _report(address: str, count: int) -> None:
    """Log a wrong token, but none of those above the limit."""
    if count <= LIMIT:
        _log.warning("Wrong token from %s, %d within a minute", address, count)
    else:
        _log.warning(
            "More than %d wrong tokens from %s within a minute: further ones get 429, unlogged",
            LIMIT,
            address,
        )
