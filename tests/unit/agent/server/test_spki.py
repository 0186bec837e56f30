"""The public key in a certificate."""

import pytest

from kernel_agent.server.spki import CertificateError, subject_public_key_info


@pytest.mark.parametrize(
    "data", [b"", b"0", b"\x30\x80", b"\x31\x00", b"\x30\x03\x30\x01\x02", b"\x30" * 40]
)
def test_malformed_certificate_is_an_error(data: bytes) -> None:
    """Arbitrary bytes are no certificate, and nothing worse."""
    with pytest.raises(CertificateError):
        subject_public_key_info(data)
