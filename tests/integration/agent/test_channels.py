"""Kernel messages through the agent: codecs, sessions, resending, slow clients."""

import asyncio
import json
import os
import re
import resource
import signal
import uuid
from pathlib import Path

import aiohttp
import pytest
from harness.agents.agent import DEADLINE, FLOOD_KERNEL, Agent, Client
from harness.agents.messages import is_idle, texts
from harness.gateways.gateway import find_free_port
from harness.waiting import eventually
from jupyter_client.manager import start_new_async_kernel
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from jupyter_wire.messages import V1_SUBPROTOCOL, Codec, Message, encode_legacy

pytestmark = pytest.mark.kernel

TORNADO = {"User-Agent": "Tornado/6.5"}


async def test_two_codecs_at_once_both_see_the_result(agent: Agent) -> None:
    """A v1 and a legacy client see the same output; the reply goes to the one that asked."""
    modern = await agent.connect("modern", Codec.V1)
    legacy = await agent.connect("legacy", Codec.LEGACY)
    for asking, watching in ((modern, legacy), (legacy, modern)):
        msg_id = await asking.run("1 + 1")
        seen = await asking.finish(msg_id)
        results = [m for m in seen if m.type == "execute_result"]
        assert [m.content["data"]["text/plain"] for m in results] == ["2"]
        assert [m.channel for m in seen if m.type == "execute_reply"] == ["shell"]
        watched = await watching.until(
            lambda m, wanted=msg_id: (
                m.parent_id == wanted and m.content.get("execution_state") == "idle"
            )
        )
        assert "execute_result" in [m.type for m in watched]
        assert "execute_reply" not in [m.type for m in watched]


async def test_buffers_travel_both_ways_in_both_codecs(agent: Agent) -> None:
    """Binary buffers of a comm reach the kernel and come back unchanged."""
    setup = (
        "import comm\n"
        "def opened(c, m):\n"
        "    c.on_msg(lambda m: c.send({}, buffers=[bytes(b) for b in m['buffers']]))\n"
        "comm.get_comm_manager().register_target('echo', opened)"
    )
    buffers = (b"\x00\xff" * 10, b"", b"abc")
    for codec in Codec:
        client = await agent.connect(f"s-{codec.value}", codec)
        await client.execute(setup)
        comm_id = uuid.uuid4().hex
        await client.send("comm_open", {"comm_id": comm_id, "target_name": "echo", "data": {}})
        await client.send("comm_msg", {"comm_id": comm_id, "data": {}}, buffers=buffers)
        seen = await client.until(lambda m: m.type == "comm_msg")
        assert seen[-1].buffers == buffers


async def test_request_sent_at_once_loses_no_output() -> None:
    """A request that a client sends before the kernel is up gets all of its output."""
    async with Agent() as agent:
        client = await agent.connect("early")
        seen = await client.execute("print('first')")
        assert texts(seen) == "first\n"
        states = [m.content["execution_state"] for m in seen if m.type == "status"]
        assert states[-2:] == ["busy", "idle"]


async def test_header_session_may_differ_from_session_id(agent: Agent) -> None:
    """Replies find the client that asked, whatever `header.session` and `session_id` are."""
    first = await agent.connect("one", header_session="h1")
    second = await agent.connect(None, header_session="h2")
    for client in (first, second):
        await client.execute("1")
    assert [m.type for m in first.received].count("execute_reply") == 1
    assert [m.type for m in second.received].count("execute_reply") == 1


async def test_input_request_reaches_its_client_only_and_survives_a_cut(agent: Agent) -> None:
    """A pending prompt is shown again after a reconnect, and never to others."""
    asking = await agent.connect("asking")
    other = await agent.connect("other")
    msg_id = await asking.run("print('got', input('name? '))", allow_stdin=True)
    await asking.until(lambda m: m.type == "input_request")
    await asking.cut()
    asking = await agent.connect("asking")
    request = (await asking.until(lambda m: m.type == "input_request"))[-1]
    assert request.content["prompt"] == "name? "
    await asking.send(
        "input_reply", {"value": "ann"}, channel="stdin", parent_header=request.header
    )
    assert "got ann" in texts(await asking.finish(msg_id))
    await other.until(lambda m: is_idle(m, msg_id))
    assert "input_request" not in [m.type for m in other.received]


async def test_reply_that_came_while_disconnected_is_delivered(agent: Agent) -> None:
    """Output and reply of a cell that ended without a client are there after the reconnect."""
    client = await agent.connect("s")
    msg_id = await client.run("import time; time.sleep(0.5); print('done')")
    await client.until(lambda m: m.type == "execute_input")
    await client.cut()
    await agent.until_state("idle")
    client = await agent.connect("s")
    assert "done" in texts(await client.finish(msg_id))


async def read_numbers(client: Client, numbers: list[int], *, stop_after: int) -> bool:
    """Read printed numbers; return whether the last one was seen."""
    while len(numbers) < stop_after:
        message = await client.receive()
        if message.type == "stream":
            numbers += [int(word) for word in message.content["text"].split()]
        elif message.type == "execute_reply":
            return True
    return False


@pytest.mark.parametrize("codec", list(Codec))
async def test_flood_survives_cut_connections_without_loss(agent: Agent, codec: Codec) -> None:
    """Cut again and again under a flood, a client gets every number in order; repeats only."""
    count = 3000
    code = (
        "import sys\n"
        f"for i in range({count}):\n"
        "    sys.stdout.write(f'{i}\\n'); sys.stdout.flush()\n"
    )
    for _ in range(10):
        session_id = uuid.uuid4().hex
        client = await agent.connect(session_id, codec)
        msg_id = await client.run(code)
        numbers: list[int] = []
        for cut_at in (100, 700, 701, 2000):
            await read_numbers(client, numbers, stop_after=cut_at)
            await client.cut()
            client = await agent.connect(session_id, codec)
        await read_numbers(client, numbers, stop_after=10 * count)
        if numbers[-1] != count - 1:
            await client.until(lambda m, wanted=msg_id: is_idle(m, wanted))
            late = texts(client.received).split()
            numbers += [int(word) for word in late]
        seen: list[int] = []
        for number in numbers:
            assert number <= len(seen), f"gap before {number}"
            if number == len(seen):
                seen.append(number)
        assert seen == list(range(count))
        await client.cut()


async def test_kernel_that_prints_on_while_the_agent_stands_still_loses_nothing(
    agent: Agent, tmp_path: Path
) -> None:
    """A busy machine may not run the agent for long; all that was printed meanwhile comes then."""
    count, done = 1900, tmp_path / "done"
    line = "x" * 10_000  # so that the network holds little of it
    client = await agent.connect("s")
    await client.execute("import pathlib, sys")
    msg_id = await client.run(
        f"print('printing', flush=True)\n"
        f"for number in range({count}):\n"
        f"    sys.stdout.write(f'{{number}} {line}\\n'); sys.stdout.flush()\n"
        f"pathlib.Path({str(done)!r}).touch()"
    )
    await client.until(lambda m: m.type == "stream")
    os.kill(agent.pid, signal.SIGSTOP)
    try:
        await eventually(done.exists, deadline=DEADLINE)
    finally:
        os.kill(agent.pid, signal.SIGCONT)
    await client.finish(msg_id)
    numbers = re.findall(r"^(\d+) x+$", texts(client.received), re.MULTILINE)
    assert [int(number) for number in numbers] == list(range(count))


async def test_kernel_has_no_trace_of_the_agent(agent: Agent) -> None:
    """Its namespace, history and execution count are those of a kernel of Jupyter's own."""
    code = (
        "import sys\n"
        "shell = get_ipython()\n"
        "print([sorted(dir()), In, list(shell.history_manager.get_range()),\n"
        "       shell.execution_count, repr(shell.user_ns['_'])])"
    )
    client = await agent.connect("s")
    seen = texts(await client.execute(code))
    manager, stock = await start_new_async_kernel()
    printed: list[str] = []
    try:
        await stock.execute_interactive(
            code, output_hook=lambda m: printed.append(m["content"].get("text", ""))
        )
    finally:
        stock.stop_channels()
        await manager.shutdown_kernel(now=True)
    assert seen == "".join(printed)
    assert "get_ipython" in seen


async def test_second_connection_takes_the_session_over(agent: Agent) -> None:
    """The same `session_id` again: the first WebSocket is closed, the second one goes on."""
    first = await agent.connect("s")
    second = await agent.connect("s")
    with pytest.raises(ConnectionError):
        await first.until(lambda _: False)
    assert texts(await second.execute("print(1)")) == "1\n"
    assert (await agent.state())["connections"] == 1


async def test_session_without_id_ends_with_its_connection(agent: Agent) -> None:
    """Without `session_id` nothing is kept for a client that is gone."""
    first = await agent.connect(None)
    await first.execute("print('secret')")
    await first.cut()
    second = await agent.connect(None)
    await second.execute("1")
    assert "secret" not in texts(second.received)


async def test_slow_client_is_told_what_it_lost_and_slows_no_other(tmp_path: Path) -> None:
    """A client that does not read loses display output only; one that reads gets everything."""
    count, step = 300, 25
    # each step waits for the client that reads: the log has room for four of them
    code = (
        "import os, time\n"
        "from IPython.display import display\n"
        f"for i in range({count}):\n"
        f"    while not os.path.exists(f'{tmp_path}/{{i // {step}}}'): time.sleep(0.01)\n"
        "    display({'text/plain': f'{i}:' + 'x' * 200_000}, raw=True)"
    )
    async with Agent(settings={"log_memory_bytes": 20_000_000, "log_spill_bytes": 0}) as agent:
        fast = await agent.connect("fast")
        slow = await agent.connect("slow")
        await fast.execute("1")
        await slow.until(lambda m: m.content.get("execution_state") == "idle")
        slow.transport().pause_reading()
        msg_id = await slow.run(code)
        for number in range(count):
            if number % step == 0:
                (tmp_path / str(number // step)).touch()
            *_, shown = await fast.until(lambda m: m.type == "display_data")
            assert shown.content["data"]["text/plain"].startswith(f"{number}:")
        await fast.until(lambda m: is_idle(m, msg_id))
        slow.transport().resume_reading()
        late = await slow.finish(msg_id)
        received = [m for m in late if m.type == "display_data"]
        assert 0 < len(received) < count
        notices = re.findall(r"\[(\d+) output messages", texts(late, "stderr"))
        assert sum(map(int, notices)) == count - len(received)


async def test_large_messages_of_a_blocking_kernel_all_arrive() -> None:
    """A kernel that waits for its reader loses nothing, however fast it is."""
    async with Agent(argv=FLOOD_KERNEL) as agent:
        client = await agent.connect("s")
        order = {"messages": 200, "bytes": 1_000_000, "marker": "the end"}
        seen = await client.finish(await client.run(json.dumps(order)))
        assert [m.type for m in seen].count("display_data") == 200
        assert "the end" in texts(seen)


async def test_last_output_of_a_flooding_kernel_is_not_lost_unseen() -> None:
    """What a kernel sent before its end arrives or is counted, though its client does not read."""
    count, size = 900, 20_000
    settings = {
        "log_memory_bytes": 2_000_000,
        "log_spill_bytes": 0,
        "interrupt_mode": "message",
        "shutdown_wait_time": 60.0,
    }
    async with Agent(argv=FLOOD_KERNEL, settings=settings) as agent:
        client = await agent.connect("s")
        order = {"messages": 1, "bytes": 1, "marker": ""}
        await client.execute(json.dumps(order))
        client.transport().pause_reading()
        flood = {"messages": count, "bytes": size, "marker": "the end"}
        async with agent.events() as events:
            await client.run(json.dumps(flood))
            await events.until_state("busy")
        assert (await agent.request("POST", "/v1/restart"))[0] == 200
        client.transport().resume_reading()
        seen = await client.execute(json.dumps(order))
        received = sum(m.content.get("text") == "x" * size for m in seen)
        notices = re.findall(r"\[(\d+) output messages", texts(seen, "stderr"))
        # the agent's own word about the restart is output of the cell, and may be lost with it
        is_told = "is being restarted" in texts(seen, "stderr")
        assert received + sum(map(int, notices)) - count in ((0,) if is_told else (0, 1))
        assert "the end" in texts(seen)


async def test_gateway_client_never_gets_a_binary_frame(agent: Agent) -> None:
    """Tornado without a subprotocol: text without buffers, and a notice under each such cell."""
    gateway_client = await agent.connect("g", Codec.LEGACY, headers=TORNADO)
    code = (
        "import comm\n"
        "c = comm.create_comm(target_name='x')\n"
        "c.on_msg(lambda m: c.send({}, buffers=[b'4']))\n"
        "for _ in range(3): c.send({}, buffers=[b'123'])\n"
        "print(c.comm_id)"
    )
    for _ in range(2):
        seen = await gateway_client.execute(code)
        assert [m.type for m in seen].count("comm_msg") == 3
        assert all(m.buffers == () for m in seen)
        notices = [m for m in seen if "Binary data was left out" in texts([m], "stderr")]
        assert [m.parent_id for m in notices] == [seen[-1].parent_id]
        moved = await gateway_client.send(
            "comm_msg", {"comm_id": texts(seen).strip(), "data": {}}, channel="shell"
        )
        answer = await gateway_client.until(lambda m, wanted=moved: is_idle(m, wanted))
        assert [m.type for m in answer].count("comm_msg") == 1
        assert texts(answer, "stderr") == ""
    assert {frame.type for frame in gateway_client.frames} == {aiohttp.WSMsgType.TEXT}


async def test_client_that_sends_binary_gets_binary(agent: Agent) -> None:
    """A client of which nothing is known gets text, and buffers once it sent a binary frame."""
    client = await agent.connect("u", Codec.LEGACY, headers={"User-Agent": "unknown/1"})
    code = (
        "import comm\n"
        "comm.get_comm_manager().register_target('x', lambda c, m: None)\n"
        "comm.create_comm(target_name='x', buffers=[b'12'])"
    )
    seen = await client.execute(code)
    assert [m.buffers for m in seen if m.type == "comm_open"] == [()]
    content = {"comm_id": "1", "target_name": "x", "data": {}}
    await client.send("comm_open", content, buffers=[b"3"])
    seen = await client.execute(code)
    assert [m.buffers for m in seen if m.type == "comm_open"] == [(b"12",)]


async def test_message_too_large_for_tornado_becomes_a_notice(agent: Agent) -> None:
    """What would kill tornado's client is replaced by its size and what to do; others get it."""
    tornado = await agent.connect("t", Codec.LEGACY, headers=TORNADO)
    other = await agent.connect("o")
    seen = await tornado.execute("print('x' * 11_000_000)")
    assert texts(seen) == ""
    told = texts(seen, "stderr")
    assert re.search(r"A message of 10.5 MiB \(11,\d{3},\d{3} bytes\) was left out", told)
    assert "takes is 10.0 MiB (10,485,760 bytes)" in told
    assert "lower dpi" in told
    msg_id = seen[-1].parent_id
    assert len(texts(await other.until(lambda m: is_idle(m, msg_id)))) == 11_000_001


@pytest.mark.parametrize(
    ("max_msg_size", "code"),
    [
        (65536, "print('x' * 200_000)"),
        (4 * 2**20, "from IPython.display import HTML\nHTML('x' * 5_000_000)"),
        (65536, "for n in range(20): print('x' * (70_000 + n), flush=True)"),
        (100_000, "'x' * 120_000"),
    ],
)
@pytest.mark.parametrize("codec", [Codec.V1, Codec.LEGACY])
async def test_client_that_closes_on_a_large_message_comes_back_to_a_notice(
    agent: Agent, codec: Codec, max_msg_size: int, code: str
) -> None:
    """It gets reply, idle and everything smaller after few reconnections, and then stays."""

    async def connect() -> Client:
        return await agent.connect("small", codec, header_session="h", max_msg_size=max_msg_size)

    client = await connect()
    msg_id = await client.run(code)
    closes = 0
    seen: list[Message] = []
    # what came before a connection broke, and was acknowledged, does not come again
    while not (any(is_idle(m, msg_id) for m in seen) and "execute_reply" in [m.type for m in seen]):
        try:
            seen.append(await client.receive())
        except ConnectionError:
            assert client.socket.close_code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
            closes += 1
            assert closes <= 4
            await client.cut()
            client = await connect()
    assert closes >= 1
    told = texts(seen, "stderr")
    assert "was left out" in told
    assert "docs/clients.md" in told
    assert texts(await client.execute("print(1 + 1)")) == "2\n"
    await client.cut()


async def test_client_that_drops_its_connection_at_large_messages_gets_the_others(
    agent: Agent,
) -> None:
    """Without a word: what it cannot take is found out by where its connections break."""
    limit = 4 * 2**20
    client = await agent.connect("small", header_session="h")
    sizes = (5_000_000, 7_000_000, 100, 6_000_000, 3_000_000)
    code = f"for size in {sizes}: print('x' * size, flush=True)\n'y' * 8_000_000"
    msg_id = await client.run(code)
    seen: list[Message] = []
    breaks = 0
    awaited = {"execute_reply", "idle"}
    while awaited:
        message = await client.receive()
        if len(client.frames[-1].data) > limit:
            breaks += 1
            # two, and one more whenever the next connection comes before the agent sees the break
            assert breaks <= 6
            client.transport().abort()
            await client.socket.close()
            client = await agent.connect("small", header_session="h")
        elif message.parent_id == msg_id:
            seen.append(message)
            awaited -= {message.type, str(message.content.get("execution_state"))}
    printed = {len(text) for text in texts(seen).split("\n")}
    assert {100, 3_000_000} <= printed
    assert not printed & {5_000_000, 6_000_000, 7_000_000}
    assert texts(seen, "stderr").count("was left out") == 4
    await client.cut()


async def test_message_that_the_gateway_does_not_allow_becomes_a_notice() -> None:
    """With `max_output_bytes`; the notice names the setting, and the reply still comes."""
    async with Agent(settings={"max_output_bytes": 100_000}) as agent:
        client = await agent.connect("s")
        seen = await client.execute("print('x' * 200_000)")
        assert texts(seen) == ""
        assert texts(await client.execute("print('y' * 1000)")) == "y" * 1000 + "\n"
        assert "setting max_output_bytes" in texts(seen, "stderr")


async def test_client_that_pings_and_does_not_read_costs_no_memory(agent: Agent) -> None:
    """It gets the answer to its latest ping once it reads again, and loses nothing."""
    client = await agent.connect("deaf", autoping=False)
    client.transport().pause_reading()
    other = await agent.connect("other")
    seen = await other.execute("for n in range(40): print('x' * 100_000, flush=True)")
    assert len(texts(seen)) == 40 * 100_001
    before = resident_bytes(agent)
    count = 60_000
    for number in range(count):
        await client.socket.ping(b"%120d" % number)
    # another client's round trip: the agent has gone on since
    await other.execute("print('done')")
    assert resident_bytes(agent) < before + 4_000_000
    client.transport().resume_reading()
    pongs: list[int] = []
    while not pongs or pongs[-1] != count - 1:
        frame = await client.socket.receive(DEADLINE)
        if frame.type is aiohttp.WSMsgType.PONG:
            pongs.append(int(frame.data))
        elif frame.type is aiohttp.WSMsgType.PING:
            await client.socket.pong(frame.data)
    assert pongs == sorted(set(pongs))
    assert len(pongs) < count // 2


async def test_tornado_that_speaks_v1_gets_what_it_takes() -> None:
    """Its limit is not known: it breaks off at a message over it, and later gets the notice."""
    async with Agent(listen=f"tcp:127.0.0.1:{find_free_port()}") as agent:
        await agent.until_state("idle")
        other = await agent.connect("other")
        received = b""
        connections = 0
        while b"was left out" not in received:
            connections += 1
            assert connections < 5
            request = HTTPRequest(
                f"{agent.url().replace('http', 'ws')}/v1/channels?session_id=t",
                headers={"Authorization": f"Bearer {agent.token}"},
            )
            client = await websocket_connect(request, subprotocols=[V1_SUBPROTOCOL])
            if connections == 1:
                await other.run("print('x' * 11_000_000)")
            while b"was left out" not in received:
                data = await client.read_message()
                if data is None:
                    break
                assert isinstance(data, bytes)
                received += data
            client.close()
        assert connections > 1
        assert b"x" * 1000 not in received


async def test_clients_with_the_same_header_session_get_their_own_replies(agent: Agent) -> None:
    """The connection that sent a request gets its reply, even if both sessions are named ""."""
    setup = await agent.connect("setup")
    await setup.execute("pass")
    first = await agent.connect()
    second = await agent.connect("b")
    first.header_session = second.header_session = ""
    slow = await first.run("input('name')", allow_stdin=True)
    asked = (await first.until(lambda m: m.type == "input_request"))[-1]
    quick = await second.send("kernel_info_request", channel="control")
    seen = await second.until(lambda m: m.type == "kernel_info_reply")
    assert seen[-1].parent_id == quick
    await first.send("input_reply", {"value": "ann"}, channel="stdin", parent_header=asked.header)
    replies = [m for m in await first.finish(slow) if m.type == "execute_reply"]
    assert [m.parent_id for m in replies] == [slow]
    msg_id = await second.run("1")
    replies = [m for m in await second.finish(msg_id) if m.type == "execute_reply"]
    assert [m.parent_id for m in replies] == [msg_id]


async def test_text_frame_that_begins_with_zero_is_legacy_binary(agent: Agent) -> None:
    """Jupyter servers forward a browser's binary messages as text frames; they are understood."""
    client = await agent.connect("z", Codec.LEGACY)
    header = {
        "msg_id": "m",
        "msg_type": "execute_request",
        "session": "z",
        "username": "test",
        "date": "2026-01-01T00:00:00Z",
        "version": "5.4",
    }
    content = {"code": "print('understood')"}
    data = encode_legacy(Message("shell", header, {}, {}, content, (b"\xff\xfe",)))
    assert isinstance(data, bytes)
    await client.socket._writer.send_frame(data, aiohttp.WSMsgType.TEXT)
    assert "understood" in texts(await client.finish("m"))


async def test_malformed_messages_are_dropped_and_the_connection_goes_on(agent: Agent) -> None:
    """Bad JSON, unknown channels and wrong offsets cost no client its connection."""
    legacy = await agent.connect("l", Codec.LEGACY)
    modern = await agent.connect("m", Codec.V1)
    for text in ("", "{", "[]", "null", '{"header": []}', '{"header": {}, "channel": "shell"}'):
        await legacy.socket.send_str(text)
    await legacy.send("execute_request", {"code": "1"}, channel="iopub")
    await legacy.send("execute_request", {"code": "1"}, channel="nonsense")
    await legacy.socket.send_str("[" * 100_000)
    for data in (b"", b"\1", b"\xff" * 8, b"\6" + b"\0" * 7 + b"\xff" * 48, b"\0\0\0\1"):
        await modern.socket.send_bytes(data)
    assert texts(await legacy.execute("print(1)")) == "1\n"
    assert texts(await modern.execute("print(2)")).endswith("2\n")


async def test_kernel_that_takes_nothing_holds_its_clients_back(agent: Agent) -> None:
    """What clients send to a stuck kernel is bounded; all of it arrives when the kernel goes on."""
    client = await agent.connect("s")
    pid = int(texts(await client.execute("import os; print(os.getpid())")))
    os.kill(pid, signal.SIGSTOP)
    before = resident_bytes(agent)
    count = 100
    sending = asyncio.create_task(send_comm_infos(client, count))
    await eventually(lambda: resident_bytes(agent) > before + 15_000_000)
    other = await agent.connect("other")
    assert not sending.done()
    assert resident_bytes(agent) < before + 150_000_000
    os.kill(pid, signal.SIGCONT)
    await client.until(lambda _: replies(client) == count)
    await sending
    assert "alive" in texts(await other.execute("print('alive')"))


async def send_comm_infos(client: Client, count: int) -> None:
    """Send requests of 2 MB whose answers are small."""
    for _ in range(count):
        await client.send("comm_info_request", {"target_name": "x" * 2_000_000})


def replies(client: Client) -> int:
    """Count the answers to those."""
    return [message.type for message in client.received].count("comm_info_reply")


def resident_bytes(agent: Agent) -> int:
    """Return how much memory the agent has."""
    pages = int(Path(f"/proc/{agent.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


async def test_types_that_are_not_allowed_do_not_reach_the_kernel() -> None:
    """With `allowed_message_types` others are dropped."""
    allowed = ["kernel_info_request"]
    async with Agent(settings={"allowed_message_types": allowed}) as agent:
        client = await agent.connect("s")
        await client.run("print('no')")
        await client.finish(await client.send("kernel_info_request"))
        assert "no" not in texts(client.received)


async def test_tracebacks_are_hidden_if_not_allowed() -> None:
    """With `allow_tracebacks` false neither output nor reply tells of the exception."""
    async with Agent(settings={"allow_tracebacks": False}) as agent:
        client = await agent.connect("s")
        seen = await client.execute("raise ValueError('hush')")
        assert "hush" not in str([m.content for m in seen if m.type != "execute_input"])
        (error,) = (m for m in seen if m.type == "error")
        assert error.content["ename"] == "ExecutionError"


async def test_rate_limit_drops_output_and_says_so() -> None:
    """With a message rate limit a flood is cut short with a notice; status always passes."""
    async with Agent(settings={"iopub_msg_rate_limit": 5}) as agent:
        client = await agent.connect("s")
        seen = await client.execute("for i in range(1000): print(i, flush=True)")
        assert len(texts(seen).split()) < 1000
        assert "output is being dropped" in texts(seen, "stderr")


async def test_pings_ask_for_many_messages_together(agent: Agent) -> None:
    """However singly messages come, a connection gets at most one ping every 50 ms."""
    client = await agent.connect("s", autoping=False)
    started = asyncio.get_running_loop().time()
    await client.run("for i in range(500): print(i, flush=True)\nprint('the' + ' end')")
    pings = 0
    data = b""
    while b"the end" not in data or not pings:
        frame = await client.socket.receive(DEADLINE)
        if frame.type is aiohttp.WSMsgType.PING:
            pings += 1
            await client.socket.pong(frame.data)
        else:
            data = frame.data
    elapsed = asyncio.get_running_loop().time() - started
    assert pings <= 1 + elapsed / 0.05


async def test_silent_peer_does_not_count_but_keeps_its_connection() -> None:
    """A client that reads nothing between two cells goes on where it was."""
    async with Agent(settings={"ping_interval": 0.2}) as agent:
        silent = await agent.connect("silent", autoping=False)
        alive = await agent.connect("alive")
        await alive.execute("1")
        reading = asyncio.ensure_future(alive.until(lambda _: False))

        async def count() -> int:
            state = await agent.state()
            assert state["websockets"] == 2
            return int(state["connections"])

        async def is_alone() -> bool:
            return await count() == 1

        await eventually(is_alone)
        frame = await silent.socket.receive(DEADLINE)
        while frame.type is not aiohttp.WSMsgType.PING:
            frame = await silent.socket.receive(DEADLINE)

        async def is_back() -> bool:
            await silent.socket.pong(frame.data)
            return await count() == 2

        await eventually(is_back)
        request = await silent.run("print('still here')")
        received: list[aiohttp.WSMessage] = []
        while not any(
            frame.type is aiohttp.WSMsgType.BINARY and b"still here" in frame.data
            for frame in received
        ):
            received.append(await silent.socket.receive(DEADLINE))
            assert received[-1].type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.PING)
        assert request.encode() in received[-1].data
        assert not reading.done()
        reading.cancel()
        await silent.cut()

        async def is_closed() -> bool:
            return bool((await agent.state())["websockets"] == 1)

        await eventually(is_closed)


async def test_kernel_is_culled_although_a_silent_connection_is_open() -> None:
    """A client that answers no ping does not keep an idle kernel alive."""
    async with Agent(settings={"ping_interval": 0.2}) as agent:
        client = await agent.connect("s")
        await client.execute("1")
        settings = {"cull_idle_timeout": 1.0, "cull_interval": 0.1}
        assert (await agent.request("PUT", "/v1/culling", settings))[0] == 204
        # nothing reads from now on, and so nothing answers
        assert await agent.wait() == 0
        await client.cut()
