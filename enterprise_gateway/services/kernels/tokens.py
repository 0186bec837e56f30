"""The tokens of kernel agents: derived, so that nobody has to store them."""

import hashlib
import hmac


def derive_agent_token(cluster_secret: bytes, kernel_id: str) -> str:
    """Return the bearer token of a kernel's agent: HMAC-SHA256 of the kernel id, in hexadecimal."""
    return hmac.new(cluster_secret, kernel_id.encode(), hashlib.sha256).hexdigest()
