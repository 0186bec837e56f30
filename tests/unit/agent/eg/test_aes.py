"""AES-128 decryption."""

import os

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from kernel_agent.eg.aes import AesError, decrypt_ecb, remove_padding


@pytest.mark.parametrize(
    ("key", "plain", "encrypted"),
    [
        # FIPS 197, appendices C.1 and B
        (
            "000102030405060708090a0b0c0d0e0f",
            "00112233445566778899aabbccddeeff",
            "69c4e0d86a7b0430d8cdb78070b4c55a",
        ),
        (
            "2b7e151628aed2a6abf7158809cf4f3c",
            "3243f6a8885a308d313198a2e0370734",
            "3925841d02dc09fbdc118597196a0b32",
        ),
    ],
)
def test_block_is_decrypted_as_the_standard_says(key: str, plain: str, encrypted: str) -> None:
    """The test vectors of the standard."""
    assert decrypt_ecb(bytes.fromhex(key), bytes.fromhex(encrypted)).hex() == plain


def test_anything_that_a_library_encrypted_is_decrypted() -> None:
    """Random keys and data, several blocks."""
    for count in range(1, 30):
        key, plain = os.urandom(16), os.urandom(16 * count)
        encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305  # the subject
        assert decrypt_ecb(key, encryptor.update(plain) + encryptor.finalize()) == plain


@pytest.mark.parametrize("size", [0, 1, 15, 17])
def test_partial_blocks_are_an_error(size: int) -> None:
    """ECB has whole blocks only."""
    with pytest.raises(AesError):
        decrypt_ecb(bytes(16), bytes(size))


def test_key_of_another_length_is_an_error() -> None:
    """Only AES-128 is known."""
    with pytest.raises(AesError):
        decrypt_ecb(bytes(24), bytes(16))


def test_padding_is_removed() -> None:
    """One to sixteen bytes of their own number."""
    assert remove_padding(b"abc" + bytes([13]) * 13) == b"abc"
    assert remove_padding(bytes([16]) * 16) == b""


@pytest.mark.parametrize("data", [b"", b"abc\0", b"abc\3", b"\2\1\2", bytes([17]) * 32])
def test_wrong_padding_is_an_error(data: bytes) -> None:
    """It tells that the key was another one."""
    with pytest.raises(AesError):
        remove_padding(data)
