"""CORS headers, and the checks of `Origin` and `Host` (WHATWG Fetch, section 3.2). Pure."""

import ipaddress
from collections.abc import Collection, Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from enterprise_gateway.settings import AccessSettings

_HEADERS = (
    ("Access-Control-Allow-Credentials", "allow_credentials"),
    ("Access-Control-Allow-Headers", "allow_headers"),
    ("Access-Control-Allow-Methods", "allow_methods"),
    ("Access-Control-Allow-Origin", "allow_origin"),
    ("Access-Control-Expose-Headers", "expose_headers"),
    ("Access-Control-Max-Age", "max_age"),
)


def cors_headers(access: AccessSettings) -> dict[str, str]:
    """Return the headers that the settings ask for, verbatim."""
    return {header: value for header, name in _HEADERS if (value := getattr(access, name))}


def is_origin_allowed(headers: Mapping[str, str], allow_origin: str) -> bool:
    """Return whether a request comes from an origin that may use the gateway.

    These are the gateway's own host, `allow_origin`, and clients that are no browser and so send no
    `Origin`.
    """
    origin = headers.get("Origin")
    if allow_origin == "*" or origin is None:
        return True
    if allow_origin and origin == allow_origin.rstrip("/"):
        return True
    try:
        netloc = urlsplit(origin.lower()).netloc
    except ValueError:  # such as http://[bad
        return False
    return bool(netloc) and netloc == headers.get("Host", "").lower()


def is_loopback(ip: str) -> bool:
    """Return whether only its own machine reaches a server that listens on this address."""
    try:
        return ipaddress.ip_address(ip).is_loopback
    except ValueError:
        return ip.lower() == "localhost"


def is_host_local(host: str, names: Collection[str]) -> bool:
    """Return whether a request's `Host` rules out DNS rebinding.

    Another site may have its own name resolve to this machine; the browser then takes the gateway
    for that site's server. This is jupyter_server's `check_host`.

    Args:
        host: The header's value, possibly with a port.
        names: The host names that are allowed besides IP addresses; `*` for all.
    """
    name = ""
    with suppress(ValueError):  # such as [bad
        name = urlsplit(f"//{host.lower()}").hostname or ""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "*" in names or name in {each.lower() for each in names}
    return True
