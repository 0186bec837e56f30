"""What a client gets that cannot take everything."""

import json
from collections.abc import Sequence

import pytest

from kernel_agent.wire.agent_messages import MessageFactory
from kernel_agent.wire.codec import Codec
from kernel_agent.wire.message import IOPUB, SHELL, Message, make_header, make_message
from kernel_agent.wire.peer_encoder import LEAST_LIMIT, NO_LIMIT, SUSPECT_BYTES, Peer, PeerEncoder


def deliver(peer: Peer, codec: Codec = Codec.TEXT_ONLY, max_bytes: int = NO_LIMIT) -> PeerEncoder:
    """Return the encoder of a new connection of a client."""
    return PeerEncoder(codec, max_bytes=max_bytes, peer=peer, factory=MessageFactory())


def parent(number: int, msg_type: str = "execute_request") -> bytes:
    """Return the header of a request."""
    return json.dumps(make_header(msg_type, "s", f"request-{number}", "")).encode()


def output(
    msg_type: str, parent_header: bytes, buffers: Sequence[bytes] = (), *, text: str = ""
) -> Message:
    """Make an iopub message."""
    made = make_message(IOPUB, make_header(msg_type, "k", msg_type, ""), {"t": text}, parent_header)
    return Message(IOPUB, [*made.parts, *buffers])


def read(pieces: Sequence[bytes]) -> list[dict[str, object]]:
    """Read the text frames, which are short."""
    frames = b"".join(pieces)
    documents = []
    while frames:
        length, start = frames[1], 2
        if length == 126:
            length, start = int.from_bytes(frames[2:4], "big"), 4
        documents.append(json.loads(frames[start : start + length]))
        frames = frames[start + length :]
    return documents


def notices(documents: Sequence[dict[str, object]]) -> list[object]:
    """Return below which requests something was told."""
    return [one["parent_header"] for one in documents if one["msg_type"] == "stream"]


def test_missing_buffers_are_told_once_under_each_cell() -> None:
    """Under the cell whose output it is; for a comm message, under the cell that ran last."""
    encoder = deliver(Peer())
    first, second, widget = parent(1), parent(2), parent(3, "comm_msg")
    batch = [
        output("execute_input", first),
        output("comm_open", first, [b"1"]),
        output("display_data", first, [b"2"]),
        output("comm_msg", first),
        output("execute_input", second),
        output("comm_msg", widget, [b"3"]),
        output("comm_msg", widget, [b"4"]),
        output("comm_msg", second, [b"5"]),
        output("comm_msg", first, [b"6"]),
    ]
    documents = read(encoder.encode_batch(batch))
    assert notices(documents) == [json.loads(first), json.loads(second)]
    assert [one["buffers"] for one in documents] == [[]] * (len(batch) + 2)
    assert documents[1]["msg_type"] == "stream"


def test_missing_buffers_are_told_once_whatever_connection_a_client_uses() -> None:
    """A client that comes back is the same one."""
    peer = Peer()
    cell, widget = parent(1), parent(2, "comm_msg")
    before = deliver(peer).encode_batch([output("execute_input", cell)])
    after = deliver(peer).encode_batch([output("comm_msg", widget, [b"1"])])
    again = deliver(peer).encode_batch([output("comm_msg", widget, [b"1"])])
    assert notices(read([*before, *after, *again])) == [json.loads(cell)]


def test_client_that_sent_a_binary_frame_gets_them() -> None:
    """Also on its next connection, and without a notice."""
    peer = Peer()
    message = output("display_data", parent(1), [b"\x00\xff"])
    deliver(peer).allow_binary()
    frame = b"".join(deliver(peer).encode_batch([message]))
    assert frame.endswith(b"\x00\xff")
    assert b"stream" not in frame
    modern = Peer()
    v1 = deliver(modern, Codec.V1)
    v1.allow_binary()
    assert b"".join(v1.encode_batch([message])) != frame


@pytest.mark.parametrize("codec", Codec)
def test_refused_size_is_not_sent_again(codec: Codec) -> None:
    """After a close with 1009 the largest message under way goes as a notice, smaller ones pass."""
    peer = Peer()
    small = output("stream", parent(1), text="s" * 5000)
    large = output("stream", parent(1), text="x" * 50_000)
    assert b"x" * 50_000 in b"".join(deliver(peer, codec).encode_batch([small, large]))
    limit = deliver(peer, codec).lower_limit([small, large])
    assert limit is not None
    assert 5000 < limit < 52_000
    sent = b"".join(deliver(peer, codec).encode_batch([small, large]))
    assert b"s" * 5000 in sent
    assert b"x" * 5000 not in sent
    assert b"was left out" in sent
    assert b"docs/clients.md" in sent


def test_client_with_many_messages_over_its_limit_is_soon_understood() -> None:
    """Every further refusal halves the limit: reconnections are few, whatever waits."""
    true_limit = 64 * 1024
    peer = Peer()
    batch = [output("stream", parent(1), text="x" * (10**6 + n)) for n in range(50)]
    refusals = 0
    while any(
        len(b"".join(deliver(peer).encode_batch([message]))) > true_limit for message in batch
    ):
        refusals += 1
        deliver(peer).lower_limit(batch)
        assert refusals < 10
    assert peer.max_bytes > LEAST_LIMIT


def test_limit_never_excludes_the_notices_themselves() -> None:
    """A client that gives 1009 for anything cannot be helped, but gets what is small."""
    peer = Peer()
    batch = [output("stream", parent(1), text="x" * 10_000)]
    for _ in range(20):
        deliver(peer).lower_limit(batch)
    assert peer.max_bytes >= LEAST_LIMIT
    assert deliver(peer).lower_limit([]) is None
    assert deliver(peer).lower_limit([output("stream", parent(1), text="tiny")]) is None


def test_reply_that_is_too_large_becomes_an_error() -> None:
    """A client that waits for it gets an answer."""
    reply = Message(
        SHELL, [b'{"msg_type":"execute_reply"}', parent(1), b"{}", b'"' + b"x" * 9000 + b'"']
    )
    (document,) = read(deliver(Peer(), max_bytes=5000).encode_batch([reply]))
    assert document["content"]["status"] == "error"  # type: ignore[index]
    assert document["parent_header"] == json.loads(parent(1))
    assert "0.0 MiB (5,000 bytes)" in str(document["content"])


def test_message_at_which_two_connections_broke_is_replaced() -> None:
    """Once may be chance, and so may a break at another message; twice at the same is not."""
    peer = Peer()
    large = output("display_data", parent(1), text="x" * SUSPECT_BYTES)
    other = output("stream", parent(1), text="y" * (SUSPECT_BYTES - 1000))
    larger = output("stream", parent(1), text="x" * 2 * SUSPECT_BYTES)
    small = output("stream", parent(1), text="z")
    assert not deliver(peer).record_break([small, large])
    assert not deliver(peer).record_break([other])
    assert not deliver(peer).record_break([large, small])
    assert not deliver(peer).record_break([small])
    assert not deliver(peer).record_break([small, large])
    assert b"x" * 1000 in b"".join(deliver(peer).encode_batch([large]))
    assert deliver(peer).record_break([large, larger])
    sent = b"".join(deliver(peer).encode_batch([large, other, larger]))
    assert b"x" * 1000 not in sent
    assert sent.count(b"was left out") == 2
    assert b"y" * 1000 in sent
