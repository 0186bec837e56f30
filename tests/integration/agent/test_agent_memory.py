"""A kernel that runs out of memory, in a control group made for the test."""

import contextlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.agent import Agent
from harness.messages import texts

pytestmark = pytest.mark.kernel

LIMIT_BYTES = 300 * 1024 * 1024
ROOT = Path("/sys/fs/cgroup")


@pytest.fixture
def limited_group() -> Iterator[Path]:
    """A control group with a memory limit, of whichever version this machine has."""
    name = f"eg-test-{secrets.token_hex(4)}"
    is_v2 = (ROOT / "cgroup.controllers").exists()
    group = ROOT / name if is_v2 else ROOT / "memory" / name
    group.mkdir()
    limits = ("memory.max", "memory.swap.max") if is_v2 else ("memory.limit_in_bytes",)
    for limit in limits:
        with contextlib.suppress(FileNotFoundError):
            (group / limit).write_text(str(LIMIT_BYTES) if limit != "memory.swap.max" else "0")
    yield group
    deadline = time.monotonic() + 10
    while (group / "cgroup.procs").read_text().strip() and time.monotonic() < deadline:
        time.sleep(0.05)
    group.rmdir()


async def test_out_of_memory_is_named_as_the_reason(limited_group: Path) -> None:
    """The kernel is killed for memory: the reason says so, and the kernel is restarted."""
    join = ["sh", "-c", f'echo $$ > {limited_group}/cgroup.procs; exec "$@"', "sh"]
    async with Agent(prefix=join) as agent:
        client = await agent.connect("s")
        await client.execute("1")
        await client.run("x = [bytearray(b'x' * 1_000_000) for _ in range(600)]")
        await client.until(lambda m: m.content.get("execution_state") == "restarting")
        assert texts(await client.execute("print('again')")) == "again\n"
        reason = (await agent.state())["reason"]
        assert reason["out_of_memory"]
        assert reason["signal"] == "SIGKILL"
        assert reason["message"] == "the kernel was killed by SIGKILL (out of memory)"
