"""Codecs: what goes to clients, what comes from them, and nonsense."""

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_wire.messages import Message as Plain
from jupyter_wire.messages import decode_legacy, decode_v1, encode_legacy, encode_v1
from kernel_agent.wire.codec import Codec, DecodeError, decode, encode
from kernel_agent.wire.message import CONTROL, IOPUB, SHELL, STDIN, Message, encode_json

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)
objects = st.dictionaries(st.text(max_size=10), json_values, max_size=4)
headers = objects.map(lambda rest: {**rest, "msg_id": 'ä"\\', "msg_type": "x_request"})
buffers = st.lists(st.binary(max_size=50), max_size=3)
channels = st.sampled_from([SHELL, CONTROL, STDIN, IOPUB])


def payload_of(pieces: Any) -> tuple[int, bytes]:
    """Return first byte and payload of the one frame that pieces make."""
    frame = b"".join(pieces)
    length = frame[1]
    start = 2
    if length == 126:
        (length,), start = struct.unpack_from("!H", frame, 2), 4
    elif length == 127:
        (length,), start = struct.unpack_from("!Q", frame, 2), 10
    assert len(frame) == start + length
    return frame[0], frame[start:]


def make(channel: bytes, parts: list[dict[str, Any]], blobs: list[bytes]) -> Message:
    """Make a message from decoded parts, as a kernel that does not escape Unicode writes them."""
    encoded = [
        json.dumps(part, ensure_ascii=False).encode("utf-8", "surrogatepass") for part in parts
    ]
    return Message(channel, [*encoded, *blobs])


valid_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)


@given(channels, headers, objects, objects, buffers)
def test_v1_round_trip(
    channel: bytes,
    header: dict[str, Any],
    metadata: dict[str, Any],
    content: dict[str, Any],
    blobs: list[bytes],
) -> None:
    """An independent decoder reads what the agent encodes, bit for bit."""
    message = make(channel, [header, {}, metadata, content], blobs)
    first, payload = payload_of(encode(message, Codec.V1))
    assert first == 0x82
    found = decode_v1(payload)
    assert (found.channel.encode(), found.buffers) == (channel, tuple(blobs))
    assert (found.header, found.metadata, found.content) == (header, metadata, content)


@given(channels, headers, objects, objects, buffers)
def test_legacy_round_trip(
    channel: bytes,
    header: dict[str, Any],
    metadata: dict[str, Any],
    content: dict[str, Any],
    blobs: list[bytes],
) -> None:
    """Legacy: text without buffers, binary with; id and type stand at the top too."""
    message = make(channel, [header, {"msg_id": "p"}, metadata, content], blobs)
    first, payload = payload_of(encode(message, Codec.LEGACY))
    assert first == (0x82 if blobs else 0x81)
    found = decode_legacy(payload if blobs else payload.decode())
    assert found.buffers == tuple(blobs)
    assert (found.header, found.parent_header) == (header, {"msg_id": "p"})
    assert (found.metadata, found.content) == (metadata, content)
    if not blobs:
        document = json.loads(payload)
        assert (document["msg_id"], document["msg_type"]) == (header["msg_id"], "x_request")
        assert document["buffers"] == []


@given(headers, objects, buffers)
def test_text_only_never_makes_a_binary_frame(
    header: dict[str, Any], content: dict[str, Any], blobs: list[bytes]
) -> None:
    """For gateway clients buffers are left out and the frame is valid UTF-8 text."""
    message = make(IOPUB, [header, {}, {}, content], blobs)
    first, payload = payload_of(encode(message, Codec.TEXT_ONLY))
    assert first == 0x81
    assert json.loads(payload.decode())["buffers"] == []


@given(st.binary(max_size=30))
def test_legacy_text_is_utf8_whatever_the_kernel_writes(content: bytes) -> None:
    """Bytes of a broken kernel that are not UTF-8 do not make a frame that kills the client."""
    message = Message(IOPUB, [b"{}", b"{}", b"{}", b'{"a":"' + content + b'"}'])
    _, payload = payload_of(encode(message, Codec.LEGACY))
    payload.decode()


@pytest.mark.parametrize("size", [0, 10, 125, 126, 65_535, 65_536, 300_000])
@pytest.mark.parametrize("codec", list(Codec))
def test_frames_of_every_length_are_well_formed(size: int, codec: Codec) -> None:
    """Each form of the length field, joined or in pieces."""
    message = make(IOPUB, [{}, {}, {}, {"text": "x" * size}], [])
    _, payload = payload_of(encode(message, codec))
    assert b"x" * size in payload


@given(
    channel=st.sampled_from([SHELL, CONTROL, STDIN]),
    header=headers,
    content=objects,
    blobs=buffers,
    v1=st.booleans(),
)
def test_requests_of_both_codecs_are_read(
    *, channel: bytes, header: dict[str, Any], content: dict[str, Any], blobs: list[bytes], v1: bool
) -> None:
    """What independent clients encode arrives with its parts; v1 parts verbatim."""
    plain = Plain(channel.decode(), header, {}, {}, content, tuple(blobs))
    data = encode_v1(plain) if v1 else encode_legacy(plain)
    raw = data.encode() if isinstance(data, str) else data
    request = decode(raw, Codec.V1 if v1 else Codec.LEGACY)
    assert request.channel == channel
    assert request.header == header
    assert json.loads(request.parts[3]) == content
    assert request.parts[4:] == blobs
    if v1:
        assert request.parts[0] == json.dumps(header).encode()


@given(st.binary(max_size=200), st.sampled_from(list(Codec)))
def test_nonsense_is_a_decode_error(payload: bytes, codec: Codec) -> None:
    """Arbitrary bytes never raise anything else."""
    try:
        decode(payload, codec)
    except DecodeError:
        return
    raise AssertionError("decoded")


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=10), st.binary(max_size=60))
def test_nonsense_offsets_are_a_decode_error(numbers: list[int], rest: bytes) -> None:
    """Neither are offsets out of order, out of range or out of proportion."""
    table = struct.pack(f"<{len(numbers)}Q", *numbers)
    for payload in (table + rest, struct.pack("<Q", len(numbers)) + table + rest):
        try:
            decode(payload, Codec.V1)
        except DecodeError:
            continue
        raise AssertionError("decoded")


@pytest.mark.parametrize("count", [0, 116, 117, 118, 249, 250, 251, 373])
def test_v1_request_may_have_any_number_of_buffers(count: int) -> None:
    """Also one whose number of offsets begins with the byte of a legacy form, `{` or 0x00."""
    blobs = (b"x",) * count
    data = encode_v1(Plain("shell", {"msg_type": "comm_msg"}, {}, {}, {}, blobs))
    assert len(decode(data, Codec.V1).parts) == 4 + count


def test_v1_client_may_send_legacy_forms() -> None:
    """As text or with buffers."""
    for blobs in ((), (b"x",)):
        data = encode_legacy(Plain("shell", {"msg_type": "comm_msg"}, {}, {}, {}, blobs))
        raw = data.encode() if isinstance(data, str) else data
        assert len(decode(raw, Codec.V1).parts) == 4 + len(blobs)


def test_missing_channel_means_shell() -> None:
    """A legacy message without a channel goes to shell, as in Jupyter servers."""
    request = decode(encode_json({"header": {"msg_type": "x"}}), Codec.LEGACY)
    assert request.channel == SHELL
    assert request.parts == [b'{"msg_type":"x"}', b"{}", b"{}", b"{}"]


def test_deep_json_is_a_decode_error() -> None:
    """Nesting that exhausts the stack is refused, not fatal."""
    with pytest.raises(DecodeError):
        decode(b'{"header":' + b"[" * 200_000, Codec.LEGACY)


def test_message_fields_are_found_whatever_the_order_and_spacing() -> None:
    """`msg_type` and ids are read from any JSON header, and not from inside strings."""
    header = b'{ "x" : "\\"msg_type\\": \\"no\\"", "session":"s\\u00e4", "msg_type" :\t"status" }'
    message = Message(IOPUB, [header, b'{"msg_id":"a\\"b","session":"p"}', b"{}", b"[]"])
    assert message.msg_type == "status"
    assert message.session == "sä"
    assert (message.parent_id, message.parent_session) == ('a"b', "p")
    assert message.content() == {}
