"""Frames: however the bytes are cut, the same events."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol

from kernel_agent.wire.frames import (
    Event,
    EventKind,
    FrameError,
    FrameReader,
    close_frame,
    frame_header,
)

LIMIT = 100_000
messages = st.lists(
    st.tuples(st.sampled_from(["text", "binary", "ping"]), st.binary(max_size=300)), max_size=5
)


def masked(first: int, payload: bytes) -> bytes:
    """A client's frame, masked with zeros."""
    header = bytearray(frame_header(first, len(payload)))
    header[1] |= 0x80
    return bytes(header) + b"\0" * 4 + payload


@given(messages, st.integers(1, 50))
def test_bytes_in_any_portions_make_the_same_events(
    wanted: list[tuple[str, bytes]], portion: int
) -> None:
    """What wsproto's client sends is read, in whatever pieces it arrives."""
    client = FrameProtocol(client=True, extensions=[])
    data = b""
    expected = []
    for kind, payload in wanted:
        if kind == "text":
            text = payload.decode("latin-1")
            data += client.send_data(text)
            expected.append(Event(EventKind.TEXT, text.encode()))
        elif kind == "binary":
            data += client.send_data(payload)
            expected.append(Event(EventKind.BINARY, payload))
        else:
            data += client.ping(payload[:125])
            expected.append(Event(EventKind.PING, payload[:125]))
    reader = FrameReader(LIMIT)
    events = []
    for start in range(0, len(data), portion):
        events += list(reader.receive(data[start : start + portion]))
    assert events == expected


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_frame_errors_only(data: bytes) -> None:
    """Nonsense ends in a close code of the standard."""
    code = None
    try:
        list(FrameReader(LIMIT).receive(data))
    except FrameError as exc:
        code = exc.code
    assert code in {None, 1002, 1007, 1009}


def test_text_that_begins_with_zero_may_be_anything() -> None:
    """Legacy-binary in a text frame passes; other text must be UTF-8."""
    payload = b"\0\0\0\2\xff\xfe"
    assert list(FrameReader(LIMIT).receive(masked(0x81, payload))) == [
        Event(EventKind.TEXT, payload)
    ]
    with pytest.raises(FrameError) as caught:
        list(FrameReader(LIMIT).receive(masked(0x81, b"\xff\xfe")))
    assert caught.value.code == 1007


def test_size_is_refused_when_announced() -> None:
    """A header that announces too much is enough; nothing needs to be stored."""
    header = b"\x82\xff" + struct.pack("!Q", LIMIT + 1) + b"\0" * 4
    with pytest.raises(FrameError) as caught:
        list(FrameReader(LIMIT).receive(header))
    assert caught.value.code == 1009
    largest = next(FrameReader(LIMIT).receive(masked(0x82, b"x" * LIMIT)))
    assert largest.kind is EventKind.BINARY


@pytest.mark.parametrize("size", [0, 1, 7, 2049, 100_001])
def test_payload_of_every_size_is_unmasked(size: int) -> None:
    """Short ones at once, long ones in pieces; a length need not be a multiple of the mask's."""
    payload = bytes(number % 251 for number in range(size))
    frame = FrameProtocol(client=True, extensions=[]).send_data(payload)
    assert list(FrameReader(1_000_000).receive(frame)) == [Event(EventKind.BINARY, payload)]


def test_message_in_fragments_is_joined() -> None:
    """Control frames may come between them."""
    client = FrameProtocol(client=True, extensions=[])
    data = client.send_data(b"one", fin=False) + client.ping(b"x") + client.send_data(b"two")
    assert list(FrameReader(LIMIT).receive(data)) == [
        Event(EventKind.PING, b"x"),
        Event(EventKind.BINARY, b"onetwo"),
    ]
    with pytest.raises(FrameError) as caught:
        list(FrameReader(5).receive(data))
    assert caught.value.code == 1009


@pytest.mark.parametrize(
    "data",
    [
        b"\x82\x01x",
        b"\xc2\x80\0\0\0\0",
        b"\x83\x80\0\0\0\0",
        b"\x80\x80\0\0\0\0",
        b"\x02\x80\0\0\0\0\x82\x80\0\0\0\0",
        b"\x09\x80\0\0\0\0",
        b"\x89\xfe\0\x7e",
        b"\x82\xfe\0\x05\0\0\0\0hello",
        b"\x82\xff\x80" + bytes(11),
        b"\x88\x81\0\0\0\0x",
        b"\x88\x82\0\0\0\0\x03\xed",
    ],
    ids=[
        "not-masked",
        "reserved-bit",
        "unknown-opcode",
        "continuation-of-nothing",
        "message-in-message",
        "control-in-fragments",
        "long-control",
        "longer-length-than-needed",
        "negative-length",
        "close-with-one-byte",
        "close-code-1005",
    ],
)
def test_violations_of_the_protocol_are_refused(data: bytes) -> None:
    """RFC 6455 sections 5 and 7.4."""
    with pytest.raises(FrameError) as caught:
        list(FrameReader(LIMIT).receive(data))
    assert caught.value.code == 1002


def test_close_reason_is_cut_to_fit() -> None:
    """A control frame holds 125 bytes."""
    frame = close_frame(1001, "x" * 200)
    assert frame[:4] == b"\x88" + bytes([len(frame) - 2]) + struct.pack("!H", 1001)
    assert len(frame) <= 127
