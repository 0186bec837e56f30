"""Hands a client's WebSocket over to the load balancer, which connects it to the agent. Pure.

The load balancer asks with the client's upgrade request and the secret that it shares with the
gateways. It is told where the agent is and what the agent expects; etc/docker/proxy/channels.lua
does what it says. The gateway has no part in the WebSocket then.
"""

import hmac
from collections.abc import Mapping

from enterprise_gateway.errors import ForbiddenError
from enterprise_gateway.services.processproxies.contract import AgentEndpoint

SECRET_HEADER = "X-EG-Balancer"  # noqa: S105 - the name of a header
"""In requests of the load balancer, which removes it from those of its clients."""
ADDRESS_HEADER = "X-EG-Agent-Address"
TARGET_HEADER = "X-EG-Agent-Target"
AUTHORIZATION_HEADER = "X-EG-Agent-Authorization"


def is_balancer(headers: Mapping[str, str], secret: str) -> bool:
    """Say whether a request is the load balancer's, which asks for an agent.

    Args:
        headers: the request's.
        secret: the one that balancer and gateways share; "" if they share none.

    Raises:
        ForbiddenError: it says so, with another secret.
    """
    given = headers.get(SECRET_HEADER)
    if given is None:
        return False
    if not secret or not hmac.compare_digest(given.encode("utf-8", "replace"), secret.encode()):
        raise ForbiddenError(
            "The load balancer's secret is not that of this gateway. Give both the same file in "
            "EG_BALANCER_SECRET_FILE."
        )
    return True


def describe_agent(endpoint: AgentEndpoint, target: str, token: str) -> dict[str, str]:
    """Return the headers that tell the load balancer how to reach an agent.

    An agent at a unix socket is out of its reach, and it cannot tell whether one that speaks TLS is
    the kernel's: without headers it passes the request on as any other, and the gateway splices.

    Args:
        endpoint: where the agent listens.
        target: of the upgrade request: path and query.
        token: the agent's.
    """
    if endpoint.unix_path or endpoint.public_key:
        return {}
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return {
        ADDRESS_HEADER: f"{host}:{endpoint.port}",
        TARGET_HEADER: target,
        AUTHORIZATION_HEADER: f"Bearer {token}",
    }
