"""An RSA key pair, its public half in DER, and RSAES-PKCS1-v1_5 decryption (RFC 8017).

Only for the key exchange of `payload.py`: Enterprise Gateway's launchers require RSA, and the
Python that runs the agent may lack every cryptography package. The modulus has 1024 bits, as that
of Enterprise Gateway's own key, and three primes (RFC 8017 section 3.1) instead of two, which are
found in a third of the time, since the kernel's start waits for them. Decryption does not hide its
timing.
"""

from __future__ import annotations

import math
import os
from typing import NamedTuple

PRIME_BITS = (341, 341, 342)
"""The modulus has their sum: the three highest bits of every prime are set, and (7/8)**3 > 1/2."""
PUBLIC_EXPONENT = 65537
MILLER_RABIN_ROUNDS = 4
"""A random odd number of over 300 bits that passes so many is composite with a probability below
2**-53 (Handbook of Applied Cryptography, table 4.3). Then a payload cannot be decrypted."""
SMALL_PRIMES_BELOW = 2000

INTEGER = 0x02
BIT_STRING = 0x03
SEQUENCE = 0x30
RSA_ENCRYPTION = bytes.fromhex("300d06092a864886f70d0101010500")
"""AlgorithmIdentifier: OID 1.2.840.113549.1.1.1, parameters NULL (RFC 3279 section 2.3.1)."""


class RsaError(ValueError):
    """The bytes were not encrypted with this public key."""


class PrivateKey(NamedTuple):
    """A key pair: modulus and private exponent; the public exponent is `PUBLIC_EXPONENT`."""

    modulus: int
    exponent: int


def generate_key() -> PrivateKey:
    """Generate a key pair, in about 10 ms."""
    while True:
        primes = [_random_prime(bits) for bits in PRIME_BITS]
        totient = math.prod(prime - 1 for prime in primes)
        if len(set(primes)) == len(primes) and math.gcd(totient, PUBLIC_EXPONENT) == 1:
            return PrivateKey(math.prod(primes), pow(PUBLIC_EXPONENT, -1, totient))


def public_key_info(key: PrivateKey) -> bytes:
    """Return the DER encoding of the public half's SubjectPublicKeyInfo (RFC 5280 section 4.1)."""
    numbers = _element(SEQUENCE, _integer(key.modulus) + _integer(PUBLIC_EXPONENT))
    no_unused_bits = b"\0"
    return _element(SEQUENCE, RSA_ENCRYPTION + _element(BIT_STRING, no_unused_bits + numbers))


def decrypt(key: PrivateKey, data: bytes) -> bytes:
    """Return the message in a ciphertext (RFC 8017 section 7.2.2).

    Raises:
        RsaError: the length or the padding is wrong.
    """
    size = (key.modulus.bit_length() + 7) // 8
    number = int.from_bytes(data, "big")
    if len(data) != size or number >= key.modulus:
        raise RsaError("the ciphertext does not have the size of the key")
    padded = pow(number, key.exponent, key.modulus).to_bytes(size, "big")
    end = padded.find(b"\0", 2)
    if padded[:2] != b"\0\2" or end < 10:
        raise RsaError("the padding is wrong")
    return padded[end + 1 :]


def _small_primes() -> int:
    """Return the product of the odd primes below `SMALL_PRIMES_BELOW`."""
    is_prime = bytearray([1]) * SMALL_PRIMES_BELOW
    product = 1
    for number in range(3, SMALL_PRIMES_BELOW, 2):
        if is_prime[number]:
            product *= number
            for multiple in range(number * number, SMALL_PRIMES_BELOW, 2 * number):
                is_prime[multiple] = 0
    return product


_SMALL_PRIMES = _small_primes()


def _random_prime(bits: int) -> int:
    while True:
        candidate = _random_below(1 << (bits - 3)) | 7 << (bits - 3) | 1
        if math.gcd(candidate, _SMALL_PRIMES) == 1 and is_probable_prime(candidate):
            return candidate


def is_probable_prime(number: int) -> bool:
    """Return whether an odd number above 3 passes the Miller-Rabin test with random bases."""
    odd = number - 1
    twos = (odd & -odd).bit_length() - 1
    odd >>= twos
    for _ in range(MILLER_RABIN_ROUNDS):
        power = pow(2 + _random_below(number - 3), odd, number)
        if power == 1:
            continue
        for _ in range(twos):
            if power == number - 1:
                break
            power = power * power % number
        else:
            return False
    return True


def _random_below(limit: int) -> int:
    """Return a random number. `secrets` is not used, since it imports `random`."""
    bits = (limit - 1).bit_length()
    while True:
        number = int.from_bytes(os.urandom((bits + 7) // 8), "big") & ((1 << bits) - 1)
        if number < limit:
            return number


def _integer(value: int) -> bytes:
    """Encode a positive INTEGER; a leading zero byte keeps the sign bit clear."""
    return _element(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _element(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content
