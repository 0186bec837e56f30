"""RSA: what the agent makes is what a library takes, and the other way round."""

import os

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from kernel_agent.eg.rsa import (
    PrivateKey,
    RsaError,
    decrypt,
    generate_key,
    is_probable_prime,
    public_key_info,
)


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    """A key pair."""
    return generate_key()


def load(key: PrivateKey) -> rsa.RSAPublicKey:
    """Return the public half as a library reads it."""
    public = load_der_public_key(public_key_info(key))
    assert isinstance(public, rsa.RSAPublicKey)
    return public


def test_public_key_is_read_by_a_library() -> None:
    """1024 bits exactly, each time, and the same DER as the library writes."""
    for _ in range(10):
        key = generate_key()
        public = load(key)
        assert public.key_size == 1024
        assert public.public_numbers().n == key.modulus
        info = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert info == public_key_info(key)


def test_what_a_library_encrypted_is_decrypted(key: PrivateKey) -> None:
    """Messages of all lengths, an empty one too."""
    public = load(key)
    for size in (0, 1, 16, 117):
        message = os.urandom(size)
        assert decrypt(key, public.encrypt(message, padding.PKCS1v15())) == message


@pytest.mark.parametrize("size", [0, 127, 129])
def test_ciphertext_of_another_size_is_an_error(key: PrivateKey, size: int) -> None:
    """It has the size of the modulus."""
    with pytest.raises(RsaError):
        decrypt(key, bytes(size))


@pytest.mark.parametrize(
    "padded",
    [
        b"\0\1" + b"\xff" * 109 + b"\0" + bytes(16),  # a signature's padding
        b"\0\2" + b"\xff" * 126,  # no end
        b"\0\2" + b"\xff" * 7 + b"\0" + b"m" * 118,  # too short
    ],
)
def test_wrong_padding_is_an_error(key: PrivateKey, padded: bytes) -> None:
    """What another key encrypted looks like this."""
    assert len(padded) == 128
    number = pow(int.from_bytes(padded, "big"), 65537, key.modulus)
    with pytest.raises(RsaError):
        decrypt(key, number.to_bytes(128, "big"))


def test_number_beyond_the_modulus_is_an_error(key: PrivateKey) -> None:
    """RFC 8017 section 5.1.2, step 1."""
    with pytest.raises(RsaError):
        decrypt(key, b"\xff" * 128)


def test_primes_are_told_from_composites() -> None:
    """Carmichael numbers and products of two large primes included."""
    for prime in (5, 7, 104729, 2**127 - 1, 2**521 - 1):
        assert is_probable_prime(prime)
    for composite in (9, 561, 41041, 2**127 + 1, (2**61 - 1) * (2**89 - 1)):
        assert not is_probable_prime(composite)
