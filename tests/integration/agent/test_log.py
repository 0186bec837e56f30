"""The kernel's log, with a real agent: away for long, back without a name, asked again."""

import json
import re
from pathlib import Path
from textwrap import indent

import pytest
from harness.agents.agent import FLOOD_KERNEL, Agent, Client
from harness.agents.messages import is_idle, texts
from harness.waiting import eventually

from jupyter_wire.messages import Codec, Message

pytestmark = pytest.mark.kernel

MEBIBYTE = 1024 * 1024
COUNT_SLOWLY = """
import time
for i in range({count}):
    print(f'line {{i}}\\n', end='', flush=True)
    time.sleep({pause})
"""


def wait_for(file: Path) -> str:
    """Return code that waits for a file."""
    return f"import os, time\nwhile not os.path.exists({str(file)!r}): time.sleep(0.02)\n"


def resident(pid: int, name: str = "VmRSS") -> int:
    """Return the resident memory of a process in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise AssertionError(name)


def open_files(pid: int) -> list[str]:
    """Return the names of the files that a process has open."""
    return [str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir() if one.is_file()]


def owner(path: Path) -> int:
    """Return the user id that owns a file."""
    return path.stat().st_uid


async def reconnect(agent: Agent, client: Client, query: str, codec: Codec = Codec.V1) -> Client:
    """Connect a client again, without or with another query."""
    socket = await agent.session().ws_connect(
        f"/v1/channels{query}",
        protocols=("v1.kernel.websocket.jupyter.org",) if codec is Codec.V1 else (),
        max_msg_size=0,
    )
    return Client(socket, codec, client.header_session)


@pytest.mark.parametrize("codec", list(Codec))
async def test_new_client_is_told_what_runs(agent: Agent, codec: Codec) -> None:
    """At once, in its codec, with the request; when the kernel is idle it is told that."""
    first = await agent.connect("first")
    msg_id = await first.run("import time\nprint('on')\ntime.sleep(60)")
    await first.until(lambda m: m.type == "stream")
    second = await agent.connect("second", codec)
    greeting = await second.receive()
    assert (greeting.type, greeting.content) == ("status", {"execution_state": "busy"})
    assert greeting.parent_id == msg_id
    await agent.request("POST", "/v1/interrupt")
    await second.until(lambda m: is_idle(m, msg_id))
    await first.finish(msg_id)
    third = await agent.connect("third", codec)
    greeting = await third.receive()
    assert (greeting.content, greeting.parent_id) == ({"execution_state": "idle"}, "")


@pytest.mark.parametrize("codec", list(Codec))
async def test_client_without_session_id_gets_what_it_missed(
    agent: Agent, tmp_path: Path, codec: Codec
) -> None:
    """Once it uses its `header.session` again: output, reply and idle, before what is new."""
    watcher = await agent.connect("watcher")
    first = await agent.connect(None, codec, header_session="named")
    lines = COUNT_SLOWLY.format(count=50, pause=0.02)
    pause = f"    if i == 20:\n{indent(wait_for(tmp_path / 'go'), ' ' * 8)}"
    msg_id = await first.run(lines + pause)
    seen = await first.until(lambda m: "line 5\n" in texts([m]))
    await first.cut()
    await watcher.until(lambda m: "line 20\n" in texts([m]))
    second = await reconnect(agent, first, "", codec)
    (tmp_path / "go").touch()
    await watcher.until(lambda m: is_idle(m, msg_id))
    await second.send("kernel_info_request")
    seen += await second.finish(msg_id)
    printed = texts(seen).split("\n")[:-1]
    assert sorted(set(printed), key=lambda line: int(line[5:])) == [f"line {i}" for i in range(50)]
    assert len(printed) < 100
    assert sum(m.type == "execute_reply" for m in seen) == 1


async def test_replay_gives_every_line_of_a_running_cell(agent: Agent) -> None:
    """Also those printed before the client connected; one that does not ask sees the new ones."""
    first = await agent.connect("first")
    code = COUNT_SLOWLY.format(count=20, pause=0) + "input()\nprint('line 20')"
    msg_id = await first.run(code, allow_stdin=True)
    # the prompt may come before the last line: they come on two channels
    while "line 19\n" not in texts(first.received) or not prompts(first):
        await first.receive()
    (prompt,) = prompts(first)
    clients = [
        await reconnect(agent, first, f"?session_id=s{index}&replay={what}", codec)
        for index, (what, codec) in enumerate(
            [("running", Codec.V1), (msg_id, Codec.LEGACY), ("unknown", Codec.V1)]
        )
    ]
    await first.send("input_reply", {"value": ""}, channel="stdin", parent_header=prompt.header)
    await first.finish(msg_id)
    every = [f"line {i}" for i in range(21)]
    for client, expected in zip(clients, (every, every, every[20:]), strict=True):
        seen = await client.until(lambda m: is_idle(m, msg_id))
        assert seen[0].content["execution_state"] == "busy"
        assert texts(seen).split("\n")[:-1] == expected
        types = [m.type for m in seen]
        assert types.count("execute_input") == types.count("input_request") == (expected == every)
    late = await reconnect(agent, first, f"?replay={msg_id}")
    assert texts(await late.finish(msg_id)).split("\n")[:-1] == every


def prompts(client: Client) -> list[Message]:
    """Return the input requests that a client got."""
    return [message for message in client.received if message.type == "input_request"]


async def test_long_replay_is_refused(agent: Agent) -> None:
    """The parameter is not read without end."""
    status, body = await agent.request("GET", f"/v1/channels?replay={'r' * 1025}")
    assert status == 400
    assert "replay" in body["message"]


async def test_output_of_a_long_absence_comes_in_order() -> None:
    """From the disk, while the agent's memory stays within its limit."""
    settings = {"log_memory_bytes": 8 * MEBIBYTE}
    # in steps, since what the agent has not read yet waits in ZeroMQ, beside the log
    steps, messages = 20, 5000
    async with Agent(argv=FLOOD_KERNEL, settings=settings) as agent:
        client = await agent.connect("s")
        watcher = await agent.connect("w")
        await client.execute(json.dumps({"messages": 1, "bytes": 1, "marker": "begin"}))
        await client.cut()
        before = resident(agent.pid)
        flood = {"messages": messages, "bytes": 1000, "marker": "the end"}
        for _ in range(steps):
            await watcher.execute(json.dumps(flood))
            watcher.received.clear()
        back = await reconnect(agent, client, "?session_id=s")
        seen: list[Message] = []
        for _ in range(steps):
            seen += await back.until(lambda m: "the end" in texts([m]))
        numbers = [int(m.header["msg_id"].rpartition("_")[2]) for m in seen if m.type == "stream"]
        assert numbers == sorted(set(numbers))
        # of the two messages before the cut, those that were not acknowledged come again
        assert 0 <= len(numbers) - steps * (messages + 1) <= 2
        assert resident(agent.pid, "VmHWM") - before < (8 + 30) * MEBIBYTE


async def test_spilled_log_can_be_opened_by_no_other_process() -> None:
    """The files have no name, and those of the agent's descriptors belong to root."""
    async with Agent(settings={"log_memory_bytes": MEBIBYTE}) as agent:
        client = await agent.connect("s")
        for _ in range(3):
            await client.execute("print('x' * 3_000_000)")
        assert any(name.endswith("(deleted)") for name in open_files(agent.pid))
        assert owner(Path(f"/proc/{agent.pid}/fd")) == 0


async def test_message_larger_than_the_log_reaches_a_client_that_reads() -> None:
    """One of 70 MB with a log of 10 MiB, and no disk."""
    settings = {"log_memory_bytes": 10 * MEBIBYTE, "log_spill_bytes": 0}
    async with Agent(settings=settings) as agent:
        client = await agent.connect("s")
        seen = await client.execute("print('x' * 70_000_000)")
        assert len(texts(seen)) == 70_000_001
        assert texts(seen, "stderr") == ""


async def test_burst_larger_than_the_memory_reaches_a_client_that_reads() -> None:
    """200 MB at once, with 10 MiB of memory and the disk."""
    async with Agent(settings={"log_memory_bytes": 10 * MEBIBYTE}) as agent:
        client = await agent.connect("s")
        seen = await client.execute("for _ in range(200): print('x' * 1_000_000)")
        assert len(texts(seen)) == 200 * 1_000_001
        assert texts(seen, "stderr") == ""


async def test_old_output_goes_and_its_reply_stays(tmp_path: Path) -> None:
    """A client that comes back later than the age limit is told how much is missing."""
    async with Agent(settings={"log_max_age": 1.0}) as agent:
        client = await agent.connect("s")
        await client.execute("1")
        code = "for i in range(20): print('old', flush=True)"
        msg_id = await client.run(wait_for(tmp_path / "away") + code)
        await client.until(lambda m: m.type == "execute_input")
        await client.cut()
        (tmp_path / "away").touch()
        await agent.until_state("idle")

        async def is_gone() -> bool:
            replayed = await reconnect(agent, client, f"?replay={msg_id}")
            seen = await replayed.finish(msg_id)
            await replayed.socket.close()
            return "old" not in texts(seen)

        await eventually(is_gone)
        back = await reconnect(agent, client, "?session_id=s")
        seen = await back.finish(msg_id)
        assert "old" not in texts(seen)
        told = re.findall(r"\[(\d+) output messages", texts(seen, "stderr"))
        assert sum(map(int, told)) >= 20
