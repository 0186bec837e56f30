"""The last record of a stream whose agent has gone."""

import json

import pytest

from enterprise_gateway.web.executions.ending import EVENT_STREAM, NDJSON, Ending


@pytest.mark.parametrize("content_type", [NDJSON, EVENT_STREAM])
def test_record_may_follow_whole_records_only(content_type: str) -> None:
    """Wherever the network divides them."""
    ending = Ending(content_type)
    assert not ending.is_between_records
    record = ending.record("it died")
    for byte in record[:-1]:
        ending.feed(bytes([byte]))
        assert not ending.is_between_records
    ending.feed(record[-1:])
    assert ending.is_between_records
    ending.feed(record + record)
    assert ending.is_between_records
    ending.feed(record + b"{")
    assert not ending.is_between_records


def test_record_says_why() -> None:
    """In both forms."""
    said = {"event": "dead", "message": 'it "died"\nat once'}
    assert json.loads(Ending(NDJSON).record(said["message"])) == said
    event, data, *rest = Ending(EVENT_STREAM).record(said["message"]).decode().split("\n")
    assert event == "event: dead"
    assert json.loads(data.removeprefix("data: ")) == said
    assert rest == ["", ""]
