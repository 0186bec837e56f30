"""Kernels that a launcher of Enterprise Gateway starts, in the agent's hands."""

import os
import signal
from pathlib import Path

import pytest
from harness.agents.agent import Agent, Client
from harness.agents.messages import is_dead, statuses, texts
from harness.engines.leftovers import find_processes
from harness.kernels.eg_launcher import BOOTSTRAP, make_agent
from harness.waiting import eventually

from kernel_agent.system.descendants import descendants, read_parents

pytestmark = pytest.mark.kernel

ON_AND_ON = "import time\nprint('on')\ntime.sleep(60)"


async def kernel_pid(client: Client) -> int:
    """Return the process id of the kernel."""
    return int(texts(await client.execute("import os; print(os.getpid())")))


def processes(agent: Agent) -> set[int]:
    """Return all processes that came from the agent."""
    return set(descendants(read_parents(), agent.pid))


def connection_files(agent: Agent) -> list[Path]:
    """Return what agent and launcher left."""
    return list(Path(agent.folder.name).glob("kernel-*"))


async def until_gone(pids: set[int]) -> None:
    """Wait until none of the processes is left."""
    await eventually(lambda: not pids & set(read_parents()))


@pytest.mark.parametrize("test", ["", "version 0", "new session"])
async def test_launcher_brings_a_kernel_of_full_service(test: str) -> None:
    """Both versions of the payload: execute, interrupt, restart, shut down; no process remains."""
    async with make_agent(test) as agent:
        client = await agent.connect("s")
        assert texts(await client.execute("print(6 * 7)")) == "42\n"
        msg_id = await client.run(ON_AND_ON)
        await client.until(lambda m: m.type == "stream")
        assert (await agent.request("POST", "/v1/interrupt"))[0] == 204
        (error,) = (m for m in await client.finish(msg_id) if m.type == "error")
        assert error.content["ename"] == "KeyboardInterrupt"
        assert "comm port" not in agent.log()
        before = processes(agent)
        assert len(before) == 3  # shell, kernel, listener
        status, document = await agent.request("POST", "/v1/restart")
        assert (status, document["restarts"]) == (200, 1)
        await until_gone(before)
        assert texts(await client.execute("print('back')")) == "back\n"
        after = processes(agent)
        await client.socket.close()
        assert (await agent.request("POST", "/v1/shutdown"))[0] == 204
        assert await agent.wait() == 0
        await until_gone(after)
        assert not connection_files(agent)


async def test_shutdown_is_graceful(tmp_path: Path) -> None:
    """The listener is told to end, so `atexit` code runs and no process has to be killed."""
    mark = tmp_path / "mark"
    async with make_agent(settings={"shutdown_wait_time": 60.0}) as agent:
        client = await agent.connect("s")
        await client.execute(
            f"import atexit, pathlib; atexit.register(pathlib.Path({str(mark)!r}).touch)"
        )
        await client.socket.close()
        await agent.request("POST", "/v1/shutdown")
        assert await agent.wait() == 0
        assert mark.exists()
        assert "sending SIG" not in agent.log()


async def test_alternate_signal_goes_through_the_comm_port() -> None:
    """`interrupt_signal` and POST signal reach the kernel, not the shell or the listener."""
    code = (
        "import signal, time\n"
        "def stop(*_): raise RuntimeError('usr2')\n"
        "signal.signal(signal.SIGUSR2, stop)\n"
        "print('on'); time.sleep(60)"
    )
    async with make_agent(settings={"interrupt_signal": "SIGUSR2"}) as agent:
        client = await agent.connect("s")
        for path, body in (("/v1/interrupt", None), ("/v1/signal", {"signum": signal.SIGUSR2})):
            msg_id = await client.run(code)
            await client.until(lambda m: m.type == "stream")
            assert (await agent.request("POST", path, body))[0] == 204
            (error,) = (m for m in await client.finish(msg_id) if m.type == "error")
            assert error.content["evalue"] == "usr2"
        assert len(processes(agent)) == 3


async def test_kernel_is_interrupted_though_its_comm_port_is_deaf() -> None:
    """A listener that hangs costs time, not the interrupt; at the end it is gone too."""
    async with make_agent("deaf", settings={"shutdown_wait_time": 0.5}) as agent:
        client = await agent.connect("s")
        msg_id = await client.run(ON_AND_ON)
        await client.until(lambda m: m.type == "stream")
        assert (await agent.request("POST", "/v1/interrupt"))[0] == 204
        (error,) = (m for m in await client.finish(msg_id) if m.type == "error")
        assert error.content["ename"] == "KeyboardInterrupt"
        whole_tree = processes(agent)
        await client.socket.close()
        await agent.request("POST", "/v1/shutdown")
        assert await agent.wait() == 0
        await until_gone(whole_tree)


async def test_killed_kernel_is_restarted_then_dead_with_its_signal() -> None:
    """`kill -9` of the kernel below the shell: what the shell's exit code hides is told."""
    async with make_agent(settings={"restart_limit": 1}) as agent:
        client = await agent.connect("s")
        first = processes(agent)
        os.kill(await kernel_pid(client), signal.SIGKILL)
        await client.until(lambda m: m.content.get("execution_state") == "restarting")
        document = await agent.state()
        assert document["restarts"] == 1
        assert document["reason"]["message"] == "the kernel was killed by SIGKILL"
        assert document["reason"]["signal"] == "SIGKILL"
        # it waits for the next kernel, and ends it at once: one that ran for long is no series
        await client.run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
        await client.until(is_dead)
        await until_gone(first)
        await until_gone(processes(agent))
        assert (await agent.request("POST", "/v1/restart"))[0] == 200
        assert texts(await client.execute("print('back')")) == "back\n"


async def test_kernel_that_leaves_by_itself_is_restarted() -> None:
    """`exit`: the launcher would wait for its listener for ever."""
    async with make_agent() as agent:
        client = await agent.connect("s")
        await client.run("exit")
        await client.until(lambda m: m.content.get("execution_state") == "restarting")
        assert texts(await client.execute("print('back')")) == "back\n"
        assert (await agent.state())["restarts"] == 1


async def test_processes_of_the_kernel_end_with_it() -> None:
    """Also daemons in sessions of their own: each kernel used to have its container."""
    code = (
        "import subprocess\n"
        "subprocess.run(['sh', '-c', 'setsid sleep 1000 & setsid sh -c \"sleep 1000; true\" &'])"
    )
    async with make_agent() as agent:
        client = await agent.connect("s")
        await client.execute(code)
        await eventually(lambda: len(processes(agent)) == 6)
        whole_tree = processes(agent)
        assert (await agent.request("POST", "/v1/restart"))[0] == 200
        await until_gone(whole_tree)


@pytest.mark.parametrize(
    ("test", "text"),
    [
        ("malformed", "the payload is not base64"),
        ("other version", "JSON, but not of version 1"),
        ("other kernel", "it is for another kernel: kernel_id differs from KERNEL_ID"),
        ("exits", "the kernel's launch script exited with code 0 before its launcher reported"),
        ("silent", "the kernel's launcher did not report how to reach it in 3 s"),
    ],
)
async def test_launch_that_goes_wrong_says_how(test: str, text: str) -> None:
    """What came, or that nothing did; the agent has failed and no process is left."""
    settings = {"launch_timeout": 3 if test == "silent" else 60}
    async with make_agent(test, settings=settings) as agent:
        assert await agent.wait() == 1
        assert text in agent.log()
        assert not find_processes(f"KERNEL_ID={agent.kernel_id}")
        if test == "exits":
            assert "the launcher's last line" in agent.log()


async def test_failed_restart_has_the_stderr(tmp_path: Path) -> None:
    """The reason of a launcher that exits early has its stderr."""
    script = tmp_path / "bootstrap-kernel.sh"
    script.write_text(
        f"#!/bin/bash\n[ -e {tmp_path}/broken ] && export TEST_LAUNCHER=exits\nexec {BOOTSTRAP}\n"
    )
    script.chmod(0o755)
    async with make_agent(bootstrap=script) as agent:
        await agent.until_state("idle")
        (tmp_path / "broken").touch()
        status, document = await agent.request("POST", "/v1/restart")
        assert status == 500
        assert document["message"].endswith("before its launcher reported how to reach it")
        assert "the launcher's last line" in (await agent.state())["reason"]["stderr"]


async def test_script_that_cannot_be_executed_is_told() -> None:
    """Its name, and why."""
    async with make_agent(bootstrap=Path("/nonexistent/bootstrap-kernel.sh")) as agent:
        assert await agent.wait() == 1
        assert "'/nonexistent/bootstrap-kernel.sh' cannot be started" in agent.log()


async def test_kernel_ignores_the_agents_secrets() -> None:
    """The script's environment has the contract and not the agent's own variables."""
    code = "import os; print([n for n in os.environ if 'AGENT' in n], os.environ['EG_LOG_LEVEL'])"
    async with make_agent() as agent:
        client = await agent.connect("s")
        assert texts(await client.execute(code)) == "[] 20\n"


async def test_output_survives_a_cut_connection(tmp_path: Path) -> None:
    """The full service: what was missed is resent."""
    away = tmp_path / "away"
    wait = (
        f"import os, time\nprint('on')\nwhile not os.path.exists({str(away)!r}): time.sleep(0.02)"
    )
    async with make_agent() as agent:
        client = await agent.connect("s")
        await client.run(f"{wait}\nprint('missed')")
        await client.until(lambda m: m.type == "stream")
        await client.cut()
        away.touch()
        await agent.until_state("idle")
        client = await agent.connect("s")
        _greeting, *seen = await client.until(lambda m: m.content.get("text") == "missed\n")
        assert "idle" not in statuses(seen)
