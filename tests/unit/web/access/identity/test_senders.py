"""Users known by what comes with each request: certificates, and headers of proxies."""

from ipaddress import ip_network

import pytest
from multidict import CIMultiDict

from enterprise_gateway.services.users import Scope
from enterprise_gateway.settings import IdentitySettings, ServerSettings
from enterprise_gateway.web.access.identity.certificate import CertificateIdentity
from enterprise_gateway.web.access.identity.contract import Sender
from enterprise_gateway.web.access.identity.proxy_header import ProxyHeaderIdentity

PROXY = "10.0.1.7"
CERTIFICATE = {
    "subject": ((("organizationName", "site"),), (("commonName", "ann"),)),
    "subjectAltName": (("DNS", "lab.example"), ("email", "ann@example.org"), ("URI", "x:y")),
    "serialNumber": "0A1B",
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [("common_name", "ann"), ("dns", "lab.example"), ("email", "ann@example.org")],
)
def test_certificate_names_its_user(kind: str, name: str) -> None:
    """By the name that the operator has chosen."""
    identity = CertificateIdentity(IdentitySettings(certificate_username=kind))
    user = identity.identify(Sender("", CERTIFICATE, CIMultiDict()))
    assert user is not None
    assert (user.username, user.credential) == (name, "certificate:0A1B")


@pytest.mark.parametrize(
    "certificate",
    [
        None,
        {},
        {"subject": ()},
        {"subject": ((("commonName", "ann"),), (("commonName", "root"),))},
        {"subject": ((("commonName", "*"),),)},
        {"subject": ((("commonName", ""),),)},
        {"subject": ((("commonName", "a\nb"),),)},
        {"subject": ((("commonName", "enterprise-gateway-pool"),),)},
        {"subjectAltName": (("DNS", "ann"),)},
    ],
)
def test_certificate_without_one_usable_name_names_no_user(
    certificate: dict[str, object] | None,
) -> None:
    """Two names, or one that cannot be a user's."""
    identity = CertificateIdentity(IdentitySettings(certificate_username="common_name"))
    assert identity.identify(Sender("", certificate, CIMultiDict())) is None


@pytest.mark.parametrize(
    ("address", "headers", "name"),
    [
        (PROXY, [("x-forwarded-user", "ann")], "ann"),
        (PROXY, [("X-Forwarded-User", " josé ")], "josé"),
        ("10.0.2.7", [("X-Forwarded-User", "ann")], None),
        ("", [("X-Forwarded-User", "ann")], None),
        ("localhost", [("X-Forwarded-User", "ann")], None),
        (PROXY, [], None),
        (PROXY, [("X-Forwarded-User", "")], None),
        (PROXY, [("X-Forwarded-User", "ann"), ("X-Forwarded-User", "root")], None),
        (PROXY, [("X-Forwarded-User", "ann"), ("x-forwarded-user", "ann")], None),
        (PROXY, [("X_Forwarded_User", "ann")], None),
        (PROXY, [("X-Forwarded-User", "*")], None),
        (PROXY, [("X-Forwarded-User", "\udcff")], None),
        (PROXY, [("X-Forwarded-User", "a" * 256)], None),
    ],
)
def test_header_counts_once_and_from_a_listed_proxy(
    address: str, headers: list[tuple[str, str]], name: str | None
) -> None:
    """Any other peer sends it in vain."""
    server = ServerSettings(trusted_proxies=(ip_network("10.0.1.0/24"),))
    identity = ProxyHeaderIdentity(IdentitySettings(proxy_user_header="X-Forwarded-User"), server)
    user = identity.identify(Sender(address, None, CIMultiDict(headers)))
    assert (user.username if user else None) == name


def test_no_list_trusts_no_proxy() -> None:
    """Unlike `trust_xheaders`, which then trusts every peer."""
    server = ServerSettings(trust_xheaders=True)
    identity = ProxyHeaderIdentity(IdentitySettings(proxy_user_header="X-User"), server)
    assert identity.identify(Sender(PROXY, None, CIMultiDict({"X-User": "ann"}))) is None


def test_settings_give_rights() -> None:
    """To admins by name, and to services that act for others."""
    server = ServerSettings(trusted_proxies=(ip_network(PROXY),))
    settings = IdentitySettings(
        proxy_user_header="X-User",
        admin_users=frozenset({"root"}),
        acts_for=frozenset({("lab", "ann"), ("lab", "bob"), ("other", "*")}),
    )
    identity = ProxyHeaderIdentity(settings, server)

    def known(name: str) -> tuple[set[str], set[str]]:
        user = identity.identify(Sender(PROXY, None, CIMultiDict({"X-User": name})))
        assert user is not None
        return set(user.scopes), set(user.acts_for)

    assert known("root") == ({Scope.KERNELS, Scope.ADMIN}, set())
    assert known("lab") == ({Scope.KERNELS}, {"ann", "bob"})
    assert known("ann") == ({Scope.KERNELS}, set())
