"""The user's name in the certificate of a client. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from enterprise_gateway.services.users import User
from enterprise_gateway.settings import IdentitySettings
from enterprise_gateway.web.access.identity.contract import Sender
from enterprise_gateway.web.access.identity.known_users import make_user

_ALTERNATIVES = {"dns": "DNS", "email": "email"}
"""Kinds of names (RFC 5280 section 4.2.1.6) as the `ssl` module spells them."""


class CertificateIdentity:
    """Knows users by certificates that an authority of `client_ca` has signed."""

    def __init__(self, settings: IdentitySettings) -> None:
        self._settings = settings

    def identify(self, sender: Sender) -> User | None:
        """Return the user whom the certificate names; it must have one name of the wanted kind."""
        if not sender.certificate:
            return None
        names = list(_names(sender.certificate, self._settings.certificate_username))
        if len(names) != 1:
            return None
        serial = sender.certificate.get("serialNumber", "")
        return make_user(self._settings, names[0], (), f"certificate:{serial}")


def _names(certificate: Mapping[str, Any], kind: str) -> Iterator[str]:
    if kind in _ALTERNATIVES:
        for found, value in certificate.get("subjectAltName", ()):
            if found == _ALTERNATIVES[kind]:
                yield value
        return
    for part in certificate.get("subject", ()):
        for key, value in part:
            if key == "commonName":
                yield value
