"""Streams of executions over HTTP, as clients read them."""

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import aiohttp

Record = dict[str, Any]


class Stream:
    """One response of `execute` or `executions/<msg_id>`, read record by record."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.records: list[Record] = []
        self._yielded = 0
        self._rest: list[bytes] = []

    @property
    def msg_id(self) -> str:
        """The execution's id, which the first record has."""
        return str(self.records[0]["msg_id"])

    @property
    def position(self) -> int:
        """Where to continue: the `n` of the last record."""
        return int(self.records[-1]["n"])

    async def __aiter__(self) -> AsyncIterator[Record]:
        """Yield the records that come."""
        while True:
            while self._yielded < len(self.records):
                self._yielded += 1
                yield self.records[self._yielded - 1]
            data = await self.response.content.readany()
            if not data:
                break
            first, *others = data.split(b"\n")
            self._rest.append(first)
            for other in others:
                self.records.append(json.loads(b"".join(self._rest)))
                self._rest = [other]
        assert not any(self._rest), "the last record has no line end"

    async def read(self) -> list[Record]:
        """Return all records, to the end of the stream."""
        assert self.response.status == 200, await self.response.text()
        async for _ in self:
            pass
        return self.records

    async def until(self, **wanted: Any) -> Record:
        """Return the next record with these fields."""
        async for record in self:
            if wanted.items() <= record.items():
                return record
        raise AssertionError(f"the stream has ended without {wanted}")


def messages(records: Iterable[Record]) -> list[Record]:
    """Return the records that are the kernel's messages."""
    return [record for record in records if record["event"] == "message"]


def stdout(records: Iterable[Record]) -> str:
    """Return what was printed."""
    return "".join(
        each["content"]["text"]
        for each in messages(records)
        if each["msg_type"] == "stream" and each["content"]["name"] == "stdout"
    )


def reply(records: list[Record]) -> Mapping[str, Any]:
    """Return the content of the reply, which is the last record and the only reply."""
    replies = [each for each in messages(records) if each["channel"] == "shell"]
    assert replies == records[-1:], "the reply is not the last record"
    content: Mapping[str, Any] = replies[0]["content"]
    return content


def check_order(records: list[Record]) -> None:
    """Check that a stream begins with the execution, and that its numbers grow."""
    assert records[0]["event"] == "execution"
    numbers = [record["n"] for record in records if record["event"] != "waiting"]
    assert numbers == sorted(set(numbers))
