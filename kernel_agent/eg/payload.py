"""The report of a launcher of Enterprise Gateway: address and key of the kernel that it starts.

Version 1: base64 of JSON `{"version": 1, "key": K, "conn_info": C}`. K is base64 of an AES-128 key
under the receiver's RSA key (PKCS#1 v1.5), C base64 of the connection document under that AES key
(ECB, PKCS#7). Version 0: base64 of the document under the first 16 characters of the kernel's id,
padded with any bytes. The document is a connection file with `kernel_id`, `pid` and `comm_port`
added.

Pure. The protection is that of Enterprise Gateway's scheme: a process that knows the public key,
which is in the launcher's arguments, can forge a payload. So it is suited only for a loopback
interface inside a container.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import json
from typing import Any, Dict, Mapping, NamedTuple, Optional

from kernel_agent.eg.aes import KEY_BYTES, AesError, decrypt_ecb, remove_padding
from kernel_agent.eg.rsa import PrivateKey, RsaError, decrypt
from kernel_agent.launch.connection_info import LOOPBACK, PORT_NAMES, ConnectionInfo

MAX_PAYLOAD_BYTES = 65536
ANY_ADDRESS = "0.0.0.0"  # noqa: S104  # compared, not bound


class PayloadError(ValueError):
    """The payload is invalid for this kernel; the text never contains its content."""


class LauncherReport(NamedTuple):
    """The content of a launcher's report.

    Attributes:
        info: the kernel's connection info.
        comm_port: port at which the launcher takes signals and the request to end; None: none.
        pid: the kernel's process id as the launcher sees it, if reported.
    """

    info: ConnectionInfo
    comm_port: Optional[int]
    pid: Optional[int]


def decode_payload(data: bytes, key: PrivateKey, kernel_id: str) -> LauncherReport:
    """Decrypt and check a payload of version 1 or 0.

    Raises:
        PayloadError: it is malformed, for another key or for another kernel.
    """
    if len(data) > MAX_PAYLOAD_BYTES:
        raise PayloadError(f"more than {MAX_PAYLOAD_BYTES} bytes")
    outer = _decode_base64(data.strip(), "the payload")
    try:
        envelope = json.loads(outer)
    except (ValueError, RecursionError):
        return read_report(_open_version_0(outer, kernel_id))
    if not isinstance(envelope, dict) or envelope.get("version") != 1:
        raise PayloadError("JSON, but not of version 1")
    document = _open_version_1(envelope, key)
    if document.get("kernel_id") != kernel_id:
        raise PayloadError("it is for another kernel: kernel_id differs from KERNEL_ID")
    return read_report(document)


def read_report(document: Mapping[str, Any]) -> LauncherReport:
    """Check a connection document.

    Raises:
        PayloadError: a field is missing or has an impossible value.
    """
    if document.get("transport", "tcp") != "tcp":
        raise PayloadError("transport is not tcp")
    key = document.get("key")
    if not isinstance(key, str) or not key:
        raise PayloadError("key is missing")
    info = ConnectionInfo(
        ports={name: _read_port(document, name) for name in PORT_NAMES},
        key=key,
        ip=_read_ip(document.get("ip", ANY_ADDRESS)),
        digest=_read_digest(document.get("signature_scheme", "hmac-sha256")),
    )
    has_comm_port = document.get("comm_port") is not None
    comm_port = _read_port(document, "comm_port") if has_comm_port else None
    return LauncherReport(info, comm_port, _read_pid(document.get("pid")))


def _open_version_1(envelope: Mapping[str, Any], key: PrivateKey) -> Dict[str, Any]:
    parts = {}
    for name in ("key", "conn_info"):
        text = envelope.get(name)
        if not isinstance(text, str) or not text.isascii():
            raise PayloadError(f"{name} is missing")
        parts[name] = _decode_base64(text.encode(), name)
    try:
        aes_key = decrypt(key, parts["key"])
        plain = remove_padding(decrypt_ecb(aes_key, parts["conn_info"]))
    except (RsaError, AesError) as exc:
        raise PayloadError(f"it cannot be decrypted: {exc}") from exc
    return _read_object(plain)


def _open_version_0(outer: bytes, kernel_id: str) -> Dict[str, Any]:
    try:
        plain = decrypt_ecb(kernel_id.encode()[:KEY_BYTES], outer)
    except AesError as exc:
        raise PayloadError(f"neither version 1 nor version 0: {exc}") from exc
    text, brace, _padding = plain.rpartition(b"}")
    return _read_object(text + brace)


def _read_object(plain: bytes) -> Dict[str, Any]:
    try:
        document = json.loads(plain)
    except (ValueError, RecursionError) as exc:
        raise PayloadError("what was decrypted is not JSON") from exc
    if not isinstance(document, dict):
        raise PayloadError("what was decrypted is not a JSON object")
    return document


def _decode_base64(data: bytes, name: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as exc:
        raise PayloadError(f"{name} is not base64") from exc


def _read_port(document: Mapping[str, Any], name: str) -> int:
    port = document.get(name)
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
        raise PayloadError(f"{name} is not a port")
    return port


def _read_ip(value: object) -> str:
    """Return the address to connect to: loopback for a kernel that listens on all interfaces."""
    if value in (ANY_ADDRESS, "*", "localhost"):
        return LOOPBACK
    try:
        if isinstance(value, str):
            return str(ipaddress.IPv4Address(value))
    except ValueError:
        pass
    raise PayloadError("ip is not an IPv4 address")


def _read_digest(scheme: object) -> str:
    digest = scheme[5:] if isinstance(scheme, str) and scheme.startswith("hmac-") else ""
    if digest not in hashlib.algorithms_guaranteed or digest.startswith("shake"):
        raise PayloadError("signature_scheme is not hmac- and a hash function")
    return digest


def _read_pid(value: object) -> Optional[int]:
    """Return a process id that may be signalled; the Scala launcher sends it as a string."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if value > 1 else None
