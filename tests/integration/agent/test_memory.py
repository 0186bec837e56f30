"""A kernel that runs out of memory, in a control group made for the test."""

import pytest
from harness.agents.agent import Agent
from harness.agents.control_group import limited_memory
from harness.agents.messages import texts

pytestmark = pytest.mark.kernel

LIMIT_BYTES = 300 * 1024 * 1024


async def test_out_of_memory_is_named_as_the_reason() -> None:
    """The kernel is killed for memory: the reason says so, and the kernel is restarted."""
    with limited_memory(LIMIT_BYTES) as prefix:
        async with Agent(prefix=prefix) as agent:
            client = await agent.connect("s")
            await client.execute("1")
            msg_id = await client.run("x = [bytearray(b'x' * 1_000_000) for _ in range(600)]")
            (error,) = (m for m in await client.finish(msg_id) if m.type == "error")
            told = "The kernel was killed by SIGKILL (out of memory). It is started again"
            assert error.content["evalue"].startswith(told)
            await client.until(lambda m: m.content.get("execution_state") == "restarting")
            assert texts(await client.execute("print('again')")) == "again\n"
            reason = (await agent.state())["reason"]
            assert reason["out_of_memory"]
            assert reason["signal"] == "SIGKILL"
            assert reason["message"] == "the kernel was killed by SIGKILL (out of memory)"
