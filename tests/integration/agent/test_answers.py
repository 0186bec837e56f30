"""No request is left unanswered when the kernel ends, whatever ends it."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.agents.agent import Agent, Client
from harness.agents.messages import is_idle, statuses, texts
from harness.waiting import eventually

from jupyter_wire.messages import Codec, Message

pytestmark = pytest.mark.kernel

PROMPT = "x = input('wait for it')"
DEATHS = {
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)": "was killed by SIGKILL",
    "import os; os._exit(3)": "exited with code 3",
    "import os; os._exit(0)": "exited with code 0",
    "import os; os.abort()": "was killed by SIGABRT",
    "import ctypes; ctypes.string_at(0)": "was killed by SIGSEGV",
}
RESTARTED = "The kernel was restarted by a request to the gateway."
SHUT_DOWN = "The kernel was shut down by a request to the gateway."
LOST = " It is started again, without its variables."


def answers(messages: list[Message], msg_id: str) -> list[Message]:
    """Return what came for a request, but for what a living kernel sends of its own."""
    early = {"execute_input", "stream", "input_request"}
    return [
        message
        for message in messages
        if message.parent_id == msg_id
        and message.type not in early
        and message.content.get("execution_state") != "busy"
    ]


def check_failed(messages: list[Message], msg_id: str, ename: str, evalue: str) -> None:
    """Check that an execution got error, reply and idle, each once, and in this order."""
    error, reply, idle = answers(messages, msg_id)
    assert (error.channel, error.type) == ("iopub", "error")
    assert (error.content["ename"], error.content["evalue"]) == (ename, evalue)
    assert error.content["traceback"] == [f"{ename}: {evalue}"]
    assert (reply.channel, reply.type) == ("shell", "execute_reply")
    assert (reply.content["status"], reply.content["evalue"]) == ("error", evalue)
    assert (idle.channel, idle.content) == ("iopub", {"execution_state": "idle"})


def wait_for(file: Path) -> str:
    """Return code that waits for a file."""
    return f"import os, time\nwhile not os.path.exists({str(file)!r}): time.sleep(0.02)\n"


def is_status(state: str) -> Callable[[Message], bool]:
    """Return a test for a status without a request."""
    return lambda m: not m.parent_id and m.content.get("execution_state") == state


@pytest.mark.parametrize("codec", Codec)
async def test_cell_whose_kernel_dies_fails_with_the_reason(agent: Agent, codec: Codec) -> None:
    """Of any cause, and before `restarting`, upon which front ends forget their requests."""
    client = await agent.connect("s", codec)
    watching = await agent.connect("w", codec)
    for code, reason in DEATHS.items():
        await client.execute("1")
        msg_id = await client.run(code)
        seen = await client.until(is_status("restarting"))
        check_failed(seen, msg_id, "KernelDied", f"The kernel {reason}.{LOST}")
        assert seen[-2].parent_id == msg_id
        others = await watching.until(is_status("restarting"))
        assert [m.type for m in answers(others, msg_id)] == ["error", "status"]


FILL_SHARED_MEMORY = """
import time
from multiprocessing.resource_tracker import _resource_tracker
from multiprocessing.shared_memory import SharedMemory
memory = SharedMemory(create=True, size=32_000_000)
def tracker_ignores_signals():  # from when it does its work (proc_pid_status(5))
    status = open(f'/proc/{_resource_tracker._pid}/status').read()
    return int(status.partition('SigIgn:')[2].split()[0], 16) & 2
while not tracker_ignores_signals(): time.sleep(0.02)
for position in range(0, memory.size, 4096):
    memory.buf[position] = 1
"""
SMALL_SHARED_MEMORY = (
    *("unshare", "--mount", "sh", "-c"),
    'mount -t tmpfs -o size=16m none /dev/shm; exec "$@"',
    "sh",
)


async def test_kernel_that_fills_its_shared_memory_dies_with_the_reason() -> None:
    """And the next process finds it empty."""
    async with Agent(prefix=SMALL_SHARED_MEMORY) as agent:
        client = await agent.connect("s")
        msg_id = await client.run(FILL_SHARED_MEMORY)
        (error,) = (m for m in await client.finish(msg_id) if m.type == "error")
        assert "killed by SIGBUS (its shared memory, /dev/shm, of 16 MiB" in error.content["evalue"]
        listing = "import os; print(os.listdir('/dev/shm'))"
        assert "[]" in texts(await client.execute(listing))


async def test_requests_behind_a_dying_cell_are_answered(agent: Agent, tmp_path: Path) -> None:
    """Queued cells, other requests, those on control, comm messages: each in its form, once."""
    go = tmp_path / "go"
    client = await agent.connect("s")
    await client.execute("import os, time")
    done = await client.run("print('done')")
    dying = await client.run(f"print('on', flush=True)\n{wait_for(go)}os._exit(3)")
    await client.until(lambda m: m.type == "stream" and "on" in m.content["text"])
    queued = [await client.run("print('never')") for _ in range(3)]
    complete = await client.send("complete_request", {"code": "o", "cursor_pos": 1})
    inspect = await client.send("inspect_request", {"code": "os", "cursor_pos": 1})
    comms = await client.send("comm_info_request", {})
    comm = await client.send("comm_msg", {"comm_id": "c", "data": {}})
    info = await client.send("kernel_info_request")
    # one that IPython does not know: it says no more than busy and idle
    control = await client.send("unheard_of_request", channel="control")
    await client.until(lambda m: is_idle(m, control))
    go.touch()
    seen = await client.until(lambda m: m.parent_id == info and m.type == "kernel_info_reply")

    everything = client.received
    assert len([m for m in everything if m.parent_id == done and m.type == "execute_reply"]) == 1
    text = f"The kernel exited with code 3.{LOST}"
    check_failed(everything, dying, "KernelDied", text)
    for msg_id in queued:
        check_failed(everything, msg_id, "KernelDied", f"{text} This was not run.")
    for msg_id, kind in ((complete, "complete"), (inspect, "inspect"), (comms, "comm_info")):
        reply, idle = answers(everything, msg_id)
        assert (reply.type, reply.channel) == (f"{kind}_reply", "shell")
        assert reply.content["status"] == "error"
        assert idle.content == {"execution_state": "idle"}
    idle, reply = answers(everything, control)
    assert (reply.type, reply.channel) == ("unheard_of_reply", "control")
    (idle,) = answers(everything, comm)
    assert idle.content == {"execution_state": "idle"}
    # it is asked of the next process: front ends ask once
    (reply,) = (m for m in seen if m.parent_id == info and m.type.endswith("_reply"))
    assert reply.content["status"] == "ok"


async def test_cell_that_waits_for_input_fails_with_its_kernel(agent: Agent) -> None:
    """What the user then enters goes nowhere, and the next prompt is asked as ever."""
    client = await agent.connect("s")
    pid = await kernel_pid(client)
    msg_id = await client.run(PROMPT, allow_stdin=True)
    asked = await client.until(lambda m: m.type == "input_request")
    os.kill(pid, signal.SIGKILL)
    seen = await client.until(is_status("restarting"))
    check_failed(seen, msg_id, "KernelDied", f"The kernel was killed by SIGKILL.{LOST}")
    header = asked[-1].header
    await client.send("input_reply", {"value": "late"}, channel="stdin", parent_header=header)
    await client.execute("1")  # so that the next process has got the late answer
    again = await client.run("print(input('again'))", allow_stdin=True)
    prompt = (await client.until(lambda m: m.type == "input_request"))[-1]
    answer = {"value": "in time"}
    await client.send("input_reply", answer, channel="stdin", parent_header=prompt.header)
    assert texts(await client.finish(again)) == "in time\n"


async def test_restart_answers_what_the_old_process_leaves(agent: Agent) -> None:
    """A cell that cannot be interrupted, and one behind it; later ones wait for the new process."""
    client = await agent.connect("s")
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('on')\nwhile 1: pass"
    msg_id = await client.run(code)
    await client.until(lambda m: m.type == "stream")
    queued = await client.run("1")
    restart = asyncio.create_task(agent.request("POST", "/v1/restart"))
    await agent.until_state("restarting")
    during = await client.run("print('new')")
    assert (await restart)[0] == 200
    assert "new" in texts(await client.finish(during))
    check_failed(client.received, msg_id, "KernelRestarted", RESTARTED)
    text = f"{RESTARTED} This was not run."
    check_failed(client.received, queued, "KernelRestarted", text)
    assert "restarting" not in statuses(client.received)


@pytest.mark.parametrize("by", ["a request to the gateway", "a shutdown_request of a client"])
async def test_cell_that_a_restart_interrupts_says_who_restarted(agent: Agent, by: str) -> None:
    """Its KeyboardInterrupt alone would not: another user may have done it."""
    client = await agent.connect("s")
    other = await agent.connect("o")
    msg_id = await client.run("print('on', flush=True)\nimport time; time.sleep(600)")
    await client.until(lambda m: m.type == "stream")
    if by.startswith("a request"):
        assert (await agent.request("POST", "/v1/restart"))[0] == 200
    else:
        await other.send("shutdown_request", {"restart": True}, channel="control")
    seen = await client.finish(msg_id)
    own = [m for m in seen if m.parent_id == msg_id]
    text = f"The kernel is being restarted by {by}.\n"
    notice = next(m for m in own if m.content.get("text") == text)
    error = next(m for m in own if m.type == "error")
    assert notice.content["name"] == "stderr"
    assert own.index(notice) < own.index(error)
    assert error.content["ename"] in {"KeyboardInterrupt", "KernelRestarted"}


async def test_shutdown_request_is_answered_whatever_the_kernel_does() -> None:
    """A stopped process, one that is starting, and a dead one do not answer it themselves."""
    settings = {"autorestart": False, "shutdown_wait_time": 0.2}
    async with Agent(settings=settings) as agent:
        client = await agent.connect("s")

        async def check_shutdown(*, restart: bool) -> None:
            content = {"restart": restart}
            msg_id = await client.send("shutdown_request", content, channel="control")
            seen = await client.until(lambda m: m.parent_id == msg_id and m.channel == "control")
            assert seen[-1].type == "shutdown_reply"
            assert seen[-1].content == {"status": "ok", **content}

        await client.run("print('on')\nimport time; time.sleep(600)")
        await client.until(lambda m: m.type == "stream")
        assert (await agent.request("POST", "/v1/signal", {"signum": signal.SIGSTOP}))[0] == 204
        await check_shutdown(restart=True)
        await client.run("import os; os._exit(1)")
        await client.until(is_status("dead"))
        await check_shutdown(restart=False)
        assert await agent.wait() == 0


async def test_request_to_a_subshell_of_a_former_process_is_answered(agent: Agent) -> None:
    """Front ends may not know that a restart has ended their subshells."""
    client = await agent.connect("s")
    await client.execute("1")
    msg_id = await client.send("create_subshell_request", {}, channel="control")
    reply = (await client.until(lambda m: m.parent_id == msg_id and m.type.endswith("reply")))[-1]
    subshell = reply.content["subshell_id"]
    assert (await agent.request("POST", "/v1/restart"))[0] == 200
    late = await client.run("print('late')", subshell_id=subshell)
    await client.until(lambda m: m.parent_id == late and m.type == "execute_reply")


async def test_dead_kernel_answers_that_it_is_dead() -> None:
    """What was sent before and after its end, also what waited for a restart that failed."""
    text = "The kernel exited with code 7. Restart it to go on."
    async with Agent(settings={"autorestart": False}) as agent:
        client = await agent.connect("s")
        msg_id = await client.run("import os; os._exit(7)")
        check_failed(await client.until(is_status("dead")), msg_id, "KernelDied", text)
        late = await client.run("1")
        check_failed(await client.finish(late), late, "KernelDied", f"{text} This was not run.")
        info = await client.send("kernel_info_request")
        (reply,) = (m for m in await client.finish(info) if m.type == "kernel_info_reply")
        assert reply.content["language_info"]["name"] == "python"
        assert (await agent.request("POST", "/v1/restart"))[0] == 200
        assert texts(await client.execute("print('back')")) == "back\n"


async def test_end_of_the_kernel_answers_what_is_open() -> None:
    """A shutdown that a cell does not heed, and requests during it."""
    async with Agent(settings={"shutdown_wait_time": 60.0}) as agent:
        client = await agent.connect("s")
        pid = await kernel_pid(client)
        code = "import signal\nfor s in (2, 15): signal.signal(s, signal.SIG_IGN)\nprint('on')"
        msg_id = await client.run(f"{code}\nwhile True: pass")
        await client.until(lambda m: m.type == "stream")
        shutdown = asyncio.create_task(agent.request("POST", "/v1/shutdown"))
        await agent.until_state("terminating")
        during = await client.run("1")
        seen = await client.finish(during)
        os.kill(pid, signal.SIGKILL)
        seen += await client.until(is_status("dead"))
        assert (await shutdown)[0] == 204
    check_failed(seen, msg_id, "KernelShutDown", SHUT_DOWN)
    text = f"{SHUT_DOWN} This was not run."
    check_failed(seen, during, "KernelShutDown", text)


async def test_answers_wait_for_a_client_that_is_away(agent: Agent, tmp_path: Path) -> None:
    """A client that comes back after the death of its kernel learns what became of its cell."""
    client: Client = await agent.connect("s")
    msg_id = await client.run(f"{wait_for(tmp_path / 'away')}os._exit(3)")
    await client.until(lambda m: m.type == "execute_input")
    await client.cut()
    (tmp_path / "away").touch()

    async def has_restarted() -> bool:
        return bool((await agent.state())["restarts"])

    await eventually(has_restarted)
    back = await agent.connect("s")
    seen = await back.until(is_status("restarting"))
    check_failed(seen, msg_id, "KernelDied", f"The kernel exited with code 3.{LOST}")


CLOSE_IOPUB = """
thread = get_ipython().kernel.iopub_thread
thread.stop()
thread.close()
"""


async def test_kernel_without_iopub_says_so_and_its_cells_end(agent: Agent) -> None:
    """The one that closed it and later ones: a notice, reply and idle; a restart mends it."""
    client = await agent.connect("s")
    for code in (CLOSE_IOPUB, "print('unheard')"):
        msg_id = await client.run(code)
        seen = await client.finish(msg_id)
        (notice,) = (m for m in seen if m.type == "stream")
        assert (notice.parent_id, notice.content["name"]) == (msg_id, "stderr")
        assert "closed its output channel" in notice.content["text"]
        assert "Restart the kernel" in notice.content["text"]
        assert [m.type for m in seen if m.channel == "shell"] == ["execute_reply"]
        await agent.until_state("idle")
    assert (await agent.request("POST", "/v1/restart"))[0] == 200
    assert texts(await client.execute("print('heard')")) == "heard\n"


async def kernel_pid(client: Client) -> int:
    """Return the process id of the kernel."""
    return int(texts(await client.execute("import os; print(os.getpid())")))


async def until_stopped(pid: int) -> None:
    """Wait until a process is stopped by a signal."""
    await eventually(lambda: "State:\tT" in Path(f"/proc/{pid}/status").read_text())


async def stop(client: Client) -> int:
    """Have a kernel stopped while it is idle; return its process id."""
    pid = await kernel_pid(client)
    os.kill(pid, signal.SIGSTOP)
    await until_stopped(pid)
    return pid


async def test_interrupt_lets_a_stopped_kernel_go_on(agent: Agent) -> None:
    """A cell that it was sent meanwhile ends; so does one that stops its own kernel."""
    client = await agent.connect("s")
    pid = await stop(client)
    msg_id = await client.run("print('went on')")
    assert (await agent.request("POST", "/v1/interrupt"))[0] == 204
    await client.finish(msg_id)
    msg_id = await client.run("import signal; os.kill(os.getpid(), signal.SIGSTOP)")
    await until_stopped(pid)
    assert (await agent.request("POST", "/v1/interrupt"))[0] == 204
    await client.finish(msg_id)
    assert texts(await client.execute("print('alive')")) == "alive\n"


async def test_stopped_kernel_restarts_without_force() -> None:
    """It goes on to shut down as ever."""
    async with Agent(settings={"shutdown_wait_time": 60.0}) as agent:
        client = await agent.connect("s")
        await stop(client)
        assert (await agent.request("POST", "/v1/restart"))[0] == 200
        assert "sending SIG" not in agent.log()
        assert texts(await client.execute("print('alive')")) == "alive\n"


async def test_interrupt_that_a_silent_kernel_ignores_is_told(agent: Agent) -> None:
    """Below the cell that it was sent, though it never said that it is at it."""
    client = await agent.connect("s")
    code = (
        "import os, signal, threading\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGCONT, lambda *_: os.kill(os.getpid(), signal.SIGSTOP))"
    )
    await client.execute(code)
    await stop(client)
    msg_id = await client.run("1")
    assert (await agent.request("POST", "/v1/interrupt"))[0] == 204
    notice = (await client.until(lambda m: m.type == "stream"))[-1]
    assert notice.parent_id == msg_id
    assert "has not reacted to the interrupt. Restart it" in notice.content["text"]


INTERRUPTED_EARLY = """
import time
kernel = get_ipython().kernel
run = kernel.shell_handlers["execute_request"]
async def never_reach_the_code(*_):
    kernel.shell_handlers["execute_request"] = run
    print("early", flush=True)
    time.sleep(60)
kernel.shell_handlers["execute_request"] = never_reach_the_code
"""


LATE_IDLE = """
import threading
publish = kernel._publish_status
def publish_late(status, channel, parent=None):
    message = status, channel, parent or kernel.get_parent(channel)
    if status == "idle" and message[2]["header"]["msg_type"] == "execute_request":
        threading.Timer(1.0, publish, message).start()
    else:
        publish(*message)
kernel._publish_status = publish_late
"""


@pytest.mark.parametrize("mode", ["signal", "message"])
@pytest.mark.parametrize("late", ["", LATE_IDLE], ids=["at once", "late idle"])
async def test_cell_interrupted_before_its_code_runs_fails(mode: str, late: str) -> None:
    """The kernel sends `idle` and no reply then, and a front end would wait for ever.

    The `idle` may come later than what the kernel does next, on another socket.
    """
    async with Agent(settings={"interrupt_mode": mode}) as agent:
        client = await agent.connect("s")
        await client.execute(INTERRUPTED_EARLY + late)
        msg_id = await client.run("print('late')")
        seen = await client.until(lambda m: m.type == "stream")
        assert texts(seen) == "early\n"
        assert (await agent.request("POST", "/v1/interrupt"))[0] == 204
        seen = await client.finish(msg_id)
        (error,) = (m for m in seen if m.type == "error")
        (reply,) = (m for m in seen if m.type == "execute_reply")
        assert error.content["ename"] == reply.content["ename"] == "KeyboardInterrupt"
        assert "before it had run this" in reply.content["evalue"]
        assert texts(await client.execute("print('alive')")) == "alive\n"
        assert sum(m.type == "execute_reply" for m in client.received) == 3
