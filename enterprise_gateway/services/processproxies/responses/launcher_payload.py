"""The reports of launchers in Enterprise Gateway's images: a kernel's ports and key. No I/O.

A launcher opens plain TCP, sends the payload and closes. Version 1 is the base64 of a JSON object
whose `key` is an AES-128 key, encrypted with `PUBLIC_KEY` (RSA, PKCS #1 v1.5), and whose
`conn_info` is the connection information, encrypted with it (ECB). In version 0 the base64 is of
the encrypted information itself, and the key is the beginning of the kernel's id.

A payload does not authenticate its sender: the public key, or the kernel's id, suffices to create
one.
"""

import base64
import binascii
import functools
from typing import Annotated, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from enterprise_gateway.errors import UNREADABLE_JSON

_KEY_BYTES = 16
_END_OF_OBJECT = b"}"

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class LauncherPayloadError(Exception):
    """The bytes are not a launcher's payload. Peers are not told why."""


class ConnectionInfo(msgspec.Struct, frozen=True):
    """The ports and key of a kernel. Its address is taken from the engine."""

    shell_port: Port
    iopub_port: Port
    stdin_port: Port
    control_port: Port
    hb_port: Port
    key: Annotated[str, msgspec.Meta(max_length=1024)]
    comm_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    """The port where the launcher accepts signals, 0 if none."""
    signature_scheme: Literal["hmac-sha256"] = "hmac-sha256"
    transport: Literal["tcp"] = "tcp"
    kernel_id: str = ""

    def __repr__(self) -> str:
        """Leave the key out."""
        return f"ConnectionInfo(kernel_id={self.kernel_id!r})"

    def attachment(self, ip: str) -> str:
        """Return `EG_AGENT_ATTACH` of the wire contract for a kernel at an address."""
        fields = msgspec.structs.asdict(self)
        del fields["kernel_id"]
        return msgspec.json.encode({"ip": ip, **fields}).decode()


class _Envelope(msgspec.Struct):
    version: Literal[1]
    key: str
    conn_info: str


def decode_payload(raw: bytes, private_pem: bytes, kernel_id: str) -> ConnectionInfo:
    """Decode a launcher's payload. This takes a millisecond, so call it in a thread.

    Args:
        raw: all bytes that the launcher sent.
        private_pem: the private key for the public key that launchers were given.
        kernel_id: the kernel that the payload must be for.

    Returns:
        The connection information, with this kernel id.

    Raises:
        LauncherPayloadError: it is malformed, or for another kernel.
    """
    try:
        content = base64.b64decode(raw.strip(), validate=True)
        envelope = _envelope_of(content)
        if envelope is None:
            return _decode_version_0(content, kernel_id)
        encrypted = base64.b64decode(envelope.conn_info, validate=True)
        key = _decrypt_key(base64.b64decode(envelope.key, validate=True), private_pem)
        info = _decode_info(encrypted, key)
    except (binascii.Error, ValueError) as exc:
        raise LauncherPayloadError from exc
    if info.kernel_id != kernel_id:
        raise LauncherPayloadError
    return info


def _envelope_of(content: bytes) -> _Envelope | None:
    """Return the envelope of version 1, None if the content is something else."""
    try:
        return msgspec.json.decode(content, type=_Envelope)
    except UNREADABLE_JSON:
        return None


def _decode_version_0(content: bytes, kernel_id: str) -> ConnectionInfo:
    info = _decode_info(content, kernel_id.encode()[:_KEY_BYTES])
    if info.kernel_id not in ("", kernel_id):
        raise LauncherPayloadError
    return msgspec.structs.replace(info, kernel_id=kernel_id)


@functools.lru_cache(maxsize=1)
def _load_key(private_pem: bytes) -> rsa.RSAPrivateKey:
    """Load and check a key, which takes fifty times as long as using it."""
    private_key = load_pem_private_key(private_pem, password=None)
    assert isinstance(private_key, rsa.RSAPrivateKey)  # noqa: S101 - `certificate` creates RSA keys
    return private_key


def _decrypt_key(encrypted: bytes, private_pem: bytes) -> bytes:
    return _load_key(private_pem).decrypt(encrypted, padding.PKCS1v15())


def _decode_info(encrypted: bytes, key: bytes) -> ConnectionInfo:
    """Decrypt and decode a JSON object, which is followed by some padding of the last block."""
    if len(key) != _KEY_BYTES:
        raise ValueError("no AES-128 key")
    decryptor = Cipher(algorithms.AES(key), modes.ECB()).decryptor()  # noqa: S305 - launchers do
    text = decryptor.update(encrypted) + decryptor.finalize()
    text = text[: text.rfind(_END_OF_OBJECT) + 1]
    try:
        return msgspec.json.decode(text, type=ConnectionInfo)
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc
