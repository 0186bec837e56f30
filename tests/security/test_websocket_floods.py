"""Ten thousand WebSockets of one client that reads none of them: other clients work on."""

import contextlib
import os
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.gateways.gateway import Gateway
from harness.waiting import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

COUNT = 10_000
BATCH = 100
OPENED_AT_LEAST = 2000
"""How many a gateway takes: each needs two of its descriptors, of which it may have few."""
MAX_BYTES_EACH = 64 * 1024
REQUEST_SECONDS = 60.0


@pytest.fixture
def local_gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway that the test may fill."""
    gateway = Gateway(tmp_path / "gateway")
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.close()


def resident_bytes(gateway: Gateway) -> int:
    """Return the resident memory of the gateway."""
    assert gateway.process is not None
    fields = Path(f"/proc/{gateway.process.pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def ask_for_channels(gateway: Gateway, kernel_id: str, name: str) -> socket.socket:
    """Send the opening handshake of a WebSocket."""
    peer = socket.create_connection(("127.0.0.1", gateway.port), timeout=REQUEST_SECONDS)
    lines = [
        f"GET /api/kernels/{kernel_id}/channels?session_id={name} HTTP/1.1",
        "Host: 127.0.0.1",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        f"Authorization: token {gateway.token}",
    ]
    peer.sendall("\r\n".join([*lines, "", ""]).encode())
    return peer


def status_of(peer: socket.socket) -> str:
    """Return the status of the answer, "cut" if there is none."""
    try:
        head = peer.recv(4096)
    except OSError:
        return "cut"
    return head.split(b" ", 2)[1].decode() if head else "cut"


def test_ten_thousand_websockets_stop_no_other_client(local_gateway: Gateway) -> None:
    """What the gateway cannot take it refuses; what it has taken costs little, and ends."""
    gateway = local_gateway
    kernel_id = gateway.start_kernel("python3")
    bystander = gateway.connect(kernel_id)
    assert bystander.execute("kept = 42; kept").result == "42"
    before = resident_bytes(gateway)
    statuses: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        for first in range(0, COUNT, BATCH):
            peers = [
                stack.enter_context(ask_for_channels(gateway, kernel_id, f"s{first + index}"))
                for index in range(BATCH)
            ]
            statuses.update(map(status_of, peers))
        assert set(statuses) <= {"101", "503", "cut"}, statuses
        assert statuses["101"] >= OPENED_AT_LEAST, statuses
        assert gateway.request("GET", "/healthz", timeout=REQUEST_SECONDS).status_code == 200
        assert bystander.execute("print('x' * 10_000); kept").result == "42"
        assert resident_bytes(gateway) - before < MAX_BYTES_EACH * statuses["101"]

    def is_alone() -> bool:
        response = gateway.request("GET", f"/api/kernels/{kernel_id}")
        # 503: all descriptors are in use until the gateway has read the end of some WebSockets
        return response.status_code == 200 and response.json()["connections"] == 1

    wait_until(is_alone, what="the end of the WebSockets")
    assert bystander.execute("kept").result == "42"
    assert "Traceback" not in gateway.read_log()
