"""Payloads of Enterprise Gateway's launchers, and malformed ones."""

import base64
import json
from typing import Any

import pytest
from harness.agents.launcher_payloads import (
    KERNEL_ID,
    connection,
    encrypt,
    payload,
    payload_of_version_0,
)

from enterprise_gateway.services.processproxies.responses import launcher_payload
from enterprise_gateway.services.processproxies.responses.certificate import make_certificate
from enterprise_gateway.services.processproxies.responses.launcher_payload import (
    LauncherPayloadError,
    decode_payload,
)

OTHER_ID = "11111111-0000-0000-0000-000000000007"


CERTIFICATE = make_certificate()
PEM = CERTIFICATE["pem"].encode()
PUBLIC_KEY = CERTIFICATE["public_key"]


def test_payload_is_decoded_whatever_else_is_in_it() -> None:
    """Ports, key and comm port are kept; the address comes from the engine."""
    raw = payload(connection(surprise=[1, 2]), PUBLIC_KEY)
    info = decode_payload(raw, PEM, KERNEL_ID)
    assert info.kernel_id == KERNEL_ID
    expected = connection(ip="172.17.0.5")
    for name in ("kernel_name", "pid", "pgid", "kernel_id"):
        del expected[name]
    assert json.loads(info.attachment("172.17.0.5")) == expected
    assert expected["key"] not in repr(info)


@pytest.mark.parametrize("changes", [{}, {"kernel_id": ""}], ids=["with id", "without"])
def test_payload_of_version_0_is_decoded_with_the_kernels_id(changes: dict[str, Any]) -> None:
    """Its key is the beginning of the id."""
    raw = payload_of_version_0(connection(**changes))
    assert decode_payload(raw, PEM, KERNEL_ID).kernel_id == KERNEL_ID
    with pytest.raises(LauncherPayloadError):
        decode_payload(raw, PEM, OTHER_ID)


@pytest.mark.parametrize(
    "changes",
    [
        {"shell_port": 0},
        {"shell_port": 65536},
        {"shell_port": "40001"},
        {"shell_port": True},
        {"shell_port": 40001.5},
        {"comm_port": -1},
        {"key": 7},
        {"key": "x" * 2000},
        {"transport": "ipc"},
        {"signature_scheme": "hmac-md5"},
        {"kernel_id": OTHER_ID},
        {"kernel_id": None},
    ],
    ids=str,
)
def test_impossible_information_is_refused(changes: dict[str, Any]) -> None:
    """Types are strict, because the values are passed on to an agent."""
    with pytest.raises(LauncherPayloadError):
        decode_payload(payload(connection(**changes), PUBLIC_KEY), PEM, KERNEL_ID)


def wrapped(**changes: Any) -> bytes:
    """Return a payload whose envelope is changed."""
    envelope = json.loads(base64.b64decode(payload(connection(), PUBLIC_KEY)))
    return base64.b64encode(json.dumps({**envelope, **changes}).encode())


MALFORMED = {
    "nothing": b"",
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "no base64": b"\xff\xfe" * 100,
    "no block": base64.b64encode(b"x" * 17),
    "random blocks": base64.b64encode(b"x" * 160),
    "another version": wrapped(version=2),
    "key of another size": wrapped(key=base64.b64encode(b"x" * 255).decode()),
    "key with wrong padding": wrapped(key=base64.b64encode(b"\1" * 256).decode()),
    "no ciphertext": wrapped(conn_info=""),
    "wrong ciphertext": wrapped(conn_info=base64.b64encode(b"x" * 320).decode()),
    "deep nesting": base64.b64encode(encrypt([], KERNEL_ID[:16].encode())),
    "deep json": base64.b64encode(b"[" * 40000),
    "key for another gateway": payload(connection(), make_certificate()["public_key"]),
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED.keys())
def test_everything_else_fails_alike(raw: bytes) -> None:
    """One error without details: an answer with a reason would be a decryption oracle."""
    with pytest.raises(LauncherPayloadError) as failure:
        decode_payload(raw, PEM, KERNEL_ID)
    assert str(failure.value) == ""


def test_key_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading checks it, which takes fifty times as long as decrypting a payload."""
    pem = make_certificate()["pem"].encode()
    loaded = []
    load = launcher_payload.load_pem_private_key
    monkeypatch.setattr(
        launcher_payload,
        "load_pem_private_key",
        lambda *given, **options: loaded.append(given) or load(*given, **options),
    )
    for _ in range(3):
        with pytest.raises(LauncherPayloadError):
            decode_payload(payload(connection(), PUBLIC_KEY), pem, KERNEL_ID)
    assert len(loaded) == 1
