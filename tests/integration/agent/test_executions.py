"""Executions over the agent's HTTP interface, with a real ipykernel."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from harness.agents.agent import Agent
from harness.clients.executions import Stream, check_order, messages, reply, stdout
from harness.waiting import eventually

pytestmark = pytest.mark.kernel

PRINT_AND_SLEEP = "import time\nprint('on')\ntime.sleep(600)"
LINES = "for number in range({}):\n    print(number, flush=True)"
SLOW_LINES = (
    "import time\nfor number in range({}):\n    print(number, flush=True)\n    time.sleep({})"
)


def numbered(count: int) -> str:
    """Return what `LINES` prints."""
    return "".join(f"{number}\n" for number in range(count))


@asynccontextmanager
async def execute(agent: Agent, code: str, key: str = "", **body: Any) -> AsyncIterator[Stream]:
    """Begin an execution, or continue that of a key."""
    headers = {"Idempotency-Key": key} if key else {}
    async with agent.session().post(
        "/v1/execute", json={"code": code, **body}, headers=headers
    ) as response:
        yield Stream(response)


async def run(agent: Agent, code: str, key: str = "", **body: Any) -> list[dict[str, Any]]:
    """Execute to the end; return the records."""
    async with execute(agent, code, key, **body) as stream:
        return await stream.read()


@asynccontextmanager
async def follow(agent: Agent, msg_id: str, after: int | None = None) -> AsyncIterator[Stream]:
    """Continue an execution."""
    query = "" if after is None else f"?after={after}"
    async with agent.session().get(f"/v1/executions/{msg_id}{query}") as response:
        yield Stream(response)


def wait_for(file: Path) -> str:
    """Return code that waits for a file."""
    return f"import os, time\nwhile not os.path.exists({str(file)!r}): time.sleep(0.02)\n"


async def until_queued(agent: Agent, count: int) -> None:
    """Wait until so many executions have been sent to the kernel."""

    async def are_listed() -> bool:
        return len(await listed(agent)) == count

    await eventually(are_listed)


async def listed(agent: Agent) -> list[dict[str, Any]]:
    """Return the list of executions."""
    status, document = await agent.request("GET", "/v1/executions")
    assert status == 200
    return list(document)


async def test_stream_has_everything_and_ends_with_the_reply(agent: Agent) -> None:
    """Messages in the kernel's order and in Jupyter's shape; the connection stays usable."""
    records = await run(agent, "print('a')\nimport sys\nprint('b', file=sys.stderr)\n6 * 7")
    check_order(records)
    assert [each.get("msg_type") for each in records] == [
        *(None, "status", "execute_input", "stream", "stream", "execute_result", "execute_reply")
    ]
    for message in messages(records):
        assert message["parent_header"]["msg_id"] == records[0]["msg_id"]
        assert message["header"]["msg_type"] == message["msg_type"]
        assert message["buffers"] == []
    assert records[5]["content"]["data"] == {"text/plain": "42"}
    assert reply(records)["status"] == "ok"
    connections = agent.session().connector
    assert connections is not None
    assert len(connections._conns) == 1


async def test_server_sent_events_carry_the_same_records(agent: Agent) -> None:
    """With the number as their id, and what names a record as their type."""
    headers = {"Accept": "text/event-stream"}
    body = {"code": "print('a\\u2028b\\x85c')"}
    async with agent.session().post("/v1/execute", json=body, headers=headers) as response:
        assert response.content_type == "text/event-stream"
        text = await response.text()
    events = [
        dict(line.split(": ", 1) for line in each.splitlines()) for each in text.split("\n\n")
    ]
    assert events.pop() == {}
    records = [json.loads(event["data"]) for event in events]
    assert [event["id"] for event in events] == [str(record["n"]) for record in records]
    assert [event["event"] for event in events] == [record["event"] for record in records]
    assert stdout(records) == "a\u2028b\x85c\n"

    path = f"/v1/executions/{records[0]['msg_id']}?after=0"
    last = {**headers, "Last-Event-ID": str(records[-2]["n"])}
    async with agent.session().get(path, headers=last) as response:
        assert (await response.text()).count("event: message") == 1
    last["Last-Event-ID"] = str(records[-1]["n"])
    async with agent.session().get(path, headers=last) as response:
        assert response.status == 204, "an EventSource would come back for ever"


async def test_continued_streams_have_the_rest_at_any_cut(agent: Agent, tmp_path: Path) -> None:
    """Whatever the last record was that the client has got, also while the cell runs."""
    whole = await run(agent, LINES.format(20) + "\nnumber")
    msg_id = whole[0]["msg_id"]
    for index in range(len(whole)):
        async with follow(agent, msg_id, whole[index]["n"]) as stream:
            assert (await stream.read())[1:] == whole[index + 1 :]
    async with follow(agent, msg_id) as stream:
        assert (await stream.read())[1:] == whole[1:]

    got: list[dict[str, Any]] = []
    # each step waits for its client, so that there is something to come after every cut
    code = (
        "import os, time\n"
        "for number in range(200):\n"
        f"    while not os.path.exists(f'{tmp_path}/{{number // 40}}'): time.sleep(0.01)\n"
        "    print(number, flush=True)"
    )
    (tmp_path / "0").touch()
    async with execute(agent, code) as stream:
        await stream.until(msg_type="stream")
        msg_id = stream.msg_id
        got += stream.records
    for step in range(1, 5):
        (tmp_path / str(step)).touch()
        async with follow(agent, msg_id, got[-1]["n"]) as stream:
            await stream.until(msg_type="stream")
            got += stream.records[1:]
    async with follow(agent, msg_id, got[-1]["n"]) as stream:
        got += (await stream.read())[1:]
    check_order(got)
    assert stdout(got) == numbered(200)
    assert reply(got)["status"] == "ok"


async def test_idempotency_key_runs_once(agent: Agent) -> None:
    """Also when requests come at once; another body is refused."""
    code = "try:\n    runs += 1\nexcept NameError:\n    runs = 1\nprint(runs)"
    streams = await asyncio.gather(*(run(agent, code, "the key") for _ in range(10)))
    assert {stream[0]["msg_id"] for stream in streams} == {streams[0][0]["msg_id"]}
    assert [stdout(stream) for stream in streams] == ["1\n"] * 10
    assert stdout(await run(agent, code, "the key")) == "1\n"
    assert stdout(await run(agent, code, "another key")) == "2\n"
    assert stdout(await run(agent, code)) == "3\n"
    async with execute(agent, code + " ", "the key") as stream:
        assert stream.response.status == 422
    async with execute(agent, code, "the key", timeout=5) as stream:
        assert stream.response.status == 422


async def test_timeout_interrupts_and_the_error_says_so(agent: Agent) -> None:
    """It counts from when the kernel begins; the queue behind goes on if the client wants that."""
    async with execute(agent, PRINT_AND_SLEEP, timeout=4, stop_on_error=False) as one:
        await one.until(msg_type="stream")
        later = await run(agent, "'went on'", timeout=3)
        records = await one.read()
    assert reply(later)["status"] == "ok"
    error = next(each for each in records if each.get("msg_type") == "error")["content"]
    assert error["ename"] == reply(records)["ename"] == "KeyboardInterrupt"
    assert "its timeout of 4 s" in error["evalue"]
    assert "its timeout of 4 s" in error["traceback"][-1]
    assert error["evalue"] == reply(records)["evalue"]
    assert [(each["state"], each["timed_out"]) for each in await listed(agent)] == [
        ("failed", True),
        ("done", False),
    ]


async def test_stream_of_code_that_survives_the_interrupt_ends(agent: Agent) -> None:
    """It says so in place of a reply; once there is one, clients that ask again get it."""
    code = (
        "import signal, time\n"
        "handler = signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "print(input())\n"
        "signal.signal(signal.SIGINT, handler)"
    )
    async with execute(agent, code, timeout=3, allow_stdin=True) as stream:
        records = await stream.read()
    assert records[-1]["event"] == "timeout"
    assert "has not reacted" in records[-1]["message"]
    (execution,) = await listed(agent)
    assert (execution["state"], execution["timed_out"]) == ("running", True)
    async with follow(agent, stream.msg_id) as again:
        assert (await again.read())[-1] == records[-1]
    path = f"/v1/executions/{stream.msg_id}/input"
    assert (await agent.request("POST", path, {"value": "now"}))[0] == 204
    await eventually(lambda: has_ended(agent))
    async with follow(agent, stream.msg_id) as whole:
        records = await whole.read()
    assert stdout(records) == "now\n"
    assert reply(records)["status"] == "ok"


async def has_ended(agent: Agent) -> bool:
    """Say whether the only execution has ended."""
    (execution,) = await listed(agent)
    return execution["ended"] is not None


async def test_error_aborts_the_queue_as_the_protocol_says(agent: Agent, tmp_path: Path) -> None:
    """Unless the client turned `stop_on_error` off."""
    # the pause is for the thread of the kernel that takes what the agent has sent
    code = f"{wait_for(tmp_path / 'go')}time.sleep(1)\n1 / 0"
    async with execute(agent, code) as first:
        await first.until(content={"execution_state": "busy"})
        second = asyncio.create_task(run(agent, "2"))
        await until_queued(agent, 2)
        (tmp_path / "go").touch()
        assert reply(await second)["status"] == "aborted"
        assert reply(await first.read())["ename"] == "ZeroDivisionError"
    assert [each["state"] for each in await listed(agent)] == ["failed", "aborted"]


async def test_input_is_refused_unless_the_client_answers(agent: Agent) -> None:
    """The kernel's own reason; a prompt is answered once."""
    refused = await run(agent, "input('who? ')")
    assert reply(refused)["ename"] == "StdinNotImplementedError"
    async with execute(agent, "name = input('who? ')\nname", allow_stdin=True) as stream:
        prompt = await stream.until(msg_type="input_request")
        assert (prompt["channel"], prompt["content"]["prompt"]) == ("stdin", "who? ")
        assert (await listed(agent))[-1]["awaits_input"]
        path = f"/v1/executions/{stream.msg_id}/input"
        answers = [agent.request("POST", path, {"value": "Ada"}) for _ in range(5)]
        statuses = [status for status, _ in await asyncio.gather(*answers)]
        assert sorted(statuses) == [204, 409, 409, 409, 409]
        records = await stream.read()
    result = next(each for each in records if each.get("msg_type") == "execute_result")
    assert result["content"]["data"]["text/plain"] == "'Ada'"


async def test_client_with_the_session_of_executions_gets_no_prompt(
    agent: Agent, tmp_path: Path
) -> None:
    """Its message is dropped; the prompt and the reply come in the stream alone."""
    code = f"{wait_for(tmp_path / 'go')}input('who? ')"
    async with execute(agent, code, allow_stdin=True) as stream:
        await stream.until(content={"execution_state": "busy"})
        (execution,) = await listed(agent)
        client = await agent.connect("s", header_session=execution["session"])
        await client.send("kernel_info_request", channel="control")
        client.header_session = "other"
        await client.finish(await client.send("kernel_info_request", channel="control"))
        (tmp_path / "go").touch()
        await stream.until(msg_type="input_request")
        path = f"/v1/executions/{stream.msg_id}/input"
        assert (await agent.request("POST", path, {"value": "Ada"}))[0] == 204
        assert reply(await stream.read())["status"] == "ok"
    await client.execute("1")
    answered = {message.parent_id for message in client.received if message.channel != "iopub"}
    assert stream.msg_id not in answered
    await client.socket.close()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL"),
        ("import os\nos._exit(3)", "exited with code 3"),
    ],
)
async def test_death_ends_the_stream_with_the_reason(
    agent: Agent, tmp_path: Path, code: str, reason: str
) -> None:
    """Of the running one and of the queued ones."""
    async with execute(agent, wait_for(tmp_path / "go") + code) as first:
        await first.until(content={"execution_state": "busy"})
        second = asyncio.create_task(run(agent, "2"))
        await until_queued(agent, 2)
        (tmp_path / "go").touch()
        content = reply(await first.read())
        assert reply(await second)["status"] == "error"
    assert content["ename"] == "KernelDied"
    assert reason in content["evalue"]


@pytest.mark.parametrize("verb", ["restart", "shutdown"])
async def test_restart_and_shutdown_end_the_stream(agent: Agent, verb: str) -> None:
    """With an error that says what was done."""
    async with execute(agent, PRINT_AND_SLEEP) as stream:
        await stream.until(msg_type="stream")
        done = asyncio.create_task(agent.request("POST", f"/v1/{verb}"))
        content = reply(await stream.read())
    assert content["status"] == "error"
    assert (await done)[0] in {200, 204}


async def test_websocket_executions_are_listed_and_can_be_followed(agent: Agent) -> None:
    """With session, state, times and sizes."""
    client = await agent.connect("browser")
    await client.execute("print('x' * 1000)")
    (one,) = await listed(agent)
    assert (one["session"], one["state"]) == (client.header_session, "done")
    assert one["queued"] <= one["started"] <= one["ended"]
    assert one["messages"] == 3  # input, stream, reply
    assert one["bytes"] > 1000
    async with follow(agent, one["msg_id"]) as stream:
        assert stdout(await stream.read()) == "x" * 1000 + "\n"


async def test_large_output_reaches_a_client_that_reads_slowly(agent: Agent) -> None:
    """One message of 20 MB and many small ones behind it."""
    code = "print('x' * 20_000_000, flush=True)\n" + LINES.format(2000)
    async with execute(agent, code) as stream:
        await stream.until(event="execution")
        await eventually(lambda: is_done(agent))
        assert stdout(await stream.read()) == "x" * 20_000_000 + "\n" + numbered(2000)


async def test_output_larger_than_the_log_reaches_a_client_that_reads(agent: Agent) -> None:
    """As a WebSocket client gets it."""
    async with execute(agent, "print('x' * 70_000_000)") as stream:
        records = await stream.read()
    assert len(stdout(records)) == 70_000_001
    assert reply(records)["status"] == "ok"


async def is_done(agent: Agent) -> bool:
    """Whether the last execution has ended."""
    return (await listed(agent))[-1]["ended"] is not None


async def test_client_that_leaves_stops_nothing(agent: Agent) -> None:
    """The cell goes on; the agent keeps nothing of the connection."""
    async with execute(agent, SLOW_LINES.format(50, 0.02)) as stream:
        await stream.until(msg_type="stream")
        stream.response.close()
    await eventually(lambda: is_done(agent))
    async with follow(agent, stream.msg_id) as again:
        assert stdout(await again.read()) == numbered(50)


BAD_BODIES: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 400, "code is missing"),
    "not JSON": (b"{", 400, "not JSON"),
    "not an object": (b"[]", 400, "not a JSON object"),
    "not UTF-8": (b'{"code": "\xff"}', 400, "not JSON"),
    "deep": (b'{"code": ' + b"[" * 30_000, 400, "not JSON"),
    "code is null": (b'{"code": null}', 400, "code is missing"),
    "code is a number": (b'{"code": 5}', 400, "code is not a string"),
    "flag is a number": (b'{"code": "", "stop_on_error": 1}', 400, "is not a boolean"),
    "no timeout": (b'{"code": "", "timeout": 0}', 400, "timeout is not"),
    "timeout is a flag": (b'{"code": "", "timeout": true}', 400, "timeout is not"),
    "timeout is NaN": (b'{"code": "", "timeout": NaN}', 400, "timeout is not"),
    "timeout is huge": (b'{"code": "", "timeout": 1e999}', 400, "timeout is not"),
    "unknown field": (b'{"code": "", "sesion": "x"}', 400, "unknown field: sesion"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
async def test_malformed_bodies_are_refused(agent: Agent, name: str) -> None:
    """And the kernel is asked nothing."""
    body, expected, text = BAD_BODIES[name]
    status, answer = await agent.request("POST", "/v1/execute", data=body)
    assert status == expected
    assert text in answer["message"]
    assert await listed(agent) == []


async def test_requests_that_make_no_sense_are_refused(agent: Agent) -> None:
    """Each with its own status."""

    async def ask(method: str, path: str, **kwargs: Any) -> int:
        return (await agent.request(method, path, **kwargs))[0]

    code = {"code": "1"}
    assert await ask("POST", "/v1/execute", body=code, headers={"Accept": "text/html"}) == 406
    for key in ("", " ", "x" * 256, "\xe9"):
        assert await ask("POST", "/v1/execute", body=code, headers={"Idempotency-Key": key}) == 400
    assert await ask("GET", "/v1/execute") == 405
    assert await ask("GET", "/v1/executions/unknown") == 404
    assert await ask("GET", "/v1/executions/") == 404
    assert await ask("POST", "/v1/executions/unknown") == 405
    assert await ask("POST", "/v1/executions/unknown/input", body={"value": ""}) == 404
    records = await run(agent, "1")
    path = f"/v1/executions/{records[0]['msg_id']}"
    assert await ask("POST", f"{path}/input", body={"value": "x"}) == 409
    assert await ask("POST", f"{path}/input", body={"value": 5}) == 400
    for after in ("x", "-1", "1.5", "9" * 30, "%F0%9D%9F%99"):
        assert await ask("GET", f"{path}?after={after}") == 400
    assert await ask("GET", f"{path}?after=999999") == 200


async def test_body_over_the_limit_is_413() -> None:
    """The limit is that of messages from clients."""
    async with Agent(settings={"max_message_bytes": 100_000}) as agent:
        await agent.until_state("idle")
        assert stdout(await run(agent, f"print(len('{'x' * 90_000}'))")) == "90000\n"
        status, answer = await agent.request("POST", "/v1/execute", {"code": "x" * 100_001})
        assert (status, answer["message"]) == (413, "the body exceeds 100000 bytes")


async def test_dead_kernel_executes_nothing() -> None:
    """409 with the reason; what it has executed can still be read."""
    async with Agent(settings={"autorestart": False}) as agent:
        await agent.until_state("idle")
        died = await run(agent, "import os\nos._exit(9)")
        assert reply(died)["ename"] == "KernelDied"
        await agent.until_state("dead")
        status, answer = await agent.request("POST", "/v1/execute", {"code": "1"})
        assert (status, answer["message"]) == (409, "the kernel exited with code 9")
        async with follow(agent, died[0]["msg_id"]) as stream:
            assert (await stream.read())[1:] == died[1:]


async def test_limits_of_the_operator_hold() -> None:
    """Message types that are not allowed, and the largest output."""
    allowed = {"allowed_message_types": ["kernel_info_request"], "max_output_bytes": 5000}
    async with Agent(settings=allowed) as agent:
        await agent.until_state("idle")
        assert (await agent.request("POST", "/v1/execute", {"code": "1"}))[0] == 403
    async with Agent(settings={"max_output_bytes": 5000}) as agent:
        await agent.until_state("idle")
        records = await run(agent, "print('x' * 10_000)")
        (notice,) = [each for each in records if each.get("msg_type") == "stream"]
        assert notice["content"]["name"] == "stderr"
        assert "max_output_bytes" in notice["content"]["text"]


async def test_too_many_unfinished_executions_are_refused(agent: Agent) -> None:
    """503: the kernel may finish some. It executes what it accepted."""
    session = agent.session()
    async with execute(agent, PRINT_AND_SLEEP, stop_on_error=False) as first:
        await first.until(msg_type="stream")
        statuses = []
        for _ in range(256):
            async with session.post("/v1/execute", json={"code": "1"}) as response:
                statuses.append(response.status)
        assert statuses == [200] * 255 + [503]
        await agent.request("POST", "/v1/interrupt")
        assert reply(await first.read())["status"] == "error"
    await eventually(lambda: is_done(agent), deadline=240)
    assert [each["state"] for each in await listed(agent)] == ["failed"] + ["done"] * 255
