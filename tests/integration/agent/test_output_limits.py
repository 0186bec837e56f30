"""Output beyond what the agent keeps: a client that reads gets it; unread, it does no harm."""

from pathlib import Path

import pytest
from harness.agents.agent import Agent
from harness.agents.control_group import limited_memory
from harness.agents.messages import is_idle, statuses, texts
from harness.clients.cells import publish_megabytes
from harness.waiting import eventually

from jupyter_wire.messages import Codec

pytestmark = pytest.mark.kernel

MEGABYTE = 1_000_000
SMALL_MACHINE = 160 * 1024 * 1024


@pytest.mark.parametrize("codec", Codec)
async def test_message_larger_than_the_limit_reaches_who_reads(agent: Agent, codec: Codec) -> None:
    """One of 70 MB, where the agent keeps 64 MiB in memory: no notice in its place."""
    client = await agent.connect("s", codec)
    messages = await client.execute(f"print('x' * {70 * MEGABYTE})")
    assert texts(messages, "stderr") == ""
    assert len(texts(messages)) == 70 * MEGABYTE + 1


async def test_burst_larger_than_the_limit_reaches_who_reads(agent: Agent) -> None:
    """200 MB that ipykernel sends in a few large messages, as nothing flushes between."""
    client = await agent.connect("s")
    code = f"for number in range(200): print('%03d' % number + 'x' * {MEGABYTE})"
    messages = await client.execute(code)
    assert texts(messages, "stderr") == ""
    lines = texts(messages).splitlines()
    assert [int(line[:3]) for line in lines] == list(range(200))


@pytest.mark.parametrize("spill_bytes", [1024**3, 0], ids=["spilled", "dropped"])
async def test_output_that_no_client_reads_kills_no_small_kernel(
    tmp_path: Path, spill_bytes: int
) -> None:
    """100 MB beside a kernel that may use 160 MiB: it keeps what it knows; told is what lacks."""
    told = tmp_path / "told"
    with limited_memory(SMALL_MACHINE) as prefix:
        settings = {"log_spill_bytes": spill_bytes}
        async with Agent(prefix=prefix, settings=settings) as agent:
            client = await agent.connect("s")
            await client.execute("mine = 'kept'\nimport os, time")
            # what was sent before the cut may have been acknowledged
            wait = f"while not os.path.exists('{told}'): time.sleep(0.05)\n"
            msg_id = await client.run(wait + publish_megabytes(100))
            await client.until(lambda m: m.type == "execute_input")
            await client.cut()
            told.touch()
            await agent.until_state("idle")
            again = await agent.connect("s")
            messages = await again.finish(msg_id)
            state = await agent.state()
            assert (state["restarts"], state["reason"]) == (0, None)
            lines = [int(line[:3]) for line in texts(messages).splitlines()]
            assert lines == list(range(100))[-len(lines) :]
            is_whole = len(lines) == 100
            assert is_whole is bool(spill_bytes)
            assert bool(texts(messages, "stderr")) is not is_whole
            assert texts(await again.execute("print(mine)")) == "kept\n"


async def test_what_expires_leaves_the_reply_and_a_notice(tmp_path: Path) -> None:
    """A client comes back after the log's age: what it must know is there, the output is not."""
    told = tmp_path / "told"
    async with Agent(settings={"log_max_age": 0.5}) as agent:
        client = await agent.connect("s")
        await client.execute("import os, time")
        wait = f"while not os.path.exists('{told}'): time.sleep(0.05)\n"
        msg_id = await client.run(f"{wait}print('old')\n6 * 7")
        await client.until(lambda m: m.type == "execute_input")
        await client.cut()
        told.touch()
        await agent.until_state("idle")

        async def is_gone() -> bool:
            records = await agent.request("GET", f"/v1/executions/{msg_id}")
            return "old" not in records[1]

        await eventually(is_gone)
        again = await agent.connect("s")
        messages = await again.finish(msg_id)
        mine = [message for message in messages if message.parent_id == msg_id]
        assert texts(mine) == ""
        assert texts(mine, "stderr")
        (reply,) = (message for message in mine if message.type == "execute_reply")
        assert reply.content["status"] == "ok"
        assert statuses(mine)[-1] == "idle"
        assert sum(is_idle(message, msg_id) for message in mine) == 1
