"""A kernel that runs out of memory, in a control group made for the test."""

import pytest
from harness.agents.agent import Agent
from harness.agents.control_group import limited_memory
from harness.agents.messages import texts
from harness.gateways.gateway import find_free_port

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
            told = (
                "The kernel was killed by SIGKILL (out of memory: the limit is 300 MiB). It is st"
            )
            assert error.content["evalue"].startswith(told)
            await client.until(lambda m: m.content.get("execution_state") == "restarting")
            assert texts(await client.execute("print('again')")) == "again\n"
            reason = (await agent.state())["reason"]
            assert reason["out_of_memory"]
            assert reason["signal"] == "SIGKILL"
            killed = "the kernel was killed by SIGKILL (out of memory: the limit is 300 MiB)"
            assert reason["message"] == killed


CHILD = """
import subprocess, sys, time
hog = "x = [bytearray(b'x' * 1_000_000) for _ in range(600)]"
print(subprocess.run([sys.executable, "-c", hog]).returncode)
"""


async def test_child_that_is_killed_for_memory_is_told_and_the_kernel_goes_on() -> None:
    """Once, below the cell; a later SIGKILL of the kernel is not taken for want of memory."""
    with limited_memory(LIMIT_BYTES) as prefix:
        async with Agent(prefix=prefix, listen=f"tcp:127.0.0.1:{find_free_port()}") as agent:
            client = await agent.connect("s")
            answers = await client.finish(await client.run(f"kept = 5\n{CHILD}\ntime.sleep(4)"))
            assert texts(answers) == "-9\n"
            told = texts(answers, "stderr")
            assert told.count("A process that the kernel had started was killed") == 1
            assert "the memory limit is 300 MiB" in told
            assert texts(await client.execute("print(kept)")) == "5\n"
            await agent.request("POST", "/v1/signal", {"signum": 9})
            await client.until(lambda m: m.content.get("execution_state") == "restarting")
            reason = (await agent.state())["reason"]
            assert reason["message"] == "the kernel was killed by SIGKILL"
