"""Signatures of webhooks, as in Standard Webhooks 1.0.0 (standardwebhooks.com). Pure."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

PREFIX = "whsec_"
MIN_KEY_BYTES = 24
MAX_KEY_BYTES = 64


def read_key(text: str) -> bytes:
    """Return the key in the text of a secret: base64 of 24 to 64 bytes, `whsec_` before it or not.

    Raises:
        ValueError: it has another form; the message does not show it.
    """
    try:
        key = base64.b64decode(text.strip().removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("it is not base64") from None
    if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        raise ValueError(f"it is not base64 of {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes")
    return key


def signed_headers(key: bytes, event_id: str, now: int, body: bytes) -> Mapping[str, str]:
    """Return the headers of a request that carries an event.

    Args:
        key: what sender and receiver share.
        event_id: the same for each attempt; it has no full stop.
        now: seconds since the epoch. The receiver refuses a request that is minutes older.
        body: that of the request.
    """
    signed = b".".join((event_id.encode(), str(now).encode(), body))
    signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(now),
        "webhook-signature": f"v1,{signature}",
    }
