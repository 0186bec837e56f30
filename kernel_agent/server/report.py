"""Sends the report to the gateway: ready or failed (docs/agent-interface.md, section 2)."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import logging
import ssl
from enum import Enum
from typing import Any, Callable, Mapping

from kernel_agent.server.spki import CertificateError, subject_public_key_info

FIRST_BACKOFF_SECONDS = 0.2
MAX_BACKOFF_SECONDS = 5.0
EXCHANGE_TIMEOUT_SECONDS = 10.0

_log = logging.getLogger(__name__)


class ReportAnswer(Enum):
    """The gateway's answer to the report."""

    OK = "ok"
    REJECTED = "rejected"
    """No launch waits for this kernel."""
    UNANSWERED = "unanswered"


class UntrustedPeerError(Exception):
    """The peer does not hold the expected key; nothing was sent to it."""


async def send_report(
    address: str,
    public_key: str,
    make_report: Callable[[], Mapping[str, Any]],
    timeout: float,  # noqa: ASYNC109
) -> ReportAnswer:
    """Send the report, with retries, until it is answered or `timeout` seconds have passed.

    It is made anew each time, when the peer is connected and known to be the gateway.
    """
    deadline = asyncio.get_running_loop().time() + timeout
    backoff = FIRST_BACKOFF_SECONDS
    while True:
        remaining = deadline - asyncio.get_running_loop().time()
        if remaining <= 0:
            return ReportAnswer.UNANSWERED
        try:
            return await asyncio.wait_for(
                _exchange(address, public_key, make_report),
                min(remaining, EXCHANGE_TIMEOUT_SECONDS),
            )
        except (
            OSError,
            ValueError,
            asyncio.TimeoutError,
            UntrustedPeerError,
            CertificateError,
        ) as exc:
            _log.warning("the report to %s failed: %s", address, exc or type(exc).__name__)
        await asyncio.sleep(min(backoff, max(0.0, deadline - asyncio.get_running_loop().time())))
        backoff = min(2 * backoff, MAX_BACKOFF_SECONDS)


async def _exchange(
    address: str, public_key: str, make_report: Callable[[], Mapping[str, Any]]
) -> ReportAnswer:
    host, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The handshake proves that the peer holds the key of its certificate; that key is compared
    # below, which replaces all other checks.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context)
    try:
        certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        expected = base64.b64decode(public_key)
        if not hmac.compare_digest(subject_public_key_info(certificate), expected):
            raise UntrustedPeerError("the peer does not hold PUBLIC_KEY")
        writer.write(json.dumps(make_report()).encode() + b"\n")
        await writer.drain()
        answer = json.loads(await reader.readline())
        return ReportAnswer(answer["status"] if isinstance(answer, dict) else None)
    except KeyError as exc:
        raise ValueError("the answer has no status") from exc
    finally:
        writer.close()
