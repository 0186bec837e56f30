"""The server's TLS context, and the host names in a client's certificate."""

import ssl
from collections.abc import Mapping
from typing import Any

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.settings import ServerSettings

_ANY_VERSION = (None, ssl.PROTOCOL_TLS, ssl.PROTOCOL_TLS_SERVER)


def make_ssl_context(server: ServerSettings) -> ssl.SSLContext | None:
    """Make the TLS context of the settings, None for plain HTTP.

    Raises:
        ConfigurationError: A file cannot be loaded, or the version is not supported.
    """
    if not (server.certfile or server.keyfile or server.client_ca):
        return None
    if not server.certfile:
        raise ConfigurationError("TLS needs a certificate: set certfile (EG_CERTFILE).")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if server.ssl_version == ssl.PROTOCOL_TLSv1_2:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    elif server.ssl_version not in _ANY_VERSION:
        raise ConfigurationError(
            f"ssl_version {server.ssl_version} is not supported. Set 5 for TLS 1.2 "
            "only, or leave it unset for TLS 1.2 and later."
        )
    try:
        context.load_cert_chain(server.certfile, server.keyfile or None)
        if server.client_ca:
            context.load_verify_locations(cafile=server.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError; ValueError: a NUL
        files = ", ".join(filter(None, (server.certfile, server.keyfile, server.client_ca)))
        raise ConfigurationError(f"The TLS files {files!r} cannot be loaded: {exc}.") from exc
    return context


def names_host(certificate: Mapping[str, Any] | None, host: str) -> bool:
    """Return whether a peer's certificate is for a host (RFC 6125 section 6.4).

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
