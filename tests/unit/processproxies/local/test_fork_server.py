"""Agents from the fork server. Their kernels are shell commands."""

import asyncio
import os
import re
import signal
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from harness.engines.leftovers import find_processes, kill_local_kernels
from harness.waiting import eventually, wait_in_thread

from enterprise_gateway.services.processproxies.local import fork_server
from enterprise_gateway.services.processproxies.local.fork_server import (
    AgentProcess,
    ForkServer,
    ForkServerError,
)

DEADLINE = 60.0
SLEEP = ("sleep", "1000")
TOKEN = "token-5c1c8a3e"
DROPPED = "-sys_ptrace,-sys_admin,-perfmon"
UNPRIVILEGED = ("setpriv", f"--bounding-set={DROPPED}", f"--inh-caps={DROPPED}")
"""Root may not read other processes' memory, like any user."""


@dataclass
class Lab:
    """A fork server, and a folder for its agents.

    Attributes:
        username: marks their processes.
    """

    folder: Path
    forks: ForkServer = field(default_factory=lambda: ForkServer({"PATH": os.environ["PATH"]}))
    username: str = field(default_factory=lambda: f"forks{uuid.uuid4().hex}")

    async def fork(
        self, kernel: Sequence[str], env: Mapping[str, str] | None = None, name: str = "agent"
    ) -> AgentProcess:
        """Fork an agent, whose files begin with a name."""
        environ = {
            "PATH": os.environ["PATH"],
            "EG_AGENT_FOLDER": str(self.folder),
            "EG_AGENT_LISTEN": f"unix:{self.folder}/{name}.sock",
            "EG_AGENT_TOKEN": TOKEN,
            "KERNEL_ID": name,
            "KERNEL_USERNAME": self.username,
            **(env or {}),
        }
        with self.log(name).open("ab") as log:
            return await self.forks.fork(["--", *kernel], environ, str(self.folder), log.fileno())

    def log(self, name: str = "agent") -> Path:
        """Return the path of an agent's log."""
        return self.folder / f"{name}.log"

    def processes(self) -> list[int]:
        """Return the agents and kernels."""
        return find_processes(f"KERNEL_USERNAME={self.username}")


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """Return a lab whose processes are killed afterwards."""
    lab = Lab(tmp_path)
    yield lab
    await lab.forks.close()
    await asyncio.to_thread(kill_local_kernels, lab.username)


async def reason(agent: AgentProcess) -> str:
    """Return how an agent ended."""
    assert agent.exit is not None
    return await asyncio.wait_for(agent.exit, DEADLINE)


def status(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the name: state, parent, process group, session."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def exists(pid: int) -> bool:
    """Return whether there is a process, if only as a zombie."""
    return Path(f"/proc/{pid}").exists()


def parent(agent: AgentProcess) -> int:
    """Return the fork server of an agent."""
    return int(status(agent.identity.pid)[1])


def descriptors(pid: int) -> dict[str, str]:
    """Return what a process has open."""
    found = {}
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found[one.name] = str(one.readlink())
    return found


async def test_agent_that_cannot_begin_says_why(lab: Lab) -> None:
    """As one that is executed: in its log and by its exit code."""
    assert await reason(await lab.fork(SLEEP, {"EG_AGENT_TOKEN": ""})) == "exit code 2"
    assert lab.log().read_text() == "kernel_agent: EG_AGENT_TOKEN is not set\n"


async def test_agent_in_a_folder_that_is_gone_says_so(lab: Lab) -> None:
    """The gateway has looked for it before, but it may be removed meanwhile."""
    with lab.log().open("ab") as log:
        agent = await lab.forks.fork(["--", *SLEEP], {}, "/no/such/folder", log.fileno())
        assert await reason(agent) == "exit code 2"
    assert "No such file or directory: '/no/such/folder'" in lab.log().read_text()


async def test_killed_agent_is_told_as_such(lab: Lab) -> None:
    """A user sees that its process was killed, for example for want of memory."""
    agent = await lab.fork(SLEEP)
    assert agent.identity.is_running()
    os.kill(agent.identity.pid, signal.SIGKILL)
    assert await reason(agent) == "killed by SIGKILL"
    assert not agent.identity.is_running()


async def test_process_is_its_own(lab: Lab) -> None:
    """It leads a session, is in its folder, and ps shows which kernel it is for."""
    pid = (await lab.fork(SLEEP, name="mine")).identity.pid
    await wait_in_thread(lambda: len(lab.processes()) == 2)
    folder = Path(f"/proc/{pid}")
    assert status(pid)[3] == str(pid)
    assert (folder / "cwd").readlink() == lab.folder
    assert (folder / "cmdline").read_bytes().rstrip(b"\0") == b"kernel_agent\0mine"
    assert TOKEN.encode() not in (folder / "environ").read_bytes()


async def test_kernel_has_the_environment_of_its_launch_only(lab: Lab) -> None:
    """Nothing of another kernel's, of the fork server's, or of the agent's own."""
    dump = ("sh", "-c", "env >$KERNEL_ID.env; exit 3")
    first = await lab.fork(dump, {"SECRET_OF_A": "a", "LANG": "C", "HOME": "/"}, "a")
    assert await reason(first) == "exit code 1"
    long = {f"LONG_{number}": "x" * 10_000 for number in range(60)}
    second = await lab.fork(dump, {"B": "\udcff\n=", "HOME": str(lab.folder), **long}, "b")
    assert await reason(second) == "exit code 1"
    text = (lab.folder / "b.env").read_text(errors="surrogateescape")
    found = dict(re.findall(r"^(\w+)=((?:.|\n(?!\w+=))*)$", text, re.MULTILINE))
    names = {"PATH", "HOME", "KERNEL_ID", "KERNEL_USERNAME", "B", *long}
    # the agent's word for ipykernel, and the shell's own
    assert set(found) - {"JPY_PARENT_PID", "PWD", "OLDPWD", "SHLVL", "_"} == names
    assert found["B"] == "\udcff\n="
    assert found["PWD"] == str(lab.folder)


async def test_fork_server_keeps_nothing_of_a_launch(lab: Lab) -> None:
    """Its memory, which later agents share, has no secret of an earlier one."""
    agent = await lab.fork(SLEEP)
    secret = TOKEN.encode()
    assert secret in await asyncio.to_thread(memory, agent.identity.pid)
    assert secret not in await asyncio.to_thread(memory, parent(agent))


def memory(pid: int) -> bytes:
    """Return the memory of a process that it may write to."""
    found = b""
    with Path(f"/proc/{pid}/mem").open("rb") as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            area, rights = line.split()[:2]
            begin, end = (int(part, 16) for part in area.split("-"))
            if rights.startswith("rw"):
                file.seek(begin)
                found += file.read(end - begin)
    return found


async def test_agent_has_no_descriptor_of_others(lab: Lab) -> None:
    """Neither the fork server's, by which it is told from its gateway, nor other agents'."""
    agents = [await lab.fork(SLEEP, name=f"agent-{number}") for number in range(3)]
    await wait_in_thread(lambda: len(lab.processes()) == 6)
    server, pid = parent(agents[0]), agents[-1].identity.pid
    private = {
        target
        for name, target in descriptors(server).items()
        if int(name) > 2 and target.startswith("socket:")
    }
    assert len(private) == 1, "the fork server has its control socket and no other"
    found = descriptors(pid)
    assert not private & set(found.values())
    assert "anon_inode:[pidfd]" not in found.values()
    assert found["0"] == "/dev/null"
    assert found["1"] == found["2"] == str(lab.log("agent-2"))


PEEK = """
for pid in $PPID $(cut -d' ' -f4 /proc/$PPID/stat); do
    for name in environ mem; do
        cat /proc/$pid/$name >/dev/null 2>&1 && echo "$name can be read"
        (: >>/proc/$pid/$name) 2>/dev/null && echo "$name can be opened for writing"
    done
    echo "peeked at $pid"
done
exit 3
"""


async def test_kernel_sees_nothing_of_agent_and_fork_server(lab: Lab) -> None:
    """Code in the kernel, which is the same user's, can read the memory of neither."""
    agent = await lab.fork([*UNPRIVILEGED, "sh", "-c", PEEK])
    server = parent(agent)
    assert await reason(agent) == "exit code 1"
    text = lab.log().read_text()
    assert f"peeked at {agent.identity.pid}\n" in text
    assert f"peeked at {server}\n" in text
    assert " can be " not in text


async def test_sixteen_agents_at_once(lab: Lab) -> None:
    """Each is a process of its own that runs, and none stays as a zombie."""
    agents = await asyncio.gather(*(lab.fork(SLEEP, name=f"a{number}") for number in range(16)))
    assert len({agent.identity.pid for agent in agents}) == 16
    assert all(agent.identity.is_running() for agent in agents)
    assert len({parent(agent) for agent in agents}) == 1
    for agent in agents:
        os.kill(agent.identity.pid, signal.SIGKILL)
    assert {await reason(agent) for agent in agents} == {"killed by SIGKILL"}
    assert not any(exists(agent.identity.pid) for agent in agents)


async def test_agents_outlive_a_killed_fork_server(lab: Lab) -> None:
    """Only their exit reason will not be known. The next agent comes from another fork server."""
    agent = await lab.fork(SLEEP, name="one")
    server = parent(agent)
    os.kill(server, signal.SIGKILL)
    assert agent.exit is not None
    await asyncio.wait({agent.exit}, timeout=DEADLINE)
    assert agent.exit.cancelled()
    assert agent.identity.is_running()
    another = await lab.fork(SLEEP, name="two")
    assert parent(another) != server
    os.kill(another.identity.pid, signal.SIGKILL)
    assert await reason(another) == "killed by SIGKILL"


async def test_stopped_fork_server_is_replaced(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that wait are told, and it will not serve them later."""
    server = parent(await lab.fork(SLEEP, name="before"))
    os.kill(server, signal.SIGSTOP)
    monkeypatch.setattr(fork_server, "_DEADLINE_SECONDS", 0.5)
    results = await asyncio.gather(
        *(lab.fork(SLEEP, name=f"late-{number}") for number in range(3)), return_exceptions=True
    )
    assert [type(result) for result in results] == [ForkServerError] * 3
    monkeypatch.undo()
    await wait_in_thread(lambda: not exists(server))
    assert parent(await lab.fork(SLEEP, name="after")) != server
    assert not any(find_processes(f"KERNEL_ID=late-{number}") for number in range(3))


async def test_cancelled_launch_leaves_no_agent(lab: Lab) -> None:
    """One that had been forked ends, as it was never told what to run."""
    server = parent(await lab.fork(SLEEP, name="first"))
    exits = (await lab.forks.start())._exits
    os.kill(server, signal.SIGSTOP)
    launch = asyncio.create_task(lab.fork(SLEEP, name="second"))
    await eventually(lambda: len(exits) == 2)  # the fork server has been asked
    launch.cancel()
    await asyncio.gather(launch, return_exceptions=True)
    os.kill(server, signal.SIGCONT)
    third = await lab.fork(("sh", "-c", "exit 3"), name="third")
    assert parent(third) == server
    await reason(third)  # that of the second was told before
    assert len(lab.processes()) == 2
    assert not lab.log("second").read_text()


async def test_fork_server_that_cannot_start_is_told(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The launch can be made in another way, and the next one tries again."""
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(ForkServerError, match="No such file"):
        await lab.fork(SLEEP)
    monkeypatch.undo()
    assert (await lab.fork(SLEEP)).identity.is_running()


async def test_fork_server_ends_with_its_gateway(tmp_path: Path) -> None:
    """Also one that was killed: a launch under way leaves nothing, agents go on."""
    gateway, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with closing(gateway):
        with closing(theirs):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "kernel_agent.fork_server", str(theirs.fileno())),
                pass_fds=(theirs.fileno(),),
            )
        launch, agents_end = socket.socketpair(type=socket.SOCK_SEQPACKET)
        with closing(launch), closing(agents_end), (tmp_path / "log").open("wb") as log:
            parts = [bytes(8)]
            socket.send_fds(gateway, parts, [agents_end.fileno(), log.fileno()])
            answer = await asyncio.to_thread(launch.recv, 16)
    pid = int.from_bytes(answer[:8], "big")
    assert await asyncio.wait_for(process.wait(), DEADLINE) == 0
    await wait_in_thread(lambda: not exists(pid) or status(pid)[0] == "Z")
    assert not (tmp_path / "log").read_bytes()
