"""Restarts that a spare takes over: fast, and for users like any other."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from harness.agents.agent import IPYKERNEL, Agent, Client
from harness.agents.control_group import limited_memory
from harness.agents.messages import texts
from harness.waiting import eventually

pytestmark = pytest.mark.kernel

MIB = 1024 * 1024
SPARE = {"restart_spare": True}
IMAGES_OWN = (
    *(sys.executable, "-c"),
    (
        "import sys; sys.path[:] = filter(None, sys.path); import runpy; "
        "runpy.run_module('ipykernel_launcher', run_name='__main__', alter_sys=True)"
    ),
    *("-f", "{connection_file}"),
)
"""As in the images, see bootstrap-kernel.sh."""
KILL = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
LOOK = """
def look():
    import atexit, json, os, re, resource, signal, socket, sys, threading
    main = sys.modules["__main__"]
    files = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            kind = os.readlink(f"/proc/self/fd/{number}").split(":")[0]
            if kind == "socket":
                kind = socket.socket(fileno=os.dup(int(number))).family.name
        except OSError:  # the one of listdir
            continue
        if kind in ("pipe", "AF_UNIX"):  # connections come and go, a thread writes the history
            files[kind] = files.get(kind, 0) + 1
    oom_score = open("/proc/self/oom_score_adj").read()
    status = open("/proc/self/status").read()
    kinds = ("SigBlk", "SigIgn", "SigCgt", "Umask")
    masks = [line for line in status.splitlines() if line.startswith(kinds)]
    read = os.read(0, 10).decode()
    print(json.dumps({
        "argv": [sys.argv, getattr(sys, "orig_argv", None), sys.flags, sys.warnoptions],
        "atexit": atexit._ncallbacks(),
        "cwd": os.getcwd(),
        "environ": dict(os.environ),
        "files": files,
        "leader": [os.getsid(0) == os.getpgrp() == os.getpid(), os.getppid()],
        "limits": [resource.getrlimit(number) for number in range(16)],
        "main": [name for name in vars(main) if name.startswith("__")],
        "masks": masks,
        "oom_score": oom_score,
        "path": sys.path,
        "signals": [repr(signal.getsignal(number)).split(" at ")[0] for number in range(1, 32)],
        "stdin": [read, os.readlink("/proc/self/fd/0")],
        "threads": sorted(re.sub("[0-9]+", "", thread.name) for thread in threading.enumerate()),
    }))
look()
"""


async def until_spare(agent: Agent) -> int:
    """Wait until a spare is ready; return its process id."""
    await agent.until_state("idle")

    async def is_ready() -> bool:
        return bool((await agent.state())["spare"])

    await eventually(is_ready)
    return max(children(agent.pid), key=start_of)


def start_of(pid: int) -> int:
    """Return when a process began: the later, the larger."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def children(pid: int) -> list[int]:
    """Return the children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


async def restart(agent: Agent) -> dict[str, float]:
    """Restart the kernel; return the steps of that."""
    status, document = await agent.request("POST", "/v1/restart")
    assert status == 200, document
    return dict(document["start"]["steps"])


KINDS = pytest.mark.parametrize("kind", ["spare", "pooled"])


@asynccontextmanager
async def imported_ahead(kind: str, *preload: str) -> AsyncIterator[tuple[Agent, Client]]:
    """A kernel whose process imported before it booted: as a spare, or as a pool's first one."""
    settings = {"spare": SPARE, "pooled": {"pool_ttl": 3600}}[kind]
    async with Agent(settings={**settings, "preload": preload}) as agent:
        if kind == "pooled":
            await agent.until_state("idle")
            taking = {"username": "bob", "env": {"GREETING": "hello"}}
            assert (await agent.request("POST", "/v1/take", taking))[0] == 200
        client = await agent.connect("s")
        if kind == "spare":
            await client.execute("1")
            await until_spare(agent)
            assert "spare" in await restart(agent)
        yield agent, client


async def pid_of(client: Client) -> int:
    """Return the process id of the kernel."""
    return int(texts(await client.execute("import os; print(os.getpid())")))


async def modules_of(client: Client) -> set[str]:
    """Return the names of the modules that the kernel has loaded."""
    return set(texts(await client.execute("import sys; print(*sys.modules)")).split())


async def test_restart_takes_the_spare_and_makes_the_next() -> None:
    """The kernel is the process that waited; it knows nothing of the former one."""
    async with Agent(settings=SPARE) as agent:
        client = await agent.connect("s")
        await client.execute("x = 1")
        for _ in range(2):
            former, spare = await pid_of(client), await until_spare(agent)
            assert set(await restart(agent)) == {"end", "spare"}
            assert await pid_of(client) == spare
            assert "False" in texts(await client.execute("print('x' in globals()); x = 1"))
            assert not is_running(former)
        await until_spare(agent)


COMMANDS = pytest.mark.parametrize(
    "argv",
    [IPYKERNEL, IMAGES_OWN, (IPYKERNEL[0], "-X", "utf8", "-Wignore", *IPYKERNEL[1:], "--debug")],
    ids=["module", "image", "options"],
)


@COMMANDS
async def test_users_cannot_tell_a_spare(argv: Sequence[str], tmp_path: Path) -> None:
    """What a process can know of itself is as in the kernel's first one."""
    env = {"KERNEL_WORKING_DIR": str(tmp_path)}
    async with Agent(argv=argv, settings=SPARE, env=env) as agent:
        client = await agent.connect("s")
        first = json.loads(texts(await client.execute(LOOK)))
        modules = await modules_of(client)
        await until_spare(agent)
        assert "spare" in await restart(agent)
        second = json.loads(texts(await client.execute(LOOK)))
        assert second == first
        assert await modules_of(client) == modules


@COMMANDS
async def test_users_cannot_tell_a_preloaded_first_process(
    argv: Sequence[str], tmp_path: Path
) -> None:
    """That of a pool's kernel is like the next one, which has imported nothing ahead."""
    settings = {"pool_ttl": 3600, "preload": ["json"]}
    env = {"KERNEL_WORKING_DIR": str(tmp_path)}
    async with Agent(argv=argv, settings=settings, env=env) as agent:
        await agent.until_state("idle")
        assert (await agent.request("POST", "/v1/take", {"username": "bob"}))[0] == 200
        client = await agent.connect("s")
        first = json.loads(texts(await client.execute(LOOK)))
        modules = await modules_of(client)
        assert set(await restart(agent)) == {"end", "kernel"}
        assert json.loads(texts(await client.execute(LOOK))) == first
        assert await modules_of(client) == modules


async def test_restarts_in_a_row_wait_for_no_spare() -> None:
    """Whether it is not started yet, imports or is ready: each gives a new kernel."""
    async with Agent(settings=SPARE) as agent:
        client = await agent.connect("s")
        pids = {await pid_of(client)}
        for _ in range(20):
            await restart(agent)
            pids.add(await pid_of(client))
        assert len(pids) == 21
        await until_spare(agent)
        assert len(children(agent.pid)) == 2


async def test_restart_while_the_spare_imports_starts_a_process(tmp_path: Path) -> None:
    """One that hangs costs no time, and ends; so does one that cannot import its launcher."""
    begun = tmp_path / "begun"
    (tmp_path / "hangs.py").write_text(
        f"import time\nopen({str(begun)!r}, 'w').close()\ntime.sleep(600)"
    )
    settings = {**SPARE, "preload": ["hangs"]}
    async with Agent(settings=settings, env={"PYTHONPATH": str(tmp_path)}) as agent:
        client = await agent.connect("s")
        former = await pid_of(client)
        await eventually(begun.exists)
        (spare,) = set(children(agent.pid)) - {former}
        assert set(await restart(agent)) == {"end", "kernel"}
        assert await pid_of(client) not in {former, spare}
        await eventually(lambda: not is_running(spare))


@pytest.mark.parametrize("autorestart", [True, False])
async def test_spare_that_cannot_become_the_kernel_fails_no_restart(
    autorestart: bool,  # noqa: FBT001  # a parameter
    tmp_path: Path,
) -> None:
    """As when a preloaded module breaks ipykernel: the kernel is started without it."""
    (tmp_path / "breaks.py").write_text(
        "import os\nfrom ipykernel.kernelapp import IPKernelApp\n"
        "IPKernelApp.init_kernel = lambda self: os._exit(3)\n"
    )
    settings = {**SPARE, "preload": ["breaks"], "autorestart": autorestart}
    async with Agent(settings=settings, env={"PYTHONPATH": str(tmp_path)}) as agent:
        client = await agent.connect("s")
        await client.execute("1")
        await until_spare(agent)
        during = asyncio.create_task(restart(agent))
        await agent.until_state("restarting")
        msg_id = await client.run("print('again')")
        assert set(await during) == {"end", "spare", "kernel"}
        assert "again" in texts(await client.finish(msg_id))
        state = await agent.state()
        assert (state["restarts"], state["reason"]) == (1, None)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
async def test_spare_that_a_user_signals_does_no_harm(signum: int) -> None:
    """A dead one is not missed, one that was stopped goes on."""
    async with Agent(settings=SPARE) as agent:
        client = await agent.connect("s")
        spare = await until_spare(agent)
        await client.execute(f"import os; os.kill({spare}, {signum})")
        assert set(await restart(agent)) <= {"end", "kernel", "spare"}
        assert (await pid_of(client) == spare) is (signum == signal.SIGSTOP)


async def test_kernel_that_dies_is_replaced_by_the_spare() -> None:
    """Clients are told of the death, with its reason, and go on sooner."""
    async with Agent(settings=SPARE) as agent:
        client = await agent.connect("s")
        await client.execute("1")
        spare = await until_spare(agent)
        await client.execute(KILL)
        assert await pid_of(client) == spare
        state = await agent.state()
        assert state["reason"]["signal"] == "SIGKILL"
        assert set(state["start"]["steps"]) == {"end", "spare"}


async def test_processes_of_the_former_run_end_and_the_spare_stays() -> None:
    """Daemons in sessions of their own, too; nothing else survives."""
    code = (
        "import subprocess\n"
        "one = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "two = subprocess.check_output(['sh', '-c', 'setsid sleep 600 >/dev/null & echo $!'])\n"
        "print(one.pid, int(two))"
    )
    async with Agent(settings=SPARE) as agent:
        client = await agent.connect("s")
        daemons = [int(pid) for pid in texts(await client.execute(code)).split()]
        spare = await until_spare(agent)
        assert all(is_running(pid) for pid in daemons)
        await client.execute(
            "import subprocess, os; subprocess.run(['pkill', '-P', str(os.getpid())])"
        )
        assert "spare" in await restart(agent)
        assert not any(is_running(pid) for pid in daemons)
        assert await pid_of(client) == spare


async def test_spare_ends_with_its_agent() -> None:
    """Also with one that is killed."""
    async with Agent(settings=SPARE) as agent:
        spare = await until_spare(agent)
        os.kill(agent.pid, signal.SIGKILL)
        await eventually(lambda: not is_running(spare))
    async with Agent(settings=SPARE) as agent:
        spare = await until_spare(agent)
        assert (await agent.request("POST", "/v1/shutdown"))[0] == 204
        assert await agent.wait() == 0
        assert not is_running(spare)


@pytest.mark.parametrize("what", ["installed", "replaced"])
async def test_restart_after_an_installation_knows_it(what: str, tmp_path: Path) -> None:
    """A package that came or changed after the spare had started is there."""
    packages = tmp_path / "site-packages"
    packages.mkdir()
    (packages / "old.py").write_text("version = 1")
    settings = {**SPARE, "preload": ["old"]}
    async with Agent(settings=settings, env={"PYTHONPATH": str(packages)}) as agent:
        client = await agent.connect("s")
        await client.execute("1")
        spare = await until_spare(agent)
        if what == "installed":
            (packages / "new.py").write_text("version = 22")
        else:
            (packages / "old.py").write_text("version = 22")
        assert set(await restart(agent)) == {"end", "kernel"}
        name = "new" if what == "installed" else "old"
        assert texts(await client.execute(f"import {name}; print({name}.version)")) == "22\n"
        assert await pid_of(client) == spare  # which began anew
        await until_spare(agent)


async def test_preloaded_modules_are_there_after_a_restart(tmp_path: Path) -> None:
    """Not at the first start; one that cannot be imported is a line of the log."""
    (tmp_path / "local.py").write_text("")
    preload = ["xml.dom.minidom", "no_such_module", "local"]
    settings = {**SPARE, "preload": preload}
    async with Agent(settings=settings, env={"KERNEL_WORKING_DIR": str(tmp_path)}) as agent:
        client = await agent.connect("s")
        assert "xml.dom.minidom" not in await modules_of(client)
        await until_spare(agent)
        assert "spare" in await restart(agent)
        loaded = await modules_of(client)
        assert "xml.dom.minidom" in loaded
        assert "local" not in loaded  # cells have it from their working directory, whatever it is
        _, log = await agent.request("GET", "/v1/log")
        assert "cannot preload no_such_module: ModuleNotFoundError" in log


@KINDS
async def test_preloaded_matplotlib_draws_in_the_notebook(kind: str) -> None:
    """The backend is the one that ipykernel chooses, as if it was imported by a cell."""
    async with imported_ahead(kind, "matplotlib.pyplot") as (_, client):
        assert "matplotlib.pyplot" in await modules_of(client)
        code = "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()"
        drawn: list[Any] = [m for m in await client.execute(code) if m.type == "display_data"]
        assert "image/png" in drawn[0].content["data"]


@KINDS
async def test_kernel_that_imported_ahead_is_interrupted_and_asks(kind: str) -> None:
    """From its first cell on: an interrupt, threads, subprocesses, and `input()`."""
    async with imported_ahead(kind, "json") as (agent, client):
        msg_id = await client.run("print('on')\nwhile True: pass")
        await client.until(lambda m: "on" in texts([m]))
        assert (await agent.request("POST", "/v1/interrupt"))[0] == 204
        seen = await client.finish(msg_id)
        assert [m.content["ename"] for m in seen if m.type == "error"] == ["KeyboardInterrupt"]
        msg_id = await client.run("print(input('name? '))", allow_stdin=True)
        prompt = (await client.until(lambda m: m.type == "input_request"))[-1]
        await client.send(
            "input_reply", {"value": "ann"}, channel="stdin", parent_header=prompt.header
        )
        assert "ann" in texts(await client.finish(msg_id))
        code = (
            "import subprocess, threading\n"
            "thread = threading.Thread(target=print, args=('thread',)); thread.start()\n"
            "thread.join(); print(subprocess.check_output(['echo', 'child'], text=True))"
        )
        assert {"thread", "child"} <= set(texts(await client.execute(code)).split())


async def test_no_spare_in_little_memory() -> None:
    """The memory belongs to the kernel: a spare takes at most an eighth of it."""
    with limited_memory(256 * MIB) as prefix:
        async with Agent(settings=SPARE, prefix=prefix) as agent:
            client = await agent.connect("s")
            await client.execute("1")
            await eventually(lambda: "no spare for restarts" in agent.log())
            await eventually(lambda: len(children(agent.pid)) == 1)
            assert not (await agent.state())["spare"]
            assert set(await restart(agent)) == {"end", "kernel"}


async def test_spare_is_the_first_to_go_when_memory_is_short() -> None:
    """The kernel gets the memory, and its own death later is not taken for one of want."""
    limit = 700 * MIB
    with limited_memory(limit) as prefix:
        async with Agent(settings=SPARE, prefix=prefix) as agent:
            client = await agent.connect("s")
            base = int(texts(await client.execute("import os; print(os.getpid())")))
            spare = await until_spare(agent)
            code = f"x = []\nwhile os.path.exists('/proc/{spare}'): x.append(b'x' * {MIB})"
            seen = await asyncio.wait_for(client.execute(code), 60)
            assert not [m for m in seen if m.type == "error"]
            assert await pid_of(client) == base
            await client.execute(KILL)
            await client.execute("1")
            assert not (await agent.state())["reason"]["out_of_memory"]


async def test_other_kernels_have_no_spare() -> None:
    """A command that is not known to be ipykernel is started anew."""
    argv = ("sh", "-c", f"exec {sys.executable} -m ipykernel_launcher -f $0", "{connection_file}")
    async with Agent(argv=argv, settings=SPARE) as agent:
        client = await agent.connect("s")
        await client.execute("1")
        assert set(await restart(agent)) == {"end", "kernel"}
        assert not (await agent.state())["spare"]
