"""The kernel's life in the agent's hands: interrupt, restart, death, shutdown, culling."""

import asyncio
import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from harness.agents.agent import Agent, Client
from harness.agents.messages import is_dead, statuses, texts
from harness.waiting import eventually

from jupyter_wire.messages import Message, execute_content
from kernel_agent.system.descendants import descendants, read_parents

pytestmark = pytest.mark.kernel

LOOPS = {
    "sleep": "import time\nprint('on')\ntime.sleep(60)",
    "busy loop": "print('on')\nwhile True: pass",
    "await": "import asyncio\nprint('on')\nawait asyncio.sleep(60)",
}

PATIENT = {"shutdown_wait_time": 60.0}
"""Settings of an agent that sends no signal to a kernel which takes its time to end."""
KILL = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


def wait_at_exit(path: Path) -> str:
    """Return code after which the kernel waits for a file before it ends."""
    return (
        "import atexit, os, time\n"
        "def wait():\n"
        f"    while not os.path.exists({str(path)!r}): time.sleep(0.02)\n"
        "atexit.register(wait)"
    )


async def kernel_pid(client: Client) -> int:
    """Return the process id of the kernel."""
    return int(texts(await client.execute("import os; print(os.getpid())")))


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("mode", ["signal", "message"])
async def test_interrupt_stops_whatever_runs(mode: str) -> None:
    """Sleep, a busy loop and an await end with KeyboardInterrupt; the kernel goes on."""
    async with Agent(settings={"interrupt_mode": mode}) as agent:
        client = await agent.connect("s")
        for code in LOOPS.values():
            msg_id = await client.run(code)
            await client.until(lambda m: m.type == "stream")
            assert (await agent.request("POST", "/v1/interrupt"))[0] == 204
            seen = await client.finish(msg_id)
            (reply,) = (m for m in seen if m.type == "execute_reply")
            assert reply.content["status"] == "error"
        assert texts(await client.execute("print('alive')")) == "alive\n"


async def test_interrupt_sends_the_alternate_signal() -> None:
    """With `interrupt_signal` the kernel gets that signal instead of SIGINT."""
    code = (
        "import signal, time\n"
        "def stop(*_): raise RuntimeError('usr2')\n"
        "signal.signal(signal.SIGUSR2, stop)\n"
        "print('on'); time.sleep(60)"
    )
    async with Agent(settings={"interrupt_signal": "SIGUSR2"}) as agent:
        client = await agent.connect("s")
        msg_id = await client.run(code)
        await client.until(lambda m: m.type == "stream")
        await agent.request("POST", "/v1/interrupt")
        (error,) = (m for m in await client.finish(msg_id) if m.type == "error")
        assert error.content["evalue"] == "usr2"


async def test_interrupt_without_effect_is_told_below_the_cell(agent: Agent) -> None:
    """A kernel that ignores it: once, however often the user tries; a restart is the way out."""
    client = await agent.connect("s")
    other = await agent.connect("other")
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + LOOPS["busy loop"]
    msg_id = await client.run(code)
    await client.until(lambda m: m.type == "stream")
    # at once: the agent shares one notice among those of five seconds
    answers = await asyncio.gather(*(agent.request("POST", "/v1/interrupt") for _ in range(3)))
    assert [status for status, _ in answers] == [204] * 3
    for reader in (client, other):
        (notice,) = (m for m in await reader.until(is_stderr) if is_stderr(m))
        assert notice.parent_id == msg_id
        assert notice.content["text"] == (
            "The kernel has not reacted to the interrupt. Restart it if you want it to stop.\n"
        )
    assert (await agent.request("POST", "/v1/restart"))[0] == 200
    await client.execute("1")
    assert texts(client.received, "stderr").count("has not reacted") == 1


def is_stderr(message: Message) -> bool:
    """Whether a message is output on stderr."""
    return message.type == "stream" and message.content["name"] == "stderr"


async def test_interrupt_with_an_effect_is_not_told_of(agent: Agent) -> None:
    """Nor is the next cell, which runs when the time to react is over."""
    client = await agent.connect("s")
    # without a traceback, which takes IPython long on a busy machine
    code = "try:\n    print('on')\n    while True: pass\nexcept KeyboardInterrupt: pass"
    msg_id = await client.run(code)
    await client.until(lambda m: m.type == "stream")
    await agent.request("POST", "/v1/interrupt")
    await client.finish(msg_id)
    await client.execute("import time; time.sleep(6)")
    assert "interrupt" not in texts(client.received, "stderr")


async def test_restart_keeps_the_websocket_and_forgets_the_variables(agent: Agent) -> None:
    """Clients stay connected and find a new kernel; nothing tells them of a crash."""
    client = await agent.connect("s")
    await client.execute("x = 1")
    first = await kernel_pid(client)
    await client.run(LOOPS["sleep"])
    await client.until(lambda m: "on" in texts([m]))
    async with agent.events() as events:
        restart = asyncio.create_task(agent.request("POST", "/v1/restart"))
        await events.until_state("restarting")
    during = await client.run("print('x' in globals())")
    status, document = await restart
    assert status == 200
    assert document["execution_state"] in {"idle", "busy"}
    assert document["restarts"] == 1
    assert document["reason"] is None
    assert "False" in texts(await client.finish(during))
    assert await kernel_pid(client) != first
    assert not is_running(first)
    assert "restarting" not in statuses(client.received)


async def test_concurrent_restarts_share_one(agent: Agent) -> None:
    """Restarts asked for while one is under way end with it."""
    requests = [agent.request("POST", "/v1/restart") for _ in range(4)]
    answers = await asyncio.gather(*requests)
    assert [status for status, _ in answers] == [200] * 4
    assert (await agent.state())["restarts"] == 1


async def test_killed_kernel_is_restarted_up_to_the_limit_then_dead(agent: Agent) -> None:
    """Five times `kill -9`: five restarts. The sixth: dead, with the reason; a restart helps."""
    client = await agent.connect("s")
    for count in range(1, 6):
        # it waits for the next process, and ends it at once: one that ran for long is no series
        await client.run(KILL)
        await client.until(lambda m: m.content.get("execution_state") == "restarting")
        document = await agent.state()
        assert document["restarts"] == count
        assert document["reason"]["signal"] == "SIGKILL"
    await client.run(KILL)
    await client.until(is_dead)
    document = await agent.state()
    assert document["execution_state"] == "dead"
    assert document["reason"]["message"] == "the kernel was killed by SIGKILL"
    assert (await agent.request("POST", "/v1/interrupt"))[0] == 409
    assert (await agent.request("POST", "/v1/signal", {"signum": 10}))[0] == 409
    assert (await agent.request("POST", "/v1/restart"))[0] == 200
    assert texts(await client.execute("print('back')")) == "back\n"


async def test_death_without_autorestart_tells_code_and_stderr() -> None:
    """With `autorestart` off a kernel that exits is dead; the reason has its stderr."""
    async with Agent(settings={"autorestart": False}) as agent:
        client = await agent.connect("s")
        await client.execute("1")
        await client.run("import os; os.write(2, b'last line'); os._exit(7)")
        await client.until(is_dead)
        reason = (await agent.state())["reason"]
        assert reason["exit_code"] == 7
        assert reason["signal"] is None
        assert not reason["out_of_memory"]
        assert reason["stderr"].endswith("last line")
        late = await agent.connect("late")
        assert statuses(await late.until(lambda _: True)) == ["dead"]


async def test_output_before_a_crash_arrives(agent: Agent) -> None:
    """What a kernel published before it died reaches the client before `restarting`."""
    client = await agent.connect("s")
    # the pause is for the kernel's ZeroMQ, which sends in a thread of its own
    code = "import os, time; print('x' * 100_000, flush=True); time.sleep(2); os._exit(1)"
    await client.run(code)
    seen = await client.until(lambda m: m.content.get("execution_state") == "restarting")
    assert len(texts(seen)) == 100_001


async def test_request_right_after_a_crash_waits_for_the_next_kernel(agent: Agent) -> None:
    """It is not given to the process that has ended, while the last of that is collected."""
    client = await agent.connect("s")
    pid = await kernel_pid(client)
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not Path(f"/proc/{pid}").exists())  # the agent knows of its end
    assert "alive" in texts(await client.execute("print('alive')"))


LEAVE_PROCESSES = """
import os, socket, subprocess
port = socket.create_server(("127.0.0.1", 0))
print(port.getsockname()[1])
left = [subprocess.Popen(["sleep", "998"], start_new_session=True).pid]
reading, writing = os.pipe()
if os.fork() == 0:  # a daemon, as in daemon(3): its parent is gone at once
    os.setsid()
    if os.fork() == 0:
        os.write(writing, b"%d" % os.getpid())
        while True:
            subprocess.run(["sleep", "998"])  # also when that is killed
    os._exit(0)
left.append(int(os.read(reading, 20)))
os.wait()
subprocess.run("nohup setsid sleep 998 >/dev/null 2>&1 &", shell=True)
subprocess.Popen(["sleep", "998"], pass_fds=[port.fileno()], start_new_session=True)
"""


@pytest.mark.parametrize("end", ["restart", "kill"])
async def test_process_that_ended_leaves_no_other(agent: Agent, end: str) -> None:
    """Sessions of their own, daemons, what was orphaned: gone, and their port can be had again."""
    client = await agent.connect("s")
    port = int(texts(await client.execute(LEAVE_PROCESSES)))
    left = await processes_left(agent)
    if end == "restart":
        assert (await agent.request("POST", "/v1/restart"))[0] == 200
    else:
        os.kill(await kernel_pid(client), signal.SIGKILL)
        await client.until(lambda m: m.content.get("execution_state") == "restarting")
    assert not [pid for pid in left if is_running(pid)]
    seen = await client.execute(f"import socket; socket.create_server(('127.0.0.1', {port}))")
    assert not [m for m in seen if m.type == "error"]
    await client.execute(LEAVE_PROCESSES)
    left = await processes_left(agent)
    assert (await agent.request("POST", "/v1/shutdown"))[0] == 204
    assert not [pid for pid in left if is_running(pid)]


async def processes_left(agent: Agent) -> list[int]:
    """Return all processes that came from the agent, once `LEAVE_PROCESSES` has its four."""

    def found() -> list[int]:
        pids = descendants(read_parents(), agent.pid)
        sleeping = [pid for pid in pids if command_of(pid) == b"sleep\x00998\x00"]
        return pids if len(sleeping) == 4 else []

    pids: list[int] = await eventually(found, what="the kernel's four processes")
    return pids


def command_of(pid: int) -> bytes:
    """Return the command line of a process, b"" if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


async def test_restart_that_fails_says_why(tmp_path: Path) -> None:
    """A kernel that cannot start again: 500 with the reason, and `dead`."""
    broken = tmp_path / "broken"
    script = f"test -e {broken} && exit 3; exec {sys.executable} -m ipykernel_launcher -f $0"
    argv = ["sh", "-c", script, "{connection_file}"]
    async with Agent(argv=argv, settings={"restart_limit": 1}) as agent:
        await agent.until_state("idle")
        broken.touch()
        status, document = await agent.request("POST", "/v1/restart")
        assert status == 500
        assert document["message"] == "the kernel exited with code 3"
        await agent.until_state("dead")


async def test_shutdown_is_graceful_and_ends_the_agent(tmp_path: Path) -> None:
    """POST shutdown: `atexit` code runs, clients see `dead`, the answer is 204, the exit code 0."""
    mark = tmp_path / "mark"
    async with Agent(settings=PATIENT) as agent:
        client = await agent.connect("s")
        await client.execute(
            f"import atexit, pathlib; atexit.register(pathlib.Path({str(mark)!r}).touch)"
        )
        pid = await kernel_pid(client)
        reading = asyncio.create_task(client.until(lambda _: False))
        assert (await agent.request("POST", "/v1/shutdown"))[0] == 204
        assert await agent.wait() == 0
        with pytest.raises(ConnectionError):
            await reading
        assert client.socket.close_code == 1001
        assert mark.exists()
        assert not is_running(pid)
        assert statuses(client.received)[-1] == "dead"
        assert files_of(agent) == ["log"]


async def test_kernel_whose_child_is_a_zombie_shuts_down_by_itself() -> None:
    """Left alone, ipykernel would try for half a minute to end a child that it need only reap."""
    async with Agent(settings={"shutdown_wait_time": 25.0}) as agent:
        client = await agent.connect("s")
        await client.execute("import subprocess; child = subprocess.Popen(['sleep', '60'])")
        await client.socket.close()
        assert (await agent.request("POST", "/v1/shutdown"))[0] == 204
        assert await agent.wait() == 0
        assert "sending SIG" not in agent.log()


def files_of(agent: Agent) -> list[str]:
    """Return the files in the agent's folder, but for IPython's."""
    names = {path.name for path in Path(agent.folder.name).iterdir()}
    return sorted(names & {"log", "socket"} | {name for name in names if "kernel" in name})


async def test_sigterm_ends_kernel_and_agent_with_a_reason(tmp_path: Path) -> None:
    """As `docker stop` sends it: as graceful, even while a cell runs, but it is no wanted end.

    Clients are not told `dead`, at which JupyterLab would not restart the kernel any more.
    """
    mark = tmp_path / "mark"
    async with Agent(settings=PATIENT) as agent:
        client = await agent.connect("s")
        await client.execute(
            f"import atexit, pathlib; atexit.register(pathlib.Path({str(mark)!r}).touch)"
        )
        # its output says more than `execute_input`: the interrupt meets the cell itself
        await client.run(LOOPS["sleep"])
        await client.until(lambda m: m.type == "stream")
        async with agent.session().get("/v1/events") as events:
            os.kill(agent.pid, signal.SIGTERM)
            with pytest.raises(ConnectionError):
                await client.until(lambda _: False)
            states = [json.loads(line) async for line in events.content if line.strip()]
        assert "dead" not in statuses(client.received)
        assert await agent.wait() == 143
        assert mark.exists(), agent.log()
    for document in states:
        is_ending = document["execution_state"] in {"terminating", "dead"}
        told = (
            document["reason"]
            and "told to stop (SIGTERM) by a process in its container, or from outside"
            in document["reason"]["message"]
        )
        assert bool(told) is is_ending
    assert states[-1]["execution_state"] == "dead"


async def test_sigterm_during_a_shutdown_leaves_it_a_wanted_end(tmp_path: Path) -> None:
    """A gateway asks the agent, then removes the container: no reason, exit code 0."""
    async with Agent(settings=PATIENT) as agent:
        client = await agent.connect("s")
        await client.execute(wait_at_exit(tmp_path / "go"))
        await client.socket.close()
        async with agent.session().get("/v1/events") as events:
            shutdown = asyncio.create_task(agent.request("POST", "/v1/shutdown"))
            await agent.until_state("terminating")
            os.kill(agent.pid, signal.SIGTERM)
            await eventually(lambda: is_handled(agent.pid, signal.SIGTERM))
            (tmp_path / "go").touch()
            states = [json.loads(line) async for line in events.content if line.strip()]
        assert (await shutdown)[0] == 204
        assert await agent.wait() == 0
    assert [state["reason"] for state in states] == [None] * len(states)
    assert states[-1]["execution_state"] == "dead"


def is_handled(pid: int, signum: int) -> bool:
    """Whether no signal of this number waits for a process (proc_pid_status(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    waiting = int(status.partition("\nShdPnd:\t")[2].split()[0], 16)
    return not waiting >> (signum - 1) & 1


async def test_kernel_that_ignores_everything_is_killed() -> None:
    """A kernel deaf to shutdown_request and SIGTERM is killed after the wait time."""
    code = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "print('deaf')\nwhile True: time.sleep(1)"
    )
    async with Agent(settings={"shutdown_wait_time": 0.4}) as agent:
        client = await agent.connect("s")
        await client.run(code)
        await client.until(lambda m: m.type == "stream")
        reading = asyncio.create_task(client.until(lambda _: False))
        assert (await agent.request("POST", "/v1/shutdown"))[0] == 204
        assert await agent.wait() == 0
        with pytest.raises(ConnectionError):
            await reading


SILENT_ON_CONTROL = """
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp

class Kernel(IPythonKernel):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        del self.control_handlers["kernel_info_request"]

IPKernelApp.launch_instance(kernel_class=Kernel)
"""


async def test_kernel_that_is_silent_on_control_is_ready() -> None:
    """As IRkernel is, but for shutdown_request."""
    argv = (sys.executable, "-c", SILENT_ON_CONTROL, "-f", "{connection_file}")
    async with Agent(argv=argv) as agent:
        client = await agent.connect("s")
        assert texts(await client.execute("print('alive')")) == "alive\n"
        assert (await agent.request("POST", "/v1/shutdown"))[0] == 204
        assert await agent.wait() == 0


@pytest.mark.parametrize("first", ["shutdown", "restart"])
async def test_restart_of_a_kernel_that_is_being_ended_is_a_conflict(
    first: str, tmp_path: Path
) -> None:
    """Nothing is wrong with the kernel: another client ends it, before the restart or during it."""
    second = "restart" if first == "shutdown" else "shutdown"
    async with Agent(settings=PATIENT) as agent:
        client = await agent.connect("s")
        await client.execute(wait_at_exit(tmp_path / "go"))
        requests = {first: asyncio.create_task(agent.request("POST", f"/v1/{first}"))}
        await agent.until_state("terminating" if first == "shutdown" else "restarting")
        requests[second] = asyncio.create_task(agent.request("POST", f"/v1/{second}"))
        if second == "restart":
            await asyncio.wait([requests[second]])
        else:
            await agent.until_state("terminating")
        (tmp_path / "go").touch()
        assert (await requests["restart"])[0] == 409
        assert (await requests["shutdown"])[0] == 204
        assert await agent.wait() == 0


async def test_shutdown_while_the_kernel_boots() -> None:
    """An agent that is told to end before its kernel is ready does."""
    async with Agent(argv=["sleep", "600"], settings={"launch_timeout": 600.0}) as agent:
        await eventually(agent.is_listening)
        os.kill(agent.pid, signal.SIGTERM)
        assert await agent.wait() == 143


async def test_shutdown_request_of_a_client_ends_the_agent(agent: Agent) -> None:
    """A client's shutdown_request gets its reply, every client `dead`; the agent exits with 0."""
    client = await agent.connect("s")
    await client.execute("1")
    await client.send("shutdown_request", {"restart": False}, channel="control")
    with pytest.raises(ConnectionError):
        await client.until(lambda _: False)
    assert "shutdown_reply" in [m.type for m in client.received]
    assert statuses(client.received)[-1] == "dead"
    assert await agent.wait() == 0


async def test_shutdown_request_with_restart_is_a_restart(agent: Agent) -> None:
    """With `restart` true a new kernel takes over."""
    client = await agent.connect("s")
    first = await kernel_pid(client)
    await client.send("shutdown_request", {"restart": True}, channel="control")

    async def has_restarted() -> bool:
        return bool((await agent.state())["restarts"] == 1)

    await eventually(has_restarted)
    assert await kernel_pid(client) != first
    assert (await agent.state())["restarts"] == 1


async def test_requests_for_a_restart_share_one(tmp_path: Path) -> None:
    """Those that come while it is under way do not end the new kernel: nothing crashes."""
    async with Agent(settings=PATIENT) as agent:
        client = await agent.connect("s")
        await client.execute(wait_at_exit(tmp_path / "go"))
        restart = asyncio.create_task(agent.request("POST", "/v1/restart"))
        await agent.until_state("restarting")
        for _ in range(2):
            msg_id = await client.send("shutdown_request", {"restart": True}, channel="control")
            await client.until(
                lambda m, wanted=msg_id: m.parent_id == wanted and m.type == "shutdown_reply"
            )
        msg_id = await client.run("print('alive')")
        (tmp_path / "go").touch()
        assert (await restart)[0] == 200
        assert "alive" in texts(await client.finish(msg_id))
        await client.execute("import time; time.sleep(0.5)")
        document = await agent.state()
        assert (document["restarts"], document["reason"]) == (1, None)
        assert "restarting" not in statuses(client.received)


async def test_idle_kernel_culls_itself() -> None:
    """After the idle timeout without connections the kernel and the agent are gone."""
    settings = {"cull_idle_timeout": 1, "cull_interval": 1}
    async with Agent(settings=settings) as agent:
        await eventually(agent.is_listening)
        async with agent.events() as events:
            last = await events.last()
        assert (last["ended_by"], last["reason"]) == ("culler", None)
        assert await agent.wait() == 0
        assert re.search(r"idle for \d+ s", agent.log())


async def test_usage_counts_what_the_kernel_has_burnt(agent: Agent) -> None:
    """In the last state document at the latest, also of processes that the kernel has started."""
    client = await agent.connect("s")
    burn = "import time\nwhile time.process_time() < 1: pass"
    await client.execute(
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])"
    )
    async with agent.events() as events:
        ending = asyncio.create_task(agent.request("POST", "/v1/shutdown"))
        last = await events.last()
        assert (await ending)[0] == 204
    assert last["ended_by"] == "gateway"
    assert 1.0 <= last["usage"]["cpu_seconds"] < 60.0
    assert last["usage"]["memory_peak_bytes"] > 10_000_000


async def test_busy_kernel_ends_at_its_longest_age_with_a_warning_before() -> None:
    """Both stand below the cell that runs; a restart makes it no younger."""
    settings = {"max_kernel_age": 6, "max_kernel_age_warning": 3, "kernel_name": "py"}
    async with Agent(settings=settings) as agent:
        began = asyncio.get_running_loop().time()
        client = await agent.connect("s")
        await agent.request("POST", "/v1/restart")
        msg_id = await client.run("import time\nwhile True: time.sleep(0.1)")
        answers = await client.finish(msg_id)
        told = texts(answers, "stderr")
        assert "The kernel will be shut down in 3 s: kernels may live for 6 s here." in told
        assert "The kernel is being shut down because it had lived for 6 s" in told
        assert await agent.wait() == 0
        assert asyncio.get_running_loop().time() - began < 60


async def test_culling_spares_connected_and_busy_kernels(tmp_path: Path) -> None:
    """A connection, and work, keep a kernel; settings may change while it runs."""
    go = tmp_path / "go"
    async with Agent() as agent:
        client = await agent.connect("s")
        await client.execute("import os, time")
        settings = {"cull_idle_timeout": 1, "cull_interval": 0.2}
        assert (await agent.request("PUT", "/v1/culling", settings))[0] == 204
        await spend(agent, 2.0, "idle")
        await client.run(f"while not os.path.exists({str(go)!r}): time.sleep(0.02)\nprint('late')")
        await client.until(lambda m: m.type == "execute_input" and "late" in m.content["code"])
        await client.cut()
        await spend(agent, 2.0, "busy")
        client = await agent.connect("s")
        go.touch()
        await client.until(lambda m: "late" in m.content.get("text", ""))
        assert (await agent.request("PUT", "/v1/culling", {"cull_connected": True}))[0] == 204
        assert await agent.wait() == 0


async def test_kernel_that_uses_none_of_its_gpus_is_culled(tmp_path: Path) -> None:
    """Also while it works and a client is connected, if these spare it from nothing."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 0\necho 0\n")
    program.chmod(0o755)
    settings = {
        "cull_gpu_idle_timeout": 2.0,
        "cull_interval": 0.2,
        "cull_connected": True,
        "cull_busy": True,
    }
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    async with Agent(settings=settings, env=env) as agent:
        client = await agent.connect("s")
        await client.run("while True: pass")
        answers = await client.until(lambda m: "shut down" in m.content.get("text", ""))
        assert "because its GPUs were idle for 2 s" in texts(answers, "stderr")
        assert await agent.wait() == 0


async def spend(agent: Agent, seconds: float, execution_state: str) -> None:
    """Let time pass in which the agent must stay alive, and its kernel in a state."""
    end = asyncio.get_running_loop().time() + seconds

    async def is_over() -> bool:
        assert (await agent.state())["execution_state"] == execution_state
        return asyncio.get_running_loop().time() > end

    await eventually(is_over)


async def test_orphans_are_reaped_by_pid_1() -> None:
    """As PID 1 the agent leaves no zombie of a process that the kernel's children left behind."""
    async with Agent(prefix=["unshare", "--pid", "--fork", "--mount-proc"]) as agent:
        client = await agent.connect("s")
        script = "(sleep 0.1; exit 3) >&2 & echo $!; (sleep 0.2) >&2 & echo $!"
        code = (
            "import os, subprocess, time\n"
            f"orphans = subprocess.check_output(['sh', '-c', {script!r}]).split()\n"
            "while any(os.path.exists(b'/proc/' + pid) for pid in orphans): time.sleep(0.02)\n"
            "print(os.getppid(), len(orphans))"
        )
        assert texts(await client.execute(code)) == "1 2\n"
        await client.socket.close()
        assert (await agent.request("POST", "/v1/shutdown"))[0] == 204
        assert await agent.wait() == 0


async def test_folder_that_cannot_be_entered_is_told_below_the_first_cell(tmp_path: Path) -> None:
    """Once, where a user sees it; the kernel starts where the image, or the process, is."""
    missing = str(tmp_path / "none")
    async with Agent(env={"KERNEL_WORKING_DIR": missing}) as agent:
        client = await agent.connect("s")
        silent = {**execute_content("1"), "silent": True}
        await client.finish(await client.send("execute_request", silent))
        seen = await client.execute("1")
        notice = texts(seen, "stderr")
        assert missing in notice
        assert "No such file or directory" in notice
        told = [message.parent_id for message in seen if message.type == "stream"]
        assert told == [seen[-1].parent_id]
        assert texts(await client.execute("1"), "stderr") == ""
        assert (await agent.state())["notice"] == notice.strip()
    async with Agent(env={"KERNEL_WORKING_DIR": str(tmp_path)}) as agent:
        client = await agent.connect("s")
        assert texts(await client.execute("1"), "stderr") == ""
        assert (await agent.state())["notice"] == ""
