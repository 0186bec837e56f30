"""Cross-origin requests: the six headers of Enterprise Gateway, and the check of `Origin`.

WHATWG Fetch, section 3.2. Pure.
"""

from collections.abc import Mapping
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
    """Whether a request comes from a page that may ask.

    Pages of the gateway's own host may, those of `allow_origin`, and what is not a page and so
    sends no Origin.
    """
    origin = headers.get("Origin")
    host = headers.get("Host")
    if allow_origin == "*" or origin is None or host is None:
        return True
    try:
        netloc = urlsplit(origin.lower()).netloc
    except ValueError:  # such as http://[bad
        return False
    return origin == allow_origin.rstrip("/") or netloc == host.lower()
