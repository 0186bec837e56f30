"""What an agent is authorized by, and the key by which it proves to be its kernel's."""

import base64

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from enterprise_gateway.services.kernels.planning.agent_credentials import (
    derive_certificate,
    derive_public_key,
)

SECRET = b"s" * 32
KERNEL_ID = "0" * 36


def test_every_replica_knows_the_key_of_the_certificate() -> None:
    """The certificate is signed anew each time, but its key is the same."""
    pem = base64.b64decode(derive_certificate(SECRET, KERNEL_ID, "tls-1"))
    private = load_pem_private_key(pem, password=None).public_key()
    found = x509.load_pem_x509_certificate(pem).public_key()
    public_key = derive_public_key(SECRET, KERNEL_ID, "tls-1")
    for key in (private, found):
        encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert encoded == public_key


def test_each_launch_and_cluster_has_a_key_of_its_own() -> None:
    """A key that leaked proves nothing about another kernel, launch or cluster."""
    keys = {
        derive_public_key(SECRET, KERNEL_ID, "tls-1"),
        derive_public_key(SECRET, KERNEL_ID, "tls-2"),
        derive_public_key(SECRET, "1" * 36, "tls-1"),
        derive_public_key(b"t" * 32, KERNEL_ID, "tls-1"),
    }
    assert len(keys) == 4
