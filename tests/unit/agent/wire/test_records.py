"""The records of a stream, and which form a client gets."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_agent.wire.message import IOPUB, SHELL, Message, encode_json
from kernel_agent.wire.records import EVENT_STREAM, NDJSON, RecordEncoder, choose_type


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", NDJSON),
        ("*/*", NDJSON),
        ("application/*", NDJSON),
        ("text/*", EVENT_STREAM),
        ("text/event-stream", EVENT_STREAM),
        ("Text/Event-Stream; q=0.5", EVENT_STREAM),
        ("text/event-stream, */*;q=0.1", EVENT_STREAM),
        ("text/event-stream, application/x-ndjson", NDJSON),
        ("text/event-stream;q=0.9, application/x-ndjson;q=0.8", EVENT_STREAM),
        ("*/*, application/x-ndjson;q=0", EVENT_STREAM),
        ("application/json, text/plain, */*", NDJSON),
        ("application/json", None),
        ("text/html;q=x", None),
        ("*/*;q=0", None),
        ("application/x-ndjson;q=nonsense", None),
        (",;,;=", None),
    ],
)
def test_form_is_chosen_by_accept(accept: str, expected: str | None) -> None:
    """RFC 9110 section 12.5.1: the most specific range counts, then its quality."""
    assert choose_type(accept) == expected


@given(st.text())
def test_no_accept_breaks_anything(accept: str) -> None:
    """It comes from anywhere."""
    assert choose_type(accept) in {NDJSON, EVENT_STREAM, None}


def decode(content_type: str, data: bytes) -> tuple[int, str, dict[str, object]]:
    """Return number, event and document of one record."""
    if content_type == NDJSON:
        (line,) = data.decode().splitlines()
        document = json.loads(line)
        return document["n"], document["event"], document
    assert data.endswith(b"\n\n")
    number, event, line = data[:-2].decode().splitlines()
    document = json.loads(line.removeprefix("data: "))
    return int(number.removeprefix("id: ")), event.removeprefix("event: "), document


@pytest.mark.parametrize("content_type", [NDJSON, EVENT_STREAM])
@given(
    text=st.text(),
    indent=st.sampled_from([None, 1, "\t"]),
    ascii_only=st.booleans(),
    buffers=st.lists(st.binary(max_size=10), max_size=3),
)
def test_message_is_one_line_for_every_reader(
    content_type: str,
    text: str,
    indent: str | int | None,
    *,
    ascii_only: bool,
    buffers: list[bytes],
) -> None:
    """Whatever stands in its strings, and however the kernel writes its JSON."""
    header = {"msg_id": "1", "msg_type": "stream", "session": text}
    document = {"name": "stdout", "text": text}
    parts = [
        json.dumps(part, indent=indent, ensure_ascii=ascii_only).encode(errors="surrogatepass")
        for part in (header, {}, {}, document)
    ]
    message = Message(IOPUB, [*parts, *buffers])
    data = b"".join(RecordEncoder(content_type).encode_message(7, message))
    number, event, record = decode(content_type, data)
    assert (number, event) == (7, "message")
    assert record["channel"] == "iopub"
    assert record["msg_type"] == "stream"
    try:
        text.encode()
    except UnicodeEncodeError:
        return  # a lone surrogate is no UTF-8
    assert record["header"] == header
    assert record["content"] == document


def test_buffers_are_base64() -> None:
    """JSON has no other form for bytes."""
    message = Message(IOPUB, [encode_json({"msg_type": "x"}), b"{}", b"{}", b"{}", b"\0\xff", b""])
    data = b"".join(RecordEncoder(NDJSON).encode_message(1, message))
    assert json.loads(data)["buffers"] == ["AP8=", ""]


@pytest.mark.parametrize("content_type", [NDJSON, EVENT_STREAM])
def test_bytes_that_are_no_utf8_are_replaced(content_type: str) -> None:
    """As for WebSocket clients of the legacy form."""
    message = Message(SHELL, [encode_json({"msg_type": "x"}), b"{}", b"{}", b'{"text": "\xff"}'])
    data = b"".join(RecordEncoder(content_type).encode_message(1, message))
    assert decode(content_type, data)[2]["content"] == {"text": "\ufffd"}


def test_keep_alive_is_a_record_of_lines_and_a_comment_of_events() -> None:
    """Each line is JSON; a comment is not delivered."""
    record = json.loads(RecordEncoder(NDJSON).keep_alive(3))
    assert record == {"n": 3, "event": "waiting"}
    assert RecordEncoder(EVENT_STREAM).keep_alive(3).startswith(b":")
