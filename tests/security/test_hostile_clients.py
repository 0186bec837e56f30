"""Clients that break every rule, against the real process: no other client may notice."""

import contextlib
import hashlib
import json
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.clients.channels import Channels
from harness.gateways.gateway import Gateway

from jupyter_wire.messages import V1_SUBPROTOCOL, Codec

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

MASK = b"\x01\x02\x03\x04"
MEBIBYTE = 1024 * 1024


def frame(first: int, payload: bytes, *, length: int | None = None) -> bytes:
    """Build a masked client frame (RFC 6455 section 5.2); `length` may lie about the payload."""
    size = len(payload) if length is None else length
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    masked = bytes(byte ^ MASK[index % 4] for index, byte in enumerate(payload))
    return head + MASK + masked


TEXT, BINARY, CONTINUATION, CLOSE, PING = 0x81, 0x82, 0x80, 0x88, 0x89
FRAMES = {
    "unmasked frame": b"\x81\x02{}",
    "reserved opcode": frame(0x83, b"x"),
    "reserved bits": frame(0xF1, b"x"),
    "continuation of nothing": frame(CONTINUATION, b"x"),
    "fragmented ping": frame(0x09, b"x"),
    "oversized ping": frame(PING, b"x" * 126),
    "length of 2**63": frame(BINARY, b"x", length=2**63),
    "length of 1 TiB": frame(BINARY, b"x", length=2**40),
    "close with one byte": frame(CLOSE, b"\x03"),
    "close with a bad code": frame(CLOSE, struct.pack("!H", 5)),
    "invalid UTF-8": frame(TEXT, b"\xff\xfe\xfd"),
    "text that is no JSON": frame(TEXT, b"{not json"),
    "JSON that is no message": frame(TEXT, b"[1, 2, 3]"),
    "message without a header": frame(TEXT, b'{"channel": "shell"}'),
    "unknown channel": frame(TEXT, b'{"channel": "hb", "header": {}, "content": {}}'),
    "deeply nested JSON": frame(TEXT, b"[" * 100_000),
    "empty binary message": frame(BINARY, b""),
    "offsets beyond the end": frame(BINARY, struct.pack("<3Q", 2, 1000, 2000)),
    "offset count of 2**60": frame(BINARY, struct.pack("<2Q", 2**60, 8)),
    "offsets that go backwards": frame(BINARY, struct.pack("<8Q", 7, 64, 60, 50, 40, 30, 20, 10)),
    "noise": hashlib.shake_256(b"noise").digest(4096),
}


@pytest.fixture(scope="module")
def victim(gateway: Gateway) -> Iterator[str]:
    """The id of the kernel that is attacked."""
    kernel_id = gateway.start_kernel("python_docker")
    yield kernel_id
    gateway.delete_kernel(kernel_id)


@pytest.fixture(scope="module")
def bystander(gateway: Gateway, victim: str) -> Iterator[Channels]:
    """A well-behaved client of that kernel."""
    channels = gateway.connect(victim)
    yield channels
    channels.close()


@pytest.fixture(autouse=True)
def bystander_is_unharmed(gateway: Gateway, bystander: Channels) -> Iterator[None]:
    """After the attack the bystander works, and the gateway has logged no traceback."""
    yield
    assert bystander.execute("6*7").result == "42"
    assert gateway.request("GET", "/api/kernels").status_code == 200
    assert "Traceback" not in gateway.read_log()
    answers = [line for line in gateway.read_log().splitlines() if "access] 5" in line]
    assert not answers


def connect(gateway: Gateway) -> socket.socket:
    """Open a connection."""
    return socket.create_connection(("127.0.0.1", gateway.port), timeout=60)


def open_channels(gateway: Gateway, kernel_id: str, codec: Codec) -> socket.socket:
    """Make the opening handshake by hand; returns the socket, ready for frames."""
    peer = connect(gateway)
    lines = [
        f"GET /api/kernels/{kernel_id}/channels?session_id=hostile HTTP/1.1",
        f"Host: 127.0.0.1:{gateway.port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        f"Authorization: token {gateway.token}",
        *([f"Sec-WebSocket-Protocol: {V1_SUBPROTOCOL}"] if codec is Codec.V1 else []),
    ]
    peer.sendall("\r\n".join([*lines, "", ""]).encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += peer.recv(4096)
    assert answer.startswith(b"HTTP/1.1 101"), answer
    return peer


@pytest.mark.parametrize("codec", Codec)
@pytest.mark.parametrize("name", FRAMES)
def test_malformed_frames_hurt_no_other_client(
    gateway: Gateway, victim: str, name: str, codec: Codec
) -> None:
    """Whatever bytes one client sends, the others' connections and the kernel go on."""
    with open_channels(gateway, victim, codec) as peer:
        peer.sendall(FRAMES[name])
        # the answer to this ping, or the end of the connection, tells that the bytes were digested
        peer.sendall(frame(PING, b"digested"))
        seen = b""
        try:
            while b"digested" not in seen:
                data = peer.recv(65536)
                if not data:
                    break
                seen = seen[-16:] + data
        except ConnectionError:
            pass


BODIES = {
    "no JSON": b"{",
    "not an object": b"[1, 2]",
    "invalid UTF-8": b'{"name": "\xff"}',
    "deeply nested": b"[" * 200_000,
    "name of a wrong type": b'{"name": 7}',
    "env of a wrong type": b'{"env": ["KERNEL_X"]}',
    "value of a wrong type": b'{"env": {"KERNEL_X": 1}}',
    "name with NUL": b'{"name": "python3\\u0000"}',
    "variable with =": b'{"env": {"KERNEL_A=B": "x"}}',
    "value with NUL": b'{"env": {"KERNEL_A": "\\u0000"}}',
    "value too long": b'{"env": {"KERNEL_A": "' + b"x" * 5000 + b'"}}',
    "lone surrogate": b'{"env": {"KERNEL_A": "\\ud800"}}',
    "unknown kernelspec": b'{"name": "../../etc/passwd"}',
    "kernel id that is none": b'{"env": {"KERNEL_ID": "../x"}}',
    "huge number": b'{"name": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("path", ["/api/kernels", "/api/sessions"])
@pytest.mark.parametrize("name", BODIES)
def test_bad_bodies_are_refused(gateway: Gateway, name: str, path: str) -> None:
    """The answer is 4xx, in JSON, and says something."""
    answer = gateway.request("POST", path, data=BODIES[name])
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["message"]
    assert "traceback" not in answer.text.lower()


EXECUTIONS = {**BODIES, "surrogate in code": b'{"code": "\\ud800"}', "no code": b"{}"}


@pytest.mark.parametrize("name", EXECUTIONS)
def test_bad_bodies_are_executed_by_no_kernel(gateway: Gateway, victim: str, name: str) -> None:
    """The kernel's agent refuses them, and the gateway passes that on."""
    path = f"/api/kernels/{victim}/execute"
    answer = gateway.request("POST", path, data=EXECUTIONS[name])
    assert answer.status_code == 400
    assert answer.json()["message"]


@pytest.mark.parametrize("code", ["\0", "(" * 100_000, "9" * 100_000, "\u2028\x85\x1c"])
def test_strange_code_gets_a_reply(gateway: Gateway, victim: str, code: str) -> None:
    """Whatever the kernel makes of it; the stream is whole."""
    body = json.dumps({"code": code, "stop_on_error": False})
    answer = gateway.request("POST", f"/api/kernels/{victim}/execute", data=body)
    assert answer.status_code == 200
    records = [json.loads(line) for line in answer.text.splitlines()]
    assert records[-1]["msg_type"] == "execute_reply"


def test_streams_that_are_never_read_hurt_no_client(gateway: Gateway, victim: str) -> None:
    """The gateway keeps little of 20 streams of 30 MB each, and their kernel goes on."""
    path = f"/api/kernels/{victim}/execute"
    code = "for _ in range(300): print('x' * 100_000)"
    before = memory(gateway)
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            answer = gateway.request("POST", path, json={"code": code}, stream=True)
            stack.enter_context(answer)
        last = gateway.request("POST", path, json={"code": "6 * 7"}, timeout=60)
        assert json.loads(last.text.splitlines()[-1])["content"]["status"] == "ok"
        assert memory(gateway) - before < 20 * MEBIBYTE


def memory(gateway: Gateway) -> int:
    """Return the resident memory of the gateway in bytes."""
    assert gateway.process is not None
    fields = Path(f"/proc/{gateway.process.pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def test_large_body_is_refused(gateway: Gateway) -> None:
    """Ten megabytes are refused with 413."""
    body = b'{"name": "' + b"x" * (10 * MEBIBYTE) + b'"}'
    answer = gateway.request("POST", "/api/kernels", data=body)
    assert answer.status_code == 413
    assert answer.json()["message"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/kernels/not-a-uuid",
        "/api/kernels/..%2f..%2fetc%2fpasswd",
        "/api/kernels/%00",
        "/api/kernels/%ff%fe",
        "/api/kernelspecs/..%2f..%2fetc",
        "/kernelspecs/python3/../../../../etc/passwd",
        "/kernelspecs/python3/..%2f..%2f..%2fkernel.json",
        "/kernelspecs/python3/%2fetc%2fpasswd",
        "/api/sessions/%0d%0aSet-Cookie:x",
        "/api/kernels/" + "a" * 5000,
        "/api/kernels?" + "a=b&" * 1000,
    ],
)
def test_strange_paths_lead_nowhere(gateway: Gateway, path: str) -> None:
    """No file outside a kernelspec, no header of the client's making, no 500."""
    with connect(gateway) as peer:
        request = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            f"Authorization: token {gateway.token}\r\n\r\n"
        )
        peer.sendall(request.encode())
        answer = b""
        while data := peer.recv(65536):
            answer += data
    status = int(answer.split()[1])
    assert status < 500
    assert status != 200 or path.startswith("/api/kernels?")
    assert b"root:" not in answer
    assert b"Set-Cookie" not in answer.partition(b"\r\n\r\n")[0]


def test_half_requests_delay_no_client(gateway: Gateway) -> None:
    """A hundred connections that never finish their request leave the others' requests prompt."""
    beginnings = [b"", b"GET /api", b"GET /api HTTP/1.1\r\nHost: x\r\n", b"\x16\x03\x01\x02"]
    body = b"POST /api/kernels HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
    peers = []
    try:
        for index in range(100):
            peer = connect(gateway)
            peer.sendall([*beginnings, body][index % 5])
            peers.append(peer)
        for _ in range(5):
            assert gateway.request("GET", "/api/kernelspecs", timeout=60).status_code == 200
    finally:
        for peer in peers:
            peer.close()


def test_garbage_on_the_wire_is_answered_or_cut(gateway: Gateway) -> None:
    """Bytes that are no HTTP get a 400 or the end of the connection."""
    for garbage in (os.urandom(2048), b"\r\n" * 5000, b"GET / HTTP/9.9\r\n\r\n", b"A" * 100_000):
        with connect(gateway) as peer:
            try:
                peer.sendall(garbage)
                peer.shutdown(socket.SHUT_WR)
                answer = peer.recv(4096)
            except ConnectionError:
                continue
            assert answer == b"" or b" 400 " in answer.partition(b"\r\n")[0]


def test_client_that_never_reads_hurts_no_other(
    gateway: Gateway, victim: str, bystander: Channels
) -> None:
    """A client that stops reading under megabytes of output does not hold up its neighbour."""
    with open_channels(gateway, victim, Codec.V1):
        execution = bystander.execute("for _ in range(300): print('x' * 100_000)")
        assert execution.status == "ok"
        assert len(execution.stdout) == 300 * 100_001
