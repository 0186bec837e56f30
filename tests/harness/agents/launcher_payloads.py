"""What the launchers in Enterprise Gateway's images send, made as they make it."""

import base64
import json
import os
from typing import Any

from cryptography.hazmat.primitives.asymmetric import padding as rsa_padding
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import load_der_public_key

KERNEL_ID = "00000000-0000-0000-0000-000000000007"


def connection(**changes: Any) -> dict[str, Any]:
    """Return connection information as a launcher collects it."""
    ports = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port", "comm_port")
    return {
        **{name: 40001 + index for index, name in enumerate(ports)},
        "ip": "0.0.0.0",
        "key": "6d1a4f5a-4c9e-4d2c-9d68-0b1ba0a1a001",
        "transport": "tcp",
        "signature_scheme": "hmac-sha256",
        "kernel_name": "",
        "pid": "7",
        "pgid": "7",
        "kernel_id": KERNEL_ID,
        **changes,
    }


def payload(info: object, public_key: str) -> bytes:
    """Return the payload of version 1."""
    key = os.urandom(16)
    rsa_key = load_der_public_key(base64.b64decode(public_key))
    assert isinstance(rsa_key, rsa.RSAPublicKey)
    envelope = {
        "version": 1,
        "key": base64.b64encode(rsa_key.encrypt(key, rsa_padding.PKCS1v15())).decode(),
        "conn_info": base64.b64encode(encrypt(info, key)).decode(),
    }
    return base64.b64encode(json.dumps(envelope).encode())


def payload_of_version_0(info: object, kernel_id: str = KERNEL_ID) -> bytes:
    """Return the payload that launchers of old send."""
    return base64.b64encode(encrypt(info, kernel_id[:16].encode()))


def encrypt(info: object, key: bytes) -> bytes:
    """Encrypt as both versions do."""
    padder = PKCS7(128).padder()
    text = padder.update(json.dumps(info).encode()) + padder.finalize()
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - launchers do
    return encryptor.update(text) + encryptor.finalize()
