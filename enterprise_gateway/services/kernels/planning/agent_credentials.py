"""What an agent is authorized by, and the key by which it proves to be its kernel's. Pure.

Both derive from the cluster secret, so every replica knows them and none has to store or share
them. Names and dates of an agent's certificate mean nothing: its key is compared.
"""

import base64
import hmac
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_CURVE = ec.SECP256R1()
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the group of P-256: FIPS 186-4, D.1.2.3."""
_SINCE = datetime(2000, 1, 1, tzinfo=UTC)
_UNTIL = datetime(2999, 1, 1, tzinfo=UTC)
_MARK = "tls-"


def derive_agent_token(cluster_secret: bytes, kernel_id: str, launch_id: str = "") -> str:
    """Return the bearer token of a kernel's agent: HMAC-SHA256, in hexadecimal.

    Args:
        cluster_secret: the secret that all replicas share.
        kernel_id: the kernel.
        launch_id: the launch, "" for a workload that carries none.
    """
    message = f"{kernel_id}\0{launch_id}" if launch_id else kernel_id
    return hmac.digest(cluster_secret, message.encode(), "sha256").hex()


def mark_launch(launch_id: str) -> str:
    """Return the id of a launch whose agent speaks TLS; workloads carry it in a label."""
    return f"{_MARK}{launch_id}"


def is_marked(launch_id: str) -> bool:
    """Return whether the agent of a launch speaks TLS."""
    return launch_id.startswith(_MARK)


def derive_certificate(cluster_secret: bytes, kernel_id: str, launch_id: str) -> str:
    """Return `EG_AGENT_CERTIFICATE`: base64 of a private key and its certificate, both PEM."""
    key = _derive_key(cluster_secret, kernel_id, launch_id)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kernel-agent")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(_SINCE)
        .not_valid_after(_UNTIL)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    return base64.b64encode(pem).decode()


def derive_public_key(cluster_secret: bytes, kernel_id: str, launch_id: str) -> bytes:
    """Return the DER of the `SubjectPublicKeyInfo` that the agent must prove to hold."""
    key = _derive_key(cluster_secret, kernel_id, launch_id).public_key()
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _derive_key(
    cluster_secret: bytes, kernel_id: str, launch_id: str
) -> ec.EllipticCurvePrivateKey:
    """Return a key: 512 bits of HMAC, taken modulo the order so that no key is likelier."""
    message = f"{kernel_id}\0{launch_id}\0certificate".encode()
    number = int.from_bytes(hmac.digest(cluster_secret, message, "sha512"), "big")
    return ec.derive_private_key(number % (_ORDER - 1) + 1, _CURVE)
