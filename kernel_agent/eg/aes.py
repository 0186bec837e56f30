"""AES-128 decryption in ECB mode with PKCS#7 padding (FIPS 197, RFC 5652 section 6.3). Pure.

Only for the few hundred bytes of `payload.py`, since images may lack every cryptography package. It
is slow, and its time depends on the data: do not use it where an attacker can measure that time.
"""

from __future__ import annotations

from typing import List

BLOCK_BYTES = 16
KEY_BYTES = 16
ROUNDS = 10


class AesError(ValueError):
    """The bytes were not encrypted with this key."""


def decrypt_ecb(key: bytes, data: bytes) -> bytes:
    """Return the plaintext of whole blocks, with its padding.

    Raises:
        AesError: the key or the data has an impossible length.
    """
    if len(key) != KEY_BYTES:
        raise AesError(f"an AES-128 key has {KEY_BYTES} bytes, not {len(key)}")
    if not data or len(data) % BLOCK_BYTES:
        raise AesError(f"{len(data)} bytes are not whole AES blocks")
    schedule = _expand_key(key)
    blocks = (data[i : i + BLOCK_BYTES] for i in range(0, len(data), BLOCK_BYTES))
    return b"".join(_decrypt_block(schedule, block) for block in blocks)


def remove_padding(data: bytes) -> bytes:
    """Return decrypted data without its PKCS#7 padding.

    Raises:
        AesError: there is none, so another key was used.
    """
    count = data[-1] if data else 0
    if not 1 <= count <= BLOCK_BYTES or data[-count:] != bytes([count]) * count:
        raise AesError("the padding is wrong")
    return data[:-count]


def _times_2(value: int) -> int:
    """Multiply by x in GF(2^8) (FIPS 197 section 4.2.1)."""
    value <<= 1
    return value ^ 0x11B if value & 0x100 else value


def _multiply(left: int, right: int) -> int:
    product = 0
    while right:
        if right & 1:
            product ^= left
        left = _times_2(left)
        right >>= 1
    return product


def _make_sbox() -> List[int]:
    """Return the substitution table: inverse in GF(2^8), then the affine map (section 5.1.1)."""
    sbox = [0x63] * 256
    power, inverse = 1, 1
    for _ in range(255):
        power = power ^ _times_2(power)  # times 3, a generator
        inverse = _multiply(inverse, 0xF6)  # divided by 3
        spread = inverse * 0x101
        rotations = inverse
        for count in range(1, 5):
            rotations ^= (spread >> (8 - count)) & 0xFF
        sbox[power] = rotations ^ 0x63
    return sbox


_SBOX = _make_sbox()
_INVERSE_SBOX = [_SBOX.index(value) for value in range(256)]
_TIMES = {factor: [_multiply(value, factor) for value in range(256)] for factor in (9, 11, 13, 14)}


def _expand_key(key: bytes) -> List[bytes]:
    """Return the round keys (section 5.2)."""
    words = [list(key[i : i + 4]) for i in range(0, KEY_BYTES, 4)]
    constant = 1
    for index in range(4, 4 * (ROUNDS + 1)):
        word = words[-1]
        if index % 4 == 0:
            word = [_SBOX[value] for value in [*word[1:], word[0]]]
            word[0] ^= constant
            constant = _times_2(constant)
        words.append(list(_add(bytes(words[-4]), bytes(word))))
    flat = bytes(value for word in words for value in word)
    return [flat[i : i + BLOCK_BYTES] for i in range(0, len(flat), BLOCK_BYTES)]


def _decrypt_block(schedule: List[bytes], block: bytes) -> bytes:
    """Undo the rounds of one block, last first (section 5.3). Bytes go column by column."""
    state = _add(block, schedule[ROUNDS])
    for number in range(ROUNDS - 1, 0, -1):
        state = _unmix_columns(_add(_unshift_and_unsubstitute(state), schedule[number]))
    return _add(_unshift_and_unsubstitute(state), schedule[0])


def _add(left: bytes, right: bytes) -> bytes:
    """Add in GF(2^8), byte by byte."""
    total = int.from_bytes(left, "big") ^ int.from_bytes(right, "big")
    return total.to_bytes(len(left), "big")


def _unshift_and_unsubstitute(state: bytes) -> bytes:
    """Row r of the state moves r columns to the right, and every byte is substituted back."""
    return bytes(_INVERSE_SBOX[state[(i - 4 * (i % 4)) % BLOCK_BYTES]] for i in range(BLOCK_BYTES))


def _unmix_columns(state: bytes) -> bytes:
    nine, eleven, thirteen, fourteen = (_TIMES[factor] for factor in (9, 11, 13, 14))
    mixed = bytearray()
    for start in range(0, BLOCK_BYTES, 4):
        column = state[start : start + 4]
        for row in range(4):
            a, b, c, d = (column[(row + offset) % 4] for offset in range(4))
            mixed.append(fourteen[a] ^ eleven[b] ^ thirteen[c] ^ nine[d])
    return bytes(mixed)
