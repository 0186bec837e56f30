"""The frames that pass through a gateway, in pieces of any size."""

import random
from collections.abc import Iterator

import pytest

from enterprise_gateway.web.channels import frames
from enterprise_gateway.web.channels.frames import ClientFrames, FrameEnds, close_frame, frame
from jupyter_wire.frames import Opcode, client_frame

SIZES = (0, 1, 125, 126, 127, 300, 65_535, 65_536, 70_000)
MASK = b"\x01\x80\xff\x00"


def pieces(data: bytes, seed: int) -> Iterator[bytes]:
    """Cut bytes at random, often after one byte."""
    chance = random.Random(seed)  # noqa: S311 - to be the same in each run
    at = 0
    while at < len(data):
        size = chance.choice((1, 1, 2, 3, 50, 100_000))
        yield data[at : at + size]
        at += size


def from_client(opcode: Opcode, payload: bytes, *, is_last: bool = True) -> bytes:
    """Return a masked frame."""
    data = client_frame(payload, opcode, MASK)
    return data if is_last else bytes([data[0] & 0x7F]) + data[1:]


@pytest.mark.parametrize("seed", range(10))
def test_end_of_an_agents_frames_is_known(seed: int) -> None:
    """Wherever the bytes were cut on the way."""
    ends = FrameEnds()
    assert ends.is_cut, "nothing has passed yet"
    for size in SIZES:
        whole = frame(bytes(size))
        ends.feed(whole[:-1])
        assert not ends.is_cut
        ends.feed(whole[-1:])
        for piece in pieces(whole + frame("x" * size), seed):
            ends.feed(memoryview(piece))
        assert ends.is_cut


@pytest.mark.parametrize("closing", [close_frame(1001), b"\x88\x00", b"\x81\x00" + b"\x88\x00"])
def test_close_frame_is_an_orderly_end(closing: bytes) -> None:
    """Also at the very end, and without a code."""
    for step in (1, 2, len(closing)):
        ends = FrameEnds()
        for at in range(0, len(closing), step):
            ends.feed(closing[at : at + step])
        assert not ends.is_cut


@pytest.mark.parametrize("seed", range(10))
def test_messages_of_a_client_are_read(seed: int) -> None:
    """With their masks undone, fragments joined, and control frames between these."""
    texts = ["é" * (size // 2) for size in SIZES]
    data = b"".join(from_client(Opcode.TEXT, text.encode()) for text in texts)
    data += from_client(Opcode.BINARY, b"\0one ", is_last=False)
    data += from_client(Opcode.PING, b"ping")
    data += from_client(Opcode.CONTINUATION, b"message")
    client = ClientFrames()
    client.kept_bytes = len(data)
    received = []
    for piece in pieces(data, seed):
        client.feed(memoryview(piece))
        received += client.take()
    assert [each.data for each in received[:-2]] == texts
    ping, message = received[-2:]
    assert (ping.opcode, ping.payload) == (frames.PING, b"ping")
    assert (message.opcode, message.data) == (frames.BINARY, b"\0one message")


def test_binary_message_in_a_text_frame_is_bytes() -> None:
    """Jupyter servers send them so."""
    client = ClientFrames()
    client.feed(from_client(Opcode.TEXT, b"\0\xff"))
    assert [each.data for each in client.take()] == [b"\0\xff"]


def test_last_frames_of_a_client_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of larger ones nothing, and what follows them is read again."""
    monkeypatch.setattr(frames, "KEPT_BYTES", 1000)
    client = ClientFrames()
    for number in range(1000):
        client.feed(from_client(Opcode.TEXT, b"%03d" % number))
    kept = [each.data for each in client.take()]
    assert kept == [f"{number:03}" for number in range(1000 - len(kept), 1000)]
    assert 1000 / 9 <= len(kept) <= 2000 / 9
    for piece in pieces(from_client(Opcode.BINARY, bytes(100_000)), 0):
        client.feed(piece)
    client.feed(from_client(Opcode.TEXT, b"next"))
    assert [each.data for each in client.take()] == ["next"]


def test_messages_are_unacknowledged_since_the_last_pong_but_one() -> None:
    """An agent that has got a second pong has told of what came before the first."""
    pong = from_client(Opcode.PONG, bytes(8))
    client = ClientFrames()
    sent = [from_client(Opcode.TEXT, b"%d" % number) for number in range(4)]
    client.feed(sent[0] + pong + sent[1] + pong + sent[2] + pong + sent[3] + sent[0][:3])
    assert [each.data for each in client.take_unacknowledged()] == ["2", "3"]
    client.feed(sent[0][3:])
    assert [each.data for each in client.take()] == ["0"], "it came when the agent was gone"


def test_endless_message_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes no memory, and the next message is read."""
    monkeypatch.setattr(frames, "MAX_MESSAGE_BYTES", 1000)
    client = ClientFrames()
    client.feed(from_client(Opcode.TEXT, bytes(600), is_last=False))
    for last in (False, False, True):
        client.feed(from_client(Opcode.CONTINUATION, bytes(600), is_last=last))
    client.feed(from_client(Opcode.TEXT, b"next"))
    assert [each.data for each in client.take()] == ["next"]


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_frame_of_the_gateway_has_its_size(size: int) -> None:
    """In 7, 16 or 64 bits."""
    head = frame("x" * size)[: -size or None]
    assert head[0] == 0x81
    assert int.from_bytes(head[2:] or head[1:]) == size
    assert frame(b"")[0] == 0x82
    assert close_frame(1001) == b"\x88\x02\x03\xe9"
