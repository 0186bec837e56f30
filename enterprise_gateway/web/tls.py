"""TLS: the server's context, and the names in a client's certificate."""

import ssl
from collections.abc import Mapping
from typing import Any

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.settings import ServerSettings

_ANY_VERSION = (None, ssl.PROTOCOL_TLS, ssl.PROTOCOL_TLS_SERVER)


def make_ssl_context(server: ServerSettings) -> ssl.SSLContext | None:
    """Make the context that the settings ask for; None for plain HTTP.

    Raises:
        ConfigurationError: A file cannot be read, or the version is none that is offered.
    """
    if not (server.certfile or server.keyfile or server.client_ca):
        return None
    if not server.certfile:
        raise ConfigurationError("TLS needs a certfile.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if server.ssl_version == ssl.PROTOCOL_TLSv1_2:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    elif server.ssl_version not in _ANY_VERSION:
        raise ConfigurationError(
            f"ssl_version {server.ssl_version} is not offered; 5 is TLS 1.2, none is that or later."
        )
    try:
        context.load_cert_chain(server.certfile, server.keyfile or None)
        if server.client_ca:
            context.load_verify_locations(cafile=server.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as exc:
        raise ConfigurationError(f"The TLS files cannot be used: {exc}.") from exc
    return context


def names_host(certificate: Mapping[str, Any] | None, host: str) -> bool:
    """Whether a peer's certificate is for a host (RFC 6125 section 6.4).

    Args:
        certificate: As `SSLSocket.getpeercert` returns it.
        host: A DNS name. A `*` in the certificate stands for exactly one whole left-most label.
    """
    if not certificate:
        return False
    alternatives = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    names = alternatives or [
        value
        for part in certificate.get("subject", ())
        for key, value in part
        if key == "commonName"
    ]
    return any(_matches(name.lower(), host.lower()) for name in names)


def _matches(pattern: str, host: str) -> bool:
    if pattern.startswith("*."):
        _, _, rest = host.partition(".")
        return bool(rest) and rest == pattern.removeprefix("*.")
    return pattern == host
