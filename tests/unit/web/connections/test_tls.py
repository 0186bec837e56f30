"""TLS options, and the host names in certificates."""

import ssl
from collections.abc import Mapping

import pytest

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.settings import ServerSettings
from enterprise_gateway.web.connections.tls import make_ssl_context, names_host

CERTIFICATE_WITH_NAMES = {
    "subject": ((("commonName", "ignored.example"),),),
    "subjectAltName": (("DNS", "proxy.example"), ("DNS", "*.pods.example"), ("IP Address", "::1")),
}


CERTIFICATE_WITH_COMMON_NAME = {"subject": ((("commonName", "proxy.example"),),)}


@pytest.mark.parametrize(
    ("certificate", "host", "expected"),
    [
        (CERTIFICATE_WITH_NAMES, "proxy.example", True),
        (CERTIFICATE_WITH_NAMES, "PROXY.example", True),
        (CERTIFICATE_WITH_NAMES, "ignored.example", False),
        (CERTIFICATE_WITH_NAMES, "a.pods.example", True),
        (CERTIFICATE_WITH_NAMES, "a.b.pods.example", False),
        (CERTIFICATE_WITH_NAMES, "pods.example", False),
        (CERTIFICATE_WITH_NAMES, "x.proxy.example", False),
        (CERTIFICATE_WITH_COMMON_NAME, "proxy.example", True),
        (CERTIFICATE_WITH_COMMON_NAME, "other.example", False),
        ({}, "proxy.example", False),
        (None, "proxy.example", False),
    ],
)
def test_certificate_names_a_host(
    certificate: Mapping[str, object] | None, host: str, *, expected: bool
) -> None:
    """Alternative names precede the common name; `*` stands for one label."""
    assert names_host(certificate, host) is expected


def test_no_tls_files_mean_plain_http() -> None:
    """Without TLS options there is no TLS."""
    assert make_ssl_context(ServerSettings()) is None


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (ServerSettings(keyfile="/k.pem"), "set certfile"),
        (ServerSettings(client_ca="/ca.pem"), "set certfile"),
        (
            ServerSettings(certfile="/missing.pem"),
            "'/missing.pem' cannot be loaded: .*No such file",
        ),
        (ServerSettings(certfile="/a\0b"), r"'/a\\x00b' cannot be loaded: embedded null byte"),
        (
            ServerSettings(certfile="/c.pem", ssl_version=int(ssl.PROTOCOL_TLSv1_2) - 1),
            "ssl_version 4 is not supported. Set 5 for TLS 1.2",
        ),
    ],
)
def test_unusable_tls_options_are_a_configuration_error(
    server: ServerSettings, message: str
) -> None:
    """The gateway never falls back to plain HTTP or an old TLS, and names the option at fault."""
    with pytest.raises(ConfigurationError, match=message):
        make_ssl_context(server)
