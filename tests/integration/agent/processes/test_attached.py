"""An agent beside a kernel that another program started: a sidecar."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from harness.agents.agent import Agent, Client
from harness.agents.attached import AttachedKernel
from harness.agents.messages import statuses, texts
from harness.waiting import eventually

from jupyter_wire.messages import Message

pytestmark = pytest.mark.kernel

PATIENT = {"shutdown_wait_time": 60.0}
"""Settings of an agent that sends no signal to a kernel which takes its time to end."""


@pytest.fixture
async def kernel() -> AsyncIterator[AttachedKernel]:
    """A kernel with a comm port."""
    async with AttachedKernel() as running:
        yield running


@pytest.fixture
async def agent(kernel: AttachedKernel) -> AsyncIterator[Agent]:
    """Its sidecar, ready."""
    async with Agent(attach=kernel.attachment, settings=PATIENT) as running:
        await running.until_state("idle")
        yield running


async def start_loop(client: Client, before: str = "") -> str:
    """Run something endless; return the request's id."""
    msg_id = await client.run(f"{before}\nprint('on')\nwhile True: pass")
    await client.until(lambda message: "on" in texts([message]))
    return msg_id


async def until_closed(client: Client) -> list[Message]:
    """Return everything that a client got, once its connection has been closed."""
    with suppress(ConnectionError):
        while True:
            await client.receive()
    return client.received


async def test_sidecar_serves_the_kernel(agent: Agent) -> None:
    """Clients see no difference; the kernel is asked as it listens, however late that is."""
    client = await agent.connect("s")
    assert texts(await client.execute("print(6 * 7)")) == "42\n"


async def test_interrupts_and_signals_go_through_the_comm_port(
    agent: Agent, kernel: AttachedKernel
) -> None:
    """They are not lost on the way, and in order."""
    client = await agent.connect("s")
    msg_id = await start_loop(client)
    assert (await agent.request("POST", "/v1/interrupt"))[0] == 204
    (error,) = (m for m in await client.finish(msg_id) if m.type == "error")
    assert error.content["ename"] == "KeyboardInterrupt"
    await client.execute("import signal; signal.signal(signal.SIGUSR1, lambda *_: print('usr1'))")
    assert (await agent.request("POST", "/v1/signal", {"signum": 10}))[0] == 204
    await eventually(lambda: kernel.requests == [{"signum": 2}, {"signum": 10}])


async def test_restart_is_not_implemented(agent: Agent) -> None:
    """Only a launch script can start such a kernel."""
    status, answer = await agent.request("POST", "/v1/restart")
    assert status == 501
    assert "launch it again" in answer["message"]
    assert (await agent.state())["execution_state"] == "idle"


async def test_shutdown_ends_kernel_and_launcher(agent: Agent, kernel: AttachedKernel) -> None:
    """Gracefully; the listener is let go when the kernel has ended, not before."""
    client = await agent.connect("s")
    received = asyncio.create_task(until_closed(client))
    assert kernel.process is not None
    assert (await agent.request("POST", "/v1/shutdown"))[0] == 204
    assert await kernel.process.wait() == 0
    assert await agent.wait() == 0
    await eventually(lambda: kernel.requests[-1:] == [{"shutdown": 1}])
    assert statuses(await received)[-1] == "dead"


async def test_kernel_that_does_not_end_is_killed(kernel: AttachedKernel) -> None:
    """By the same way as all signals go."""
    async with Agent(attach=kernel.attachment) as agent:
        client = await agent.connect("s")
        # ipykernel takes SIGINT back at each request
        deaf = "import signal\nfor n in (2, 15): signal.signal(n, signal.SIG_IGN)"
        await start_loop(client, deaf)
        assert kernel.process is not None
        assert (await agent.request("POST", "/v1/shutdown"))[0] == 204
        assert await kernel.process.wait() == -9
        assert await agent.wait() == 0
        assert {"signum": 9} in kernel.requests


async def test_dead_kernel_ends_its_sidecar(agent: Agent, kernel: AttachedKernel) -> None:
    """Within seconds, with a reason; a launcher that is left is told to end."""
    client = await agent.connect("s")
    assert kernel.process is not None
    kernel.process.kill()
    assert await agent.wait() == 3
    assert "dead" not in statuses(await until_closed(client))
    await eventually(lambda: kernel.requests == [{"shutdown": 1}])


async def test_busy_kernel_is_not_taken_for_dead(kernel: AttachedKernel) -> None:
    """Not even one that answers nothing, heartbeats included: its sockets take connections."""
    async with Agent(attach=kernel.attachment) as agent:
        client = await agent.connect("s")
        await client.execute("1")
        code = "import ctypes\nprint('on')\nctypes.PyDLL(None).sleep(12)"
        msg_id = await client.run(code)
        await client.finish(msg_id)
        assert (await agent.state())["execution_state"] == "idle"


async def test_kernel_that_never_listens_is_a_failed_launch() -> None:
    """The sidecar says so, and ends."""
    async with AttachedKernel() as kernel:
        attachment = kernel.attachment
        assert kernel.process is not None
        kernel.process.kill()
        async with Agent(attach=attachment, settings={"launch_timeout": 1.0}) as agent:
            assert await agent.wait() == 1
            assert "did not answer kernel_info" in agent.log()
