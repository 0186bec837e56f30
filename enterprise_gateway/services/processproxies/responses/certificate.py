"""A self-signed certificate for the response listener, created in a process of its own.

Kernel agents trust the key that they were given at launch, so names and dates in the certificate
have no meaning. Creating an RSA-2048 key takes up to half a second of CPU time. Run as a program,
this module does it outside the gateway and writes one line of JSON: `{"public_key": base64 of the
DER SubjectPublicKeyInfo, "pem": private key and certificate}`.
"""

import base64
import datetime as dt
import json
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

_KEY_BITS = 2048
_VALIDITY = dt.timedelta(days=36500)


def make_certificate() -> dict[str, str]:
    """Return the key pair as described above. The private key exists in memory only."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "enterprise-gateway")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + _VALIDITY)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    public_key = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return {"public_key": base64.b64encode(public_key).decode(), "pem": pem.decode()}


if __name__ == "__main__":
    json.dump(make_certificate(), sys.stdout)
