"""ZMTP: however the bytes are cut, the same messages; what no kernel sends ends the connection."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_agent.zmtp.protocol import (
    GREETING_END,
    SIGNATURE,
    SocketType,
    ZmtpConnection,
    ZmtpError,
    encode_message,
)

GREETING = SIGNATURE + b"\x03" + GREETING_END
READY = b"\x04\x1a\x05READY\x0bSocket-Type\x00\x00\x00\x04XPUB"
multiparts = st.lists(st.binary(max_size=600), min_size=1, max_size=8)


def sub() -> ZmtpConnection:
    """The connection to iopub, after its first output."""
    connection = ZmtpConnection(SocketType.SUB)
    assert connection.take_output() == SIGNATURE + b"\x03"
    return connection


def ready_sub() -> ZmtpConnection:
    """The same after the handshake."""
    connection = sub()
    assert connection.receive(GREETING + READY) == []
    connection.take_output()
    return connection


def encoded(frames: list[bytes]) -> bytes:
    """A message in one piece."""
    return b"".join(encode_message(frames))


@given(st.lists(multiparts, max_size=5), st.integers(1, 300))
def test_bytes_in_any_portions_make_the_same_messages(
    wanted: list[list[bytes]], portion: int
) -> None:
    """Handshake included."""
    data = GREETING + READY + b"".join(map(encoded, wanted))
    connection = sub()
    received = []
    for start in range(0, len(data), portion):
        received += connection.receive(data[start : start + portion])
    assert received == wanted
    assert connection.is_ready
    assert connection.take_output() == GREETING_END + b"\x04\x26\x05READY" + (
        b"\x0bSocket-Type\x00\x00\x00\x03SUB" + b"\x08Identity\x00\x00\x00\x00" + b"\x00\x01\x01"
    )


def test_message_larger_than_a_read_is_complete() -> None:
    """Its size is in eight bytes, and it is joined only once."""
    body = bytes(range(256)) * 5000
    data = encoded([b"topic", body, b""])
    connection = ready_sub()
    assert connection.receive(data[:70_000]) == []
    assert connection.receive(data[70_000:900_000]) == []
    assert connection.receive(data[900_000:] + encoded([b"next"])) == [
        [b"topic", body, b""],
        [b"next"],
    ]


def test_old_peer_is_served() -> None:
    """Libraries of 2012 and ports of them speak version 2.0: no commands, the identity first."""
    connection = ZmtpConnection(SocketType.DEALER, b"me")
    connection.take_output()
    for byte in SIGNATURE + b"\x01\x06" + b"\x00\x00":
        assert not connection.is_ready
        assert connection.receive(bytes([byte])) == []
    assert connection.is_ready
    assert connection.take_output() == b"\x05\x00\x02me"
    assert connection.receive(encoded([b"a", b"b"])) == [[b"a", b"b"]]


def test_ping_is_answered() -> None:
    """With its context, without its time to live; the peer would end the connection otherwise."""
    connection = ready_sub()
    assert connection.receive(b"\x04\x0a\x04PING\x00\x64abc") == []
    assert connection.take_output() == b"\x04\x08\x04PONGabc"


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        SIGNATURE[:9] + b"\x00",
        SIGNATURE + b"\x03\x01CURVE" + bytes(47),
        GREETING + b"\x04\x0d\x05ERROR\x06no way",
        GREETING + READY + b"\x08\x00",
    ],
    ids=["http", "version-1", "curve", "error", "flags"],
)
def test_other_peers_are_given_up(data: bytes) -> None:
    """They would never become a kernel's socket."""
    with pytest.raises(ZmtpError):
        sub().receive(data)
