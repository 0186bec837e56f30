"""What launchers report, as real libraries encrypt it."""

import argparse
import base64
import importlib.util
import json
from types import ModuleType
from typing import Any

import pytest
from harness.kernels.eg_launcher import IMAGE_FILES

from kernel_agent.eg.payload import MAX_PAYLOAD_BYTES, PayloadError, decode_payload, read_report
from kernel_agent.eg.rsa import PrivateKey, generate_key, public_key_info

KERNEL_ID = "b3b2f6a1-2f0a-4a0e-9f1e-000000000001"
PORTS = ("shell_port", "iopub_port", "stdin_port", "hb_port", "control_port")
DOCUMENT: dict[str, Any] = {
    **{name: 50000 + index for index, name in enumerate(PORTS)},
    "ip": "0.0.0.0",
    "key": "the-key",
    "transport": "tcp",
    "signature_scheme": "hmac-sha256",
    "kernel_name": "",
    "pid": 17,
    "pgid": 17,
    "comm_port": 50010,
    "kernel_id": KERNEL_ID,
}


def load_launcher() -> ModuleType:
    """Import the tests' launcher, which is no module of a package."""
    path = IMAGE_FILES / "kernel-launchers" / "python" / "scripts" / "launch_ipykernel.py"
    spec = importlib.util.spec_from_file_location("launch_ipykernel", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LAUNCHER = load_launcher()


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    """A key pair."""
    return generate_key()


def encrypt(key: PrivateKey, document: dict[str, Any]) -> bytes:
    """Return a payload of version 1."""
    public_key = base64.b64encode(public_key_info(key)).decode()
    return bytes(LAUNCHER.payload_version_1(document, public_key))


def change_envelope(payload: bytes, **changes: object) -> bytes:
    """Return a payload with other outer fields."""
    envelope = {**json.loads(base64.b64decode(payload)), **changes}
    return base64.b64encode(json.dumps(envelope).encode())


def test_payload_of_version_1_is_read(key: PrivateKey) -> None:
    """All of it; a kernel that listens everywhere is reached by loopback."""
    report = decode_payload(encrypt(key, DOCUMENT) + b"\n", key, KERNEL_ID)
    assert report.info.ports == {name: DOCUMENT[name] for name in PORTS}
    assert report.info.key == "the-key"
    assert report.info.ip == "127.0.0.1"
    assert report.info.digest == "sha256"
    assert (report.comm_port, report.pid) == (50010, 17)


def test_payload_of_version_0_is_read(key: PrivateKey) -> None:
    """The old one, whose key is the beginning of the kernel's id."""
    payload = LAUNCHER.payload_version_0(DOCUMENT, KERNEL_ID)
    report = decode_payload(payload, key, KERNEL_ID)
    assert report.info.key == "the-key"
    assert report.comm_port == 50010


def test_scala_launchers_fields_are_understood(key: PrivateKey) -> None:
    """It sends the pid as a string, and no process group."""
    document = {name: DOCUMENT[name] for name in DOCUMENT if name != "pgid"}
    report = decode_payload(encrypt(key, {**document, "pid": "171"}), key, KERNEL_ID)
    assert report.pid == 171


def test_launcher_without_comm_port_is_understood() -> None:
    """Then there is nothing to send signals to."""
    report = read_report({**DOCUMENT, "comm_port": None, "pid": None})
    assert (report.comm_port, report.pid) == (None, None)


@pytest.mark.parametrize("pid", [0, 1, -1, True, "x", "1" * 30, 1.5])
def test_pid_that_may_not_be_signalled_is_none(pid: object) -> None:
    """PID 1 is the agent itself, -1 means every process."""
    assert read_report({**DOCUMENT, "pid": pid}).pid is None


def test_address_and_digest_are_taken_as_given() -> None:
    """A kernel elsewhere, signed in another way."""
    report = read_report({**DOCUMENT, "ip": "10.0.0.7", "signature_scheme": "hmac-sha512"})
    assert (report.info.ip, report.info.digest) == ("10.0.0.7", "sha512")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"shell_port": 0}, "shell_port"),
        ({"shell_port": 65536}, "shell_port"),
        ({"hb_port": "50000"}, "hb_port"),
        ({"iopub_port": True}, "iopub_port"),
        ({"comm_port": -1}, "comm_port"),
        ({"key": ""}, "key is missing"),
        ({"key": None}, "key is missing"),
        ({"transport": "ipc"}, "transport"),
        ({"ip": "somewhere"}, "ip is not"),
        ({"ip": "1.2.3.4;1"}, "ip is not"),
        ({"ip": "1.2.3.4\0"}, "ip is not"),
        ({"ip": 7}, "ip is not"),
        ({"signature_scheme": "sha256"}, "signature_scheme"),
        ({"signature_scheme": "hmac-shake_128"}, "signature_scheme"),
        ({"signature_scheme": None}, "signature_scheme"),
        ({"kernel_id": "another"}, "another kernel"),
    ],
)
def test_impossible_field_is_an_error_that_names_it(
    key: PrivateKey, change: dict[str, object], text: str
) -> None:
    """And does not repeat its value."""
    with pytest.raises(PayloadError, match=text):
        decode_payload(encrypt(key, {**DOCUMENT, **change}), key, KERNEL_ID)


def test_payload_for_another_key_is_an_error(key: PrivateKey) -> None:
    """As from the launcher of another agent."""
    payload = encrypt(generate_key(), DOCUMENT)
    with pytest.raises(PayloadError, match="cannot be decrypted"):
        decode_payload(payload, key, KERNEL_ID)


def test_payload_of_version_0_for_another_kernel_is_an_error(key: PrivateKey) -> None:
    """It does not name its kernel, but decrypts to nonsense."""
    payload = LAUNCHER.payload_version_0(DOCUMENT, "another-kernel-id-of-16")
    with pytest.raises(PayloadError, match="not JSON"):
        decode_payload(payload, key, KERNEL_ID)


def test_malformed_payload_is_an_error(key: PrivateKey) -> None:
    """Whatever is wrong, and wherever: one class of error, and nothing worse."""
    good = encrypt(key, DOCUMENT)
    payloads = [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xfe",
        b"=" * 100,
        b"A" * (MAX_PAYLOAD_BYTES + 1),
        base64.b64encode(b"[]"),
        base64.b64encode(b'{"version": 2}'),
        base64.b64encode(b"[" * 5000),
        base64.b64encode(b"{}"),
        base64.b64encode(bytes(16)),
        base64.b64encode(bytes(15)),
        change_envelope(good, key=None),
        change_envelope(good, key="é"),
        change_envelope(good, key="!"),
        change_envelope(good, key=""),
        change_envelope(good, conn_info=""),
        change_envelope(good, conn_info=7),
        change_envelope(good, conn_info=base64.b64encode(bytes(32)).decode()),
        *(good[:size] for size in range(0, len(good), 7)),
    ]
    for payload in payloads:
        with pytest.raises(PayloadError):
            decode_payload(payload, key, KERNEL_ID)


def test_launcher_takes_both_spellings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' launcher itself: the contract has two names for each argument."""
    words = ["--RemoteProcessProxy.kernel-id", "old", "--public-key", "p", "--kernel-id", "new"]
    monkeypatch.setattr("sys.argv", ["launch", *words, "--RemoteProcessProxy.port-range", "1..2"])
    arguments: argparse.Namespace = LAUNCHER.read_arguments()
    assert (arguments.kernel_id, arguments.port_range) == ("new", "1..2")
