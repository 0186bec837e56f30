"""The rules of the gate that need no connection."""

import itertools
import ssl
from collections.abc import Mapping

import pytest
from multidict import CIMultiDict

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.settings import AccessSettings, ServerSettings
from enterprise_gateway.web.accesslog import scrub_path
from enterprise_gateway.web.authorization import Action, classify
from enterprise_gateway.web.cors import cors_headers, is_origin_allowed
from enterprise_gateway.web.server import ports_to_try
from enterprise_gateway.web.tls import make_ssl_context, names_host
from enterprise_gateway.web.xheaders import forwarded_remote, forwarded_scheme


def test_unset_cors_options_make_no_headers() -> None:
    """Without configuration there are no CORS headers."""
    assert cors_headers(AccessSettings()) == {}


def test_cors_options_are_sent_verbatim() -> None:
    """Each of the six options is the header's value."""
    access = AccessSettings(
        allow_credentials="a", allow_headers="b", allow_methods="c",
        allow_origin="d", expose_headers="e", max_age="f",
    )  # fmt: skip
    assert cors_headers(access) == {
        "Access-Control-Allow-Credentials": "a",
        "Access-Control-Allow-Headers": "b",
        "Access-Control-Allow-Methods": "c",
        "Access-Control-Allow-Origin": "d",
        "Access-Control-Expose-Headers": "e",
        "Access-Control-Max-Age": "f",
    }


@pytest.mark.parametrize(
    ("origin", "allow_origin", "expected"),
    [
        (None, "", True),
        ("http://here:8888", "", True),
        ("https://HERE:8888", "", True),
        ("http://here", "", False),
        ("http://here:88889", "", False),
        ("http://here:8888.evil", "", False),
        ("null", "", False),
        ("http://there", "", False),
        ("http://there", "*", True),
        ("http://there", "http://there", True),
        ("http://there", "http://there/", True),
        ("http://there.evil", "http://there", False),
        ("http://evil/http://there", "http://there", False),
        ("http://[bad", "", False),
    ],
)
def test_origin_is_allowed_if_it_is_ours_or_named(
    origin: str | None, allow_origin: str, *, expected: bool
) -> None:
    """Pages of the gateway's own host and of allow_origin may ask, nobody who looks like them."""
    headers = CIMultiDict({"host": "here:8888"} | ({"origin": origin} if origin else {}))
    assert is_origin_allowed(headers, allow_origin) is expected


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
    """Alternative names count, the common name only where there are none, `*` is one label."""
    assert names_host(certificate, host) is expected


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/api", (Action.READ, "api")),
        ("GET", "/api/status", (Action.READ, "api")),
        ("PATCH", "/api/me", (Action.WRITE, "api")),
        ("GET", "/api/kernels", (Action.READ, "kernels")),
        ("HEAD", "/api/kernels/{id}", (Action.READ, "kernels")),
        ("POST", "/api/kernels", (Action.WRITE, "kernels")),
        ("DELETE", "/api/kernels/{id}", (Action.WRITE, "kernels")),
        ("POST", "/api/kernels/{id}/interrupt", (Action.WRITE, "kernels")),
        ("GET", "/api/kernels/{id}/channels", (Action.EXECUTE, "kernels")),
        ("GET", "/api/kernelspecs/{name}", (Action.READ, "kernelspecs")),
        ("GET", "/kernelspecs/{name}/{path}", (Action.READ, "kernelspecs")),
        ("PATCH", "/api/sessions/{id}", (Action.WRITE, "sessions")),
        ("GET", "/metrics", (Action.READ, "api")),
    ],
)
def test_request_is_an_action_on_a_resource(
    method: str, path: str, expected: tuple[Action, str]
) -> None:
    """Authorizers get the words that jupyter_server uses."""
    assert classify(method, path) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/kernels", "/api/kernels"),
        ("/api?token=secret", "/api"),
        ("/t/secret/api", "/t/<token>/api"),
        ("/base/t/secret/api/kernels?x=1", "/base/t/<token>/api/kernels"),
        ("/t/secret", "/t/<token>"),
        ("/%74/secret/api", "/t/<token>/api"),
        ("/part/of", "/part/of"),
    ],
)
def test_logged_path_holds_no_token(path: str, expected: str) -> None:
    """Neither a query nor the path-prefix form ends up in the log."""
    assert scrub_path(path) == expected


def test_ports_are_tried_in_sequence_then_near_by() -> None:
    """As Jupyter servers do: five in a row, then random ones around."""
    ports = list(ports_to_try(8888, 50))
    assert len(ports) == 51
    assert ports[:5] == [8888, 8889, 8890, 8891, 8892]
    assert all(8888 - 102 <= port <= 8888 + 102 for port in ports)


@pytest.mark.parametrize(("retries", "expected"), [(0, [80]), (1, [80, 81]), (3, [80, 81, 82, 83])])
def test_few_retries_try_few_ports(retries: int, expected: list[int]) -> None:
    """The number of retries is exact."""
    assert list(ports_to_try(80, retries)) == expected


def test_ports_stay_valid_at_both_ends() -> None:
    """No port outside 1 to 65535 is tried."""
    tried = itertools.chain(ports_to_try(2, 50), ports_to_try(65535, 50))
    assert all(1 <= port <= 65535 for port in tried)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"X-Real-IP": "10.0.0.1"}, "10.0.0.1"),
        ({"X-Forwarded-For": "1.1.1.1, 10.0.0.2"}, "10.0.0.2"),
        ({"X-Real-IP": "10.0.0.1", "X-Forwarded-For": "10.0.0.2"}, "10.0.0.1"),
        ({"X-Real-IP": "::1"}, "::1"),
        ({"X-Real-IP": "evil\tname"}, None),
    ],
)
def test_proxy_names_the_client(headers: dict[str, str], expected: str | None) -> None:
    """X-Real-IP counts, else the last of X-Forwarded-For; nonsense does not."""
    assert forwarded_remote(headers) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"X-Scheme": "HTTPS"}, "https"),
        ({"X-Forwarded-Proto": "http, https"}, "https"),
        ({"X-Scheme": "gopher"}, None),
    ],
)
def test_proxy_names_the_scheme(headers: dict[str, str], expected: str | None) -> None:
    """X-Scheme counts, else the last of X-Forwarded-Proto; other schemes do not."""
    assert forwarded_scheme(headers) == expected


def test_no_tls_files_mean_plain_http() -> None:
    """Without TLS options there is no TLS."""
    assert make_ssl_context(ServerSettings()) is None


@pytest.mark.parametrize(
    "server",
    [
        ServerSettings(keyfile="/k.pem"),
        ServerSettings(client_ca="/ca.pem"),
        ServerSettings(certfile="/does/not/exist.pem"),
        ServerSettings(certfile="/c.pem", ssl_version=int(ssl.PROTOCOL_TLSv1_2) - 1),
    ],
)
def test_unusable_tls_options_are_a_configuration_error(server: ServerSettings) -> None:
    """The gateway never falls back to plain HTTP or an old TLS."""
    with pytest.raises(ConfigurationError):
        make_ssl_context(server)
