"""Extracts the public key of an X.509 certificate (RFC 5280 section 4.1). Pure.

The standard library has no function for it.
"""

from __future__ import annotations

from typing import Tuple

SEQUENCE = 0x30
EXPLICIT_VERSION = 0xA0
FIELDS_BEFORE_KEY = 5
"""serialNumber, signature, issuer, validity, subject."""


class CertificateError(ValueError):
    """The bytes are not a certificate."""


def subject_public_key_info(certificate: bytes) -> bytes:
    """Return the DER encoding of the certificate's SubjectPublicKeyInfo.

    Raises:
        CertificateError: the certificate is malformed.
    """
    outer, _ = _enter(certificate, 0)
    position, _ = _enter(certificate, outer)
    if certificate[position : position + 1] == bytes([EXPLICIT_VERSION]):
        position = _end(certificate, position)
    for _ in range(FIELDS_BEFORE_KEY):
        position = _end(certificate, position)
    _enter(certificate, position)
    return certificate[position : _end(certificate, position)]


def _enter(data: bytes, position: int) -> Tuple[int, int]:
    """Return start and end of the content of the SEQUENCE at a position."""
    if data[position : position + 1] != bytes([SEQUENCE]):
        raise CertificateError("not a certificate")
    return _content(data, position)


def _end(data: bytes, position: int) -> int:
    return _content(data, position)[1]


def _content(data: bytes, position: int) -> Tuple[int, int]:
    """Return where the content of the element at a position starts and ends."""
    if position + 2 > len(data):
        raise CertificateError("truncated certificate")
    length = data[position + 1]
    start = position + 2
    if length & 0x80:
        count = length & 0x7F
        length = int.from_bytes(data[start : start + count], "big")
        start += count
    if start + length > len(data):
        raise CertificateError("truncated certificate")
    return start, start + length
