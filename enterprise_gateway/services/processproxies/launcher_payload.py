"""What the launchers in Enterprise Gateway's images report: a kernel's ports and key. No I/O.

A launcher opens plain TCP, sends the payload and closes. Version 1 is the base64 of a JSON object
whose `key` is an AES-128 key, encrypted with `PUBLIC_KEY` (RSA, PKCS #1 v1.5), and whose
`conn_info` is the connection information, encrypted with it (ECB). In version 0 the base64 is of
the encrypted information itself, and the key is the beginning of the kernel's id.

It authenticates nobody: whoever knows the public key, or the kernel's id, can make one.
"""

import base64
import binascii
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

_KEY_BYTES = 16
_END_OF_OBJECT = b"}"

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class LauncherPayloadError(Exception):
    """These bytes are no launcher's payload. Nobody is told in which way."""


class ConnectionInfo(msgspec.Struct, frozen=True):
    """Where a kernel listens, without the address: that is the engine's to say."""

    shell_port: Port
    iopub_port: Port
    stdin_port: Port
    control_port: Port
    hb_port: Port
    key: Annotated[str, msgspec.Meta(max_length=1024)]
    comm_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    """Where the launcher takes signals; 0: nowhere."""
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


def decode_payload(raw: bytes, private_pem: bytes, kernel_ids: Iterable[str]) -> ConnectionInfo:
    """Decode what a launcher sent.

    Args:
        raw: all of it.
        private_pem: private key of the public one that launchers were told.
        kernel_ids: of the kernels that one may be for.

    Returns:
        The information, with one of these ids.

    Raises:
        LauncherPayloadError: it is none, or for another kernel.
    """
    expected = frozenset(kernel_ids)
    try:
        content = base64.b64decode(raw.strip(), validate=True)
        envelope = _envelope_of(content)
        if envelope is None:
            return _decode_version_0(content, expected)
        encrypted = base64.b64decode(envelope.conn_info, validate=True)
        key = _decrypt_key(base64.b64decode(envelope.key, validate=True), private_pem)
        info = _decode_info(encrypted, key)
    except (binascii.Error, ValueError) as exc:
        raise LauncherPayloadError from exc
    if info.kernel_id not in expected:
        raise LauncherPayloadError
    return info


def _envelope_of(content: bytes) -> _Envelope | None:
    """Return what version 1 is wrapped in; None if the content is something else."""
    try:
        return msgspec.json.decode(content, type=_Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _decode_version_0(content: bytes, kernel_ids: frozenset[str]) -> ConnectionInfo:
    for kernel_id in kernel_ids:
        try:
            info = _decode_info(content, kernel_id.encode()[:_KEY_BYTES])
        except ValueError:
            continue
        if info.kernel_id in ("", kernel_id):
            return msgspec.structs.replace(info, kernel_id=kernel_id)
    raise LauncherPayloadError


def _decrypt_key(encrypted: bytes, private_pem: bytes) -> bytes:
    private_key = load_pem_private_key(private_pem, password=None)
    assert isinstance(private_key, rsa.RSAPrivateKey)  # noqa: S101 - `certificate` makes no other
    return private_key.decrypt(encrypted, padding.PKCS1v15())


def _decode_info(encrypted: bytes, key: bytes) -> ConnectionInfo:
    """Decrypt and decode; what pads the last block, in one way or another, follows the object."""
    if len(key) != _KEY_BYTES:
        raise ValueError("no AES-128 key")
    decryptor = Cipher(algorithms.AES(key), modes.ECB()).decryptor()  # noqa: S305 - launchers do
    text = decryptor.update(encrypted) + decryptor.finalize()
    text = text[: text.rfind(_END_OF_OBJECT) + 1]
    try:
        return msgspec.json.decode(text, type=ConnectionInfo)
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc
