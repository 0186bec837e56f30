"""The records of one execution, also when the log has dropped some of its entries."""

import asyncio
import itertools
import json
from typing import Any

import pytest

from kernel_agent.kernel.executions import Execution, Executions
from kernel_agent.server import execution_stream
from kernel_agent.server.execution_stream import CHUNK_BYTES, ExecutionStream
from kernel_agent.wire.agent_messages import MessageFactory
from kernel_agent.wire.message import IOPUB, SHELL, Message, encode_json
from kernel_agent.wire.message_log import Limits, MessageLog
from kernel_agent.wire.records import EVENT_STREAM, NDJSON, RecordEncoder


class Kernel:
    """A log, and the executions in it."""

    def __init__(self, memory_bytes: int = 10**9) -> None:
        ticks = itertools.count()
        self.log = MessageLog(Limits(memory_bytes), lambda: 0.0, shrink=lambda message: message)
        self.executions = Executions(lambda: f"t{next(ticks)}")
        self.log.subscribe(self.executions.record)

    def begin(self, msg_id: str = "1") -> Execution:
        """Receive a request."""
        execution = self.executions.add(msg_id, "s", self.log.position)
        assert execution is not None
        return execution

    def send(
        self, msg_type: str, msg_id: str = "1", channel: bytes = IOPUB, **content: object
    ) -> None:
        """Send a message for a request."""
        parent = encode_json({"msg_id": msg_id, "session": "s", "msg_type": "execute_request"})
        parts = [encode_json({"msg_type": msg_type}), parent, b"{}", encode_json(content)]
        self.log.append(Message(channel, parts))

    def print_(self, text: str, msg_id: str = "1") -> None:
        """Print."""
        self.send("stream", msg_id, name="stdout", text=text)

    def finish(self, msg_id: str = "1", *, reply_first: bool = True) -> None:
        """Send reply and idle."""
        for is_reply in (reply_first, not reply_first):
            if is_reply:
                self.send("execute_reply", msg_id, SHELL, status="ok")
            else:
                self.send("status", msg_id, execution_state="idle")

    def stream(self, execution: Execution, *, content_type: str = NDJSON) -> ExecutionStream:
        """Stream an execution."""
        encoder = RecordEncoder(content_type)
        return ExecutionStream(execution, self.log, encoder, MessageFactory(), 0, is_viewer=False)


async def read(stream: ExecutionStream) -> list[dict[str, Any]]:
    """Return all records."""
    async with asyncio.timeout(60):
        data = b"".join([chunk async for chunk in stream.chunks()])
    return [json.loads(line) for line in data.splitlines()]


def kinds(records: list[dict[str, Any]]) -> list[str]:
    """Return what the records are."""
    return [record.get("msg_type", record["event"]) for record in records]


@pytest.mark.parametrize("reply_first", [True, False])
async def test_reply_is_last_and_idle_is_left_out(*, reply_first: bool) -> None:
    """Also if output comes behind the reply: they have two sockets."""
    kernel = Kernel()
    one = kernel.begin()
    kernel.send("status", execution_state="busy")
    kernel.print_("a")
    if reply_first:
        kernel.send("execute_reply", channel=SHELL, status="ok")
        kernel.print_("b")
        kernel.send("status", execution_state="idle")
    else:
        kernel.print_("b")
        kernel.finish(reply_first=False)
    records = await read(kernel.stream(one))
    assert kinds(records) == ["execution", "status", "stream", "stream", "execute_reply"]
    for index, record in enumerate(records):
        again = kernel.stream(one)
        again.skip_to(record["n"])
        assert (await read(again))[1:] == records[index + 1 :]
        assert again.is_over


async def test_messages_of_other_executions_are_left_out() -> None:
    """Before, between and after its own."""
    kernel = Kernel()
    one, two = kernel.begin("1"), kernel.begin("2")
    for _ in range(3):
        kernel.print_("x", "2")
        kernel.print_("y", "1")
    kernel.finish("1")
    kernel.print_("z", "1")
    kernel.finish("2")
    assert kinds(await read(kernel.stream(one))) == ["execution", *3 * ["stream"], "execute_reply"]
    assert kinds(await read(kernel.stream(two))) == ["execution", *3 * ["stream"], "execute_reply"]


async def test_stream_follows_what_comes() -> None:
    """Record by record, to the end."""
    kernel = Kernel()
    one = kernel.begin()
    reading = asyncio.create_task(read(kernel.stream(one)))
    for index in range(50):
        kernel.print_(str(index))
        await asyncio.sleep(0)
    kernel.finish()
    records = await reading
    assert [each["content"].get("text") for each in records[1:-1]] == [str(i) for i in range(50)]
    assert kinds(records)[-1] == "execute_reply"


async def test_silence_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that proxies, and the gateway, see a stream that lives."""
    monkeypatch.setattr(execution_stream, "KEEP_ALIVE_SECONDS", 0.001)
    kernel = Kernel()
    chunks = kernel.stream(kernel.begin()).chunks()
    assert b'"execution"' in await anext(chunks)
    assert json.loads(await anext(chunks)) == {"n": 0, "event": "waiting"}
    assert json.loads(await anext(chunks)) == {"n": 0, "event": "waiting"}
    await chunks.aclose()
    events = kernel.stream(kernel.begin(), content_type=EVENT_STREAM).chunks()
    await anext(events)
    assert (await anext(events)).startswith(b":")
    await events.aclose()


async def test_stream_that_ends_early_leaves_nothing_behind() -> None:
    """The execution calls no listener of it any more."""
    kernel = Kernel()
    one = kernel.begin()
    chunks = kernel.stream(one).chunks()
    await anext(chunks)
    assert len(one._listeners) == 1
    await chunks.aclose()
    assert one._listeners == []


async def test_lost_output_is_told_exactly() -> None:
    """Once for a gap, with messages and bytes; the list says the same."""
    kernel = Kernel(memory_bytes=256 * 1024)
    one = kernel.begin()
    for index in range(3000):
        kernel.print_(f"{index:0100}")
    kernel.finish()
    records = await read(kernel.stream(one))
    assert kinds(records).count("lost") == 1
    lost = records[1]
    texts = [each["content"]["text"] for each in records if each.get("msg_type") == "stream"]
    assert 100 < lost["messages"] == 3000 - len(texts)
    assert texts == [f"{index:0100}" for index in range(lost["messages"], 3000)]
    sizes = one.size - sum(
        len(encode_json(each[part]))
        for each in records[2:]
        for part in ("header", "parent_header", "metadata", "content")
    )
    assert lost["bytes"] == sizes
    described = execution_stream.describe(one, kernel.log)
    assert described["lost"] == {"messages": lost["messages"], "bytes": lost["bytes"]}
    assert kinds(records)[-1] == "execute_reply"

    again = kernel.stream(one)
    again.skip_to(100)
    hole = (await read(again))[1]
    assert (hole["event"], hole["messages"], hole["bytes"]) == (
        *("lost", lost["messages"] - 100, None),
    )
    again = kernel.stream(one)
    again.skip_to(lost["n"])
    assert (await read(again))[1:] == records[2:]


async def test_slow_reader_is_told_what_was_lost_meanwhile() -> None:
    """The log does not wait for it; the reply comes all the same."""
    kernel = Kernel(memory_bytes=256 * 1024)
    one = kernel.begin()
    chunks = kernel.stream(one).chunks()
    data = await anext(chunks)
    kernel.print_("first")
    data += await anext(chunks)
    for index in range(3000):
        kernel.print_(f"{index:0100}")
    kernel.finish()
    data += b"".join([chunk async for chunk in chunks])
    records = [json.loads(line) for line in data.splitlines()]
    assert kinds(records)[:3] == ["execution", "stream", "lost"]
    missing = records[2]["messages"]
    assert len(records) == 3 + 3000 - missing + 1
    assert kinds(records)[-1] == "execute_reply"


async def test_execution_of_which_all_is_lost_still_ends() -> None:
    """With the loss; the state is in the first record."""
    kernel = Kernel(memory_bytes=64 * 1024)
    one, two = kernel.begin("1"), kernel.begin("2")
    kernel.print_("a", "1")
    kernel.finish("1")
    for _ in range(5000):
        kernel.print_("x" * 100, "2")
    for _ in range(1000):
        kernel.send("execute_result", "2", data={"text/plain": "x" * 100})
    kernel.finish("2")
    records = await read(kernel.stream(one))
    assert records[0]["state"] == "done"
    assert records[1]["event"] == "lost"
    assert records[1]["messages"] == 1
    assert kinds(await read(kernel.stream(two)))[-1] == "execute_reply"


async def test_large_message_is_sent_in_pieces() -> None:
    """So that no more of it waits in memory than a slow reader needs."""
    kernel = Kernel()
    one = kernel.begin()
    kernel.print_("x" * 1_000_000)
    kernel.finish()
    sizes = [len(chunk) async for chunk in kernel.stream(one).chunks()]
    assert max(sizes) < 2 * CHUNK_BYTES
    assert sum(sizes) > 1_000_000


async def test_message_larger_than_the_log_reaches_a_reader_that_keeps_up() -> None:
    """It is gone from the log before the reader could run."""
    kernel = Kernel(memory_bytes=64 * 1024)
    one = kernel.begin()
    chunks = kernel.stream(one).chunks()
    data = await anext(chunks)
    kernel.print_("x" * 1_000_000)
    for _ in range(1000):
        kernel.print_("y" * 100)
    kernel.finish()
    data += b"".join([chunk async for chunk in chunks])
    records = [json.loads(line) for line in data.splitlines()]
    assert records[1]["content"]["text"] == "x" * 1_000_000
    assert kinds(records)[2] == "lost"
    assert kinds(records)[-1] == "execute_reply"


async def test_position_beyond_the_log_is_its_end() -> None:
    """Of another kernel, say."""
    kernel = Kernel()
    one = kernel.begin()
    stream = kernel.stream(one)
    stream.skip_to(10**9)
    kernel.print_("a")
    kernel.finish()
    assert kinds(await read(stream)) == ["execution", "stream", "execute_reply"]


async def test_error_of_a_timeout_names_it() -> None:
    """In the output and in the reply, and nowhere else."""
    kernel = Kernel()
    one = kernel.begin()
    one.timeout = 2.5
    one.is_timed_out = True
    kernel.print_("error")
    kernel.send("error", ename="KeyboardInterrupt", evalue="", traceback=["line"])
    kernel.send(
        *("execute_reply", "1", SHELL),
        status="error",
        ename="E",
        evalue="said",
        traceback="none",
    )
    kernel.send("status", execution_state="idle")
    _, text, error, reply = await read(kernel.stream(one))
    reason = "interrupted, since it ran for longer than its timeout of 2.5 s"
    assert text["content"]["text"] == "error"
    assert error["content"]["evalue"] == reason
    assert error["content"]["traceback"] == ["line", reason]
    assert reply["content"]["evalue"] == f"said ({reason})"
    assert reply["content"]["traceback"] == "none"


async def test_success_in_spite_of_a_timeout_is_success() -> None:
    """The code has caught the interrupt, say."""
    kernel = Kernel()
    one = kernel.begin()
    one.is_timed_out = True
    kernel.finish()
    assert (await read(kernel.stream(one)))[-1]["content"] == {"status": "ok"}
