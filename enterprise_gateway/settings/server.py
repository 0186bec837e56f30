"""Settings of the HTTP server."""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from enterprise_gateway.settings import parse
from enterprise_gateway.settings.option import option


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where and how the HTTP server listens. Read at the start only."""

    ip: str = option(
        "IP address to listen on, or a network such as 10.0.1.0/24: the address that this machine"
        " or container has in it.",
        default="127.0.0.1",
        parse=parse.listen_address,
        env=("EG_IP", "KG_IP"),
    )
    port: int = option(
        "Port to listen on; 0 for any free one.",
        default=8888,
        low=0,
        high=65535,
        env=("EG_PORT", "KG_PORT"),
    )
    port_retries: int = option(
        "Number of further ports to try if the port is in use.",
        default=50,
        low=0,
        env=("EG_PORT_RETRIES", "KG_PORT_RETRIES"),
    )
    base_url: str = option(
        "URL path under which all resources are served.",
        default="/",
        parse=parse.url_path,
        env=("EG_BASE_URL", "KG_BASE_URL"),
    )
    """Begins and ends with a slash."""
    certfile: str = option(
        "Path of the server's TLS certificate. By default the server speaks plain HTTP.",
        default="",
        takes=str | None,
        parse=parse.text_or_empty,
        env=("EG_CERTFILE", "KG_CERTFILE"),
    )
    keyfile: str = option(
        "Path of the certificate's private key.",
        default="",
        takes=str | None,
        parse=parse.text_or_empty,
        env=("EG_KEYFILE", "KG_KEYFILE"),
    )
    client_ca: str = option(
        "Path of a certificate authority's certificate; if set, clients must present a certificate"
        " signed by this authority.",
        default="",
        takes=str | None,
        parse=parse.text_or_empty,
        env=("EG_CLIENT_CA", "KG_CLIENT_CA"),
    )
    ssl_version: int | None = option(
        "Number of an `ssl.PROTOCOL_*` constant. 5 (`PROTOCOL_TLSv1_2`) allows TLS 1.2 only; by"
        " default TLS 1.2 and later are negotiated. Versions before 1.2 are refused.",
        default=None,
        takes=int | None,
        env=("EG_SSL_VERSION", "KG_SSL_VERSION"),
    )
    authorized_origin: str = option(
        "Host name that the client's certificate must contain, such as 'reverse.proxy.net'; other"
        " requests get 403. Requires TLS and `client_ca`. By default every name is accepted.",
        default="",
        env=("EG_AUTHORIZED_ORIGIN",),
    )
    trust_xheaders: bool = option(
        "Take the client's address from X-Real-IP or X-Forwarded-For, and the scheme from X-Scheme"
        " or X-Forwarded-Proto. Set this only behind a proxy that sets these headers.",
        default=False,
        casts=True,
        env=("EG_TRUST_XHEADERS", "KG_TRUST_XHEADERS"),
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = option(
        "Addresses or networks, such as '10.0.1.0/24', of the proxies whose headers are trusted if"
        " `trust_xheaders` is set, by default those of every peer; and of those that sign users in"
        " (`proxy_user_header`).",
        default=(),
        takes=list[str],
        parse=parse.networks,
        env=("EG_TRUSTED_PROXIES",),
    )
    local_hostnames: frozenset[str] = option(
        "Host names, besides IP addresses, by which clients may reach a gateway that has no"
        " authentication and listens on a loopback address; '*' for any.",
        default=("localhost",),
        takes=list[str],
        parse=parse.name_set,
        env=("EG_LOCAL_HOSTNAMES",),
    )
    audit_log: str = option(
        "File that the audit log is appended to: who did what to which kernel from where, one JSON"
        " object a line; '/dev/stdout' for the standard output. By default there is none.",
        default="",
        env=("EG_AUDIT_LOG",),
    )
    max_body_bytes: int = option(
        "Largest request body accepted, in bytes; requests with a larger one get 413.",
        default=8 * 1024 * 1024,
        low=1024,
        env=("EG_MAX_BODY_BYTES",),
    )
