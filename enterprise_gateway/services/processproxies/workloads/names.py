"""Workload names: `<KERNEL_USERNAME>-<kernel id>`, valid for any user name.

The name serves as container name and host name, so it must match Docker's
`[a-zA-Z0-9][a-zA-Z0-9_.-]+` and RFC 1123 (letters, digits and inner hyphens, at most 63 of them).
The kernel id takes 36 and its hyphen 1, which leaves 26 for the user.

- Letters, digits, and a hyphen between two of them stand for themselves: `ann`, `ann-marie`.
- Every other byte of the name's UTF-8 form becomes `--` and two hexadecimal digits:
  `ann@example.org` is `ann--40example--2eorg`.
- A name that would be longer than 26, or begin with a hyphen, becomes its first seven
  plain characters (or `user`), `--h`, and 16 characters of its SHA-256 in base 32. No escaped byte
  begins with `h`, so the two forms cannot meet.

Distinct users therefore have distinct names (up to a collision of 80 bits of SHA-256).

A kernel's sidecar has the kernel's name followed by `-agent`. To stay within Swarm's 63 characters,
it has no more than the first 20 of the user's part.
"""

import base64
import hashlib
import re
import string

MAX_USERNAME_CHARS = 26

_PLAIN = frozenset((string.ascii_letters + string.digits).encode())
_HYPHEN = ord("-")
_DIGEST_CHARS = 16
_READABLE_CHARS = 7
_ESCAPED = re.compile(rb"--([0-9a-f]{2})")
_CUT = re.compile(r"--h[a-z2-7]{16}$")
_SIDECAR_SUFFIX = "-agent"
SIDECAR_USERNAME_CHARS = 20


def escape_username(username: str) -> str:
    """Return the form of a user name that workload names begin with."""
    raw = username.encode("utf-8", "surrogatepass")
    escaped = "".join(_escape_byte(raw, index) for index in range(len(raw)))
    if escaped and escaped[0] != "-" and len(escaped) <= MAX_USERNAME_CHARS:
        return escaped
    readable = "".join(chr(byte) for byte in raw if byte in _PLAIN)[:_READABLE_CHARS] or "user"
    digest = base64.b32encode(hashlib.sha256(raw).digest()).decode().lower()[:_DIGEST_CHARS]
    return f"{readable}--h{digest}"


def unescape_username(escaped: str) -> str:
    """Return the user name that was escaped; a name that was cut stays as it is."""
    if _CUT.search(escaped):
        return escaped
    raw = _ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()), escaped.encode())
    return raw.decode("utf-8", "replace")


def workload_name(username: str, kernel_id: str) -> str:
    """Return the name of the workload of a user's kernel."""
    return f"{escape_username(username)}-{kernel_id}"


def username_of(name: str, kernel_id: str) -> str:
    """Return the escaped user name in a workload's name; "" if the name has another shape."""
    suffix = f"-{kernel_id}"
    return name.removesuffix(suffix) if name.endswith(suffix) else ""


def sidecar_name(name: str, kernel_id: str) -> str:
    """Return the name of the sidecar of the workload of that name."""
    username = username_of(name, kernel_id)[:SIDECAR_USERNAME_CHARS]
    return f"{username}-{kernel_id}{_SIDECAR_SUFFIX}".lstrip("-")


def kernel_name_of(name: str) -> str:
    """Return the name of a sidecar's kernel; its user's part may be cut."""
    return name.removesuffix(_SIDECAR_SUFFIX)


def _escape_byte(raw: bytes, index: int) -> str:
    byte = raw[index]
    if byte in _PLAIN:
        return chr(byte)
    if (
        byte == _HYPHEN
        and 0 < index < len(raw) - 1
        and raw[index - 1] in _PLAIN
        and raw[index + 1] in _PLAIN
    ):
        return "-"
    return f"--{byte:02x}"
