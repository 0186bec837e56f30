"""Reads what a proxy reports of the client, as tornado does with `xheaders`. Pure."""

import ipaddress
from collections.abc import Mapping

from enterprise_gateway.settings import ServerSettings


def is_trusted(server: ServerSettings, address: str) -> bool:
    """Return whether a peer is a proxy whose headers are trusted."""
    if not server.trust_xheaders:
        return False
    return not server.trusted_proxies or is_listed(server, address)


def is_listed(server: ServerSettings, address: str) -> bool:
    """Return whether a peer is one of `trusted_proxies`."""
    try:
        peer = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(peer in network for network in server.trusted_proxies)


def forwarded_remote(headers: Mapping[str, str]) -> str | None:
    """Return the client's address, None if there is none.

    `X-Real-IP` takes precedence over the last address of `X-Forwarded-For`.
    """
    forwarded = headers.get("X-Forwarded-For", "").rpartition(",")[2]
    text = headers.get("X-Real-IP", forwarded).strip()
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return None
    return text


def forwarded_scheme(headers: Mapping[str, str]) -> str | None:
    """Return the client's scheme, None if there is none.

    `X-Scheme` takes precedence over the last scheme of `X-Forwarded-Proto`.
    """
    forwarded = headers.get("X-Forwarded-Proto", "").rpartition(",")[2]
    text = headers.get("X-Scheme", forwarded).strip().lower()
    return text if text in {"http", "https"} else None
