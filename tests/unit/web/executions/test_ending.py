"""The last records of a stream whose agent has gone."""

import json

import pytest

from enterprise_gateway.web.executions.ending import EVENT_STREAM, NDJSON, Ending

WHY = 'It "died".\nAt once.'
EXECUTION = b'{"n":0,"event":"execution","msg_id":"m","session":"s","state":"queued"}'
FIRST = {
    NDJSON: EXECUTION + b"\n",
    EVENT_STREAM: b"id: 0\nevent: execution\ndata: %b\n\n" % EXECUTION,
}
both_types = pytest.mark.parametrize("content_type", [NDJSON, EVENT_STREAM])


@both_types
def test_records_may_follow_whole_records_only(content_type: str) -> None:
    """Wherever the network divides them."""
    ending = Ending(content_type)
    assert not ending.is_between_records
    record = FIRST[content_type]
    for byte in record[:-1]:
        ending.feed(bytes([byte]))
        assert not ending.is_between_records
    ending.feed(record[-1:])
    assert ending.is_between_records
    ending.feed(record + record)
    assert ending.is_between_records
    ending.feed(record + b"{")
    assert not ending.is_between_records


@both_types
@pytest.mark.parametrize("step", [1, 1000])
def test_error_and_reply_say_why(content_type: str, step: int) -> None:
    """They answer the execution that the first record names."""
    ending = Ending(content_type)
    sent = 2 * FIRST[content_type]
    for at in range(0, len(sent), step):
        ending.feed(sent[at : at + step])
    lines = ending.records(WHY).decode().splitlines()
    if content_type == EVENT_STREAM:
        assert lines[::3] == ["event: message"] * 2
        assert lines[2::3] == ["", ""]
        lines = [line.removeprefix("data: ") for line in lines[1::3]]
    error, reply = map(json.loads, lines)
    assert (error["event"], error["channel"], error["msg_type"]) == ("message", "iopub", "error")
    assert (reply["event"], reply["channel"], reply["msg_type"]) == (
        "message",
        "shell",
        "execute_reply",
    )
    for record in (error, reply):
        assert record["content"]["evalue"] == WHY
        assert record["parent_header"]["msg_id"] == "m"
        assert record["parent_header"]["session"] == "s"
    assert reply["content"]["status"] == "error"


@pytest.mark.parametrize(
    "first",
    [b"", b"{}", b"[]", b"\xff", b"{" * 20_000, b'{"other":' + b"[" * 10_000, b'{"msg_id":1}'],
)
def test_first_record_may_be_anything(first: bytes) -> None:
    """An agent is not trusted."""
    ending = Ending(NDJSON)
    ending.feed(first + b"\n")
    assert len(ending.records(WHY).splitlines()) == 2
