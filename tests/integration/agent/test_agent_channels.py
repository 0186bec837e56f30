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
from harness.agent import DEADLINE, FLOOD_KERNEL, Agent, Client, eventually
from harness.channels import Codec, Message, encode_legacy
from harness.messages import is_idle, texts

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
    await other.until(lambda m: m.content.get("execution_state") == "idle")
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


async def test_slow_client_is_told_what_it_lost_and_slows_nobody() -> None:
    """A client that does not read loses display output only; one that reads gets everything."""
    count = 300
    code = (
        "from IPython.display import display\n"
        f"for i in range({count}): display({{'text/plain': f'{{i}}:' + 'x' * 200_000}}, raw=True)"
    )
    async with Agent(settings={"outbox_max_bytes": 20_000_000}) as agent:
        fast = await agent.connect("fast")
        slow = await agent.connect("slow")
        await fast.execute("1")
        await slow.until(lambda m: m.content.get("execution_state") == "idle")
        slow.transport().pause_reading()
        msg_id = await slow.run(code)
        done = await fast.until(lambda m: is_idle(m, msg_id))
        shown = [m for m in done if m.type == "display_data"]
        labels = [int(m.content["data"]["text/plain"].split(":")[0]) for m in shown]
        assert labels == list(range(count))
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
    settings = {"outbox_max_bytes": 2_000_000, "interrupt_mode": "message"}
    async with Agent(argv=FLOOD_KERNEL, settings=settings) as agent:
        client = await agent.connect("s")
        order = {"messages": 1, "bytes": 1, "marker": ""}
        await client.execute(json.dumps(order))
        client.transport().pause_reading()
        flood = {"messages": count, "bytes": size, "marker": "the end"}
        await client.run(json.dumps(flood))
        await agent.until_state("busy")
        assert (await agent.request("POST", "/v1/restart"))[0] == 200
        client.transport().resume_reading()
        seen = await client.execute(json.dumps(order))
        received = sum(m.content.get("text") == "x" * size for m in seen)
        notices = re.findall(r"\[(\d+) output messages", texts(seen, "stderr"))
        assert received + sum(map(int, notices)) == count
        assert "the end" in texts(seen)


async def test_gateway_client_never_gets_a_binary_frame(agent: Agent) -> None:
    """Tornado without a subprotocol: text without buffers, and one warning a connection."""
    gateway_client = await agent.connect("g", Codec.LEGACY, headers=TORNADO)
    code = (
        "import comm\n"
        "c = comm.create_comm(target_name='x')\n"
        "for _ in range(3): c.send({}, buffers=[b'123'])"
    )
    seen = await gateway_client.execute(code)
    assert [m.type for m in seen].count("comm_msg") == 3
    assert all(m.buffers == () for m in seen)
    assert {frame.type for frame in gateway_client.frames} == {aiohttp.WSMsgType.TEXT}
    assert texts(seen, "stderr").count("cannot receive binary buffers") == 1


async def test_message_too_large_for_tornado_becomes_a_notice(agent: Agent) -> None:
    """What would kill tornado's client is replaced by its size; others get it."""
    tornado = await agent.connect("t", Codec.LEGACY, headers=TORNADO)
    other = await agent.connect("o")
    seen = await tornado.execute("print('x' * 11_000_000)")
    assert texts(seen) == ""
    assert re.search(r"a message of 11\d{6} bytes was left out", texts(seen, "stderr"))
    msg_id = seen[-1].parent_id
    assert len(texts(await other.until(lambda m: is_idle(m, msg_id)))) == 11_000_001


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
    """Bad JSON, unknown channels and wrong offsets cost nobody the connection."""
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
    async with Agent(settings={"iopub_msg_rate_limit": 50}) as agent:
        client = await agent.connect("s")
        seen = await client.execute("for i in range(1000): print(i, flush=True)")
        assert len(texts(seen).split()) < 1000
        assert "output is being dropped" in texts(seen, "stderr")


async def test_pings_ask_for_many_messages_together(agent: Agent) -> None:
    """However singly messages come, a connection gets at most one ping every 10 ms."""
    client = await agent.connect("s", autoping=False)
    await client.run("for i in range(500): print(i, flush=True)\nprint('the' + ' end')")
    started = asyncio.get_running_loop().time()
    pings = 0
    data = b""
    while b"the end" not in data:
        frame = await client.socket.receive(DEADLINE)
        data = frame.data
        if frame.type is aiohttp.WSMsgType.PING:
            pings += 1
            await client.socket.pong(data)
    elapsed = asyncio.get_running_loop().time() - started
    assert 0 < pings <= 1 + elapsed / 0.01


async def test_silent_peer_is_cut_and_keep_alive_reaches_others() -> None:
    """A peer that answers no ping is gone after three intervals; one that does stays."""
    async with Agent(settings={"ping_interval": 0.2}) as agent:
        silent = await agent.connect("silent", autoping=False)
        alive = await agent.connect("alive")
        reading = asyncio.ensure_future(alive.until(lambda _: False))

        async def is_cut() -> bool:
            return bool((await agent.state())["connections"] == 1)

        await eventually(is_cut)
        assert not reading.done()
        reading.cancel()
        await silent.cut()
