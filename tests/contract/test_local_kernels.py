"""Local kernels only: files, and a process table shared with other users."""

import asyncio
import dataclasses
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from harness.proxies.rigs import LocalRig, Watcher, ask_agent

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.processproxies.contract import (
    BaseProcessProxyABC,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.local import fork_server
from enterprise_gateway.services.processproxies.local.processes import ProcessIdentity, kill_marked
from enterprise_gateway.services.processproxies.resources import KernelResources, Usage

pytestmark = pytest.mark.kernel


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[LocalRig]:
    """Return a rig for local kernels only."""
    rig = LocalRig(tmp_path)
    yield rig
    await rig.close()


@pytest.fixture
async def proxy(rig: LocalRig) -> BaseProcessProxyABC:
    """Return a started process proxy."""
    return await rig.open_proxy()


async def test_files_are_the_users_own(rig: LocalRig, proxy: BaseProcessProxyABC) -> None:
    """Only the gateway's user can enter the folder, and no record holds a token."""
    request = rig.request()
    await proxy.launch(request)
    folder = rig.settings.runtime_dir
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = await asyncio.to_thread(lambda: [*folder.iterdir()])
    assert {file.suffix for file in files} == {".kernel", ".log", ".sock", ".agent"}
    for file in files:
        if file.is_file():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert request.agent_token not in file.read_text()


async def test_groups_of_the_user_are_known_to_every_gateway(
    rig: LocalRig, proxy: BaseProcessProxyABC
) -> None:
    """As the labels of a container tell them, for quotas and times."""
    resources = KernelResources(groups=frozenset({"lab"}))
    launched = await proxy.launch(dataclasses.replace(rig.request(), resources=resources))
    found = await (await rig.open_proxy()).observe(launched.kernel_id)
    assert found is not None
    assert found.usage == launched.usage == Usage(groups=frozenset({"lab"}))


async def test_killed_kernel_leaves_no_files(rig: LocalRig, proxy: BaseProcessProxyABC) -> None:
    """Nor does its agent, which had no chance to remove its connection file."""
    request = rig.request()
    await proxy.launch(request)
    folder = rig.settings.runtime_dir
    files = await asyncio.to_thread(lambda: [*folder.glob("*.agent/*/kernel.json")])
    assert len(files) == 1
    await asyncio.to_thread(rig.kill, request.kernel_id)
    await rig.until_gone(request.kernel_id)


async def test_list_says_how_a_kernel_ended_that_ended_just_now(
    rig: LocalRig, proxy: BaseProcessProxyABC
) -> None:
    """Also before the event loop is told, and while the kernel's files are removed."""
    request = rig.request()
    await proxy.launch(request)
    rig.kill(request.kernel_id)
    while workload := await proxy.observe(request.kernel_id):
        dies = workload.state is WorkloadState.RUNNING
        assert dies or workload.exit_reason == "killed by SIGKILL"
    assert await proxy.list() == []


async def test_kernel_that_is_launched_again_at_once_keeps_its_files(
    rig: LocalRig, proxy: BaseProcessProxyABC
) -> None:
    """The clean-up after the dead process does not remove those of the next."""
    request = rig.request()
    for _ in range(3):
        workload = await proxy.launch(request)
        assert workload.endpoint is not None
        await ask_agent(workload.endpoint, "/v1/state")
        rig.kill(request.kernel_id)
        present: Workload | None = workload
        while present is not None and present.state is WorkloadState.RUNNING:
            present = await proxy.observe(request.kernel_id)
    await rig.until_gone(request.kernel_id)


async def test_folder_may_be_deep(rig: LocalRig) -> None:
    """Paths of sockets are limited to 107 bytes; those of folders are not."""
    deep = rig.folder / ("d" * 90) / ("e" * 90)
    rig.settings = dataclasses.replace(rig.settings, runtime_dir=deep)
    proxy = await rig.open_proxy()
    request = rig.request()
    workload = await proxy.launch(request)
    await ask_agent(workload.endpoint, "/v1/state")
    assert workload.endpoint is not None
    sockets = Path(workload.endpoint.unix_path).parent
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    await proxy.remove(request.kernel_id)
    await proxy.close()
    assert not await asyncio.to_thread(sockets.exists)


async def test_unusable_folder_is_the_operators_to_mend(rig: LocalRig) -> None:
    """The gateway reports it when it starts."""
    blocked = rig.folder / "file"
    blocked.touch()
    rig.settings = dataclasses.replace(rig.settings, runtime_dir=blocked / "x")
    with pytest.raises(ConfigurationError, match="for local kernels"):
        await rig.open_proxy()


async def test_log_does_not_grow_without_bound(rig: LocalRig, proxy: BaseProcessProxyABC) -> None:
    """A kernel that prints for ever does not fill the disk; the end of it can be read."""
    noise = "for i in $(seq 60); do head -c 100000 /dev/zero | tr '\\0' x; done; echo the-end"
    kernel = " ".join((sys.executable, *rig.request().argv[1:]))
    request = rig.request(argv=("sh", "-c", f"{noise}; exec {kernel}"))
    await proxy.launch(request)
    log = rig.settings.runtime_dir / f"{request.kernel_id}.log"
    assert log.stat().st_size < 2 << 20
    assert "the-end" in await proxy.read_log(request.kernel_id, 65536)


async def test_kernel_has_a_path_and_nothing_of_the_agents(
    rig: LocalRig, proxy: BaseProcessProxyABC
) -> None:
    """The environment is the request's and little more."""
    seen = rig.folder / "environment"
    argv = ("sh", "-c", f"env | cut -d= -f1 | sort >{seen}; exit 3")
    request = rig.request(argv=argv, env={"KERNEL_USERNAME": rig.username, "X": "1"})
    with pytest.raises(Exception, match="exited with code 3"):
        await proxy.launch(request)
    names = set((await asyncio.to_thread(seen.read_text)).split())
    assert {"PATH", "X", "KERNEL_ID", "KERNEL_USERNAME", "EG_LOCAL_KERNEL"} <= names
    assert not {name for name in names if name.startswith("EG_AGENT_")}
    assert not names & {"RESPONSE_ADDRESS", "PUBLIC_KEY", "PORT_RANGE"}


async def test_working_directory_is_the_one_asked_for(
    rig: LocalRig, proxy: BaseProcessProxyABC
) -> None:
    """A missing folder is replaced by the user's home."""
    for cwd, expected in ((str(rig.folder), rig.folder), ("/no/such/folder", Path.home())):
        seen = rig.folder / "cwd"
        request = rig.request(argv=("sh", "-c", f"pwd >{seen}; exit 3"), cwd=cwd)
        with pytest.raises(Exception, match="exited with code 3"):
            await proxy.launch(request)
        assert (await asyncio.to_thread(seen.read_text)).strip() == str(expected)


async def test_record_of_another_process_is_not_taken_for_the_kernel(
    rig: LocalRig, proxy: BaseProcessProxyABC
) -> None:
    """If another process has the pid now, the kernel is dead, and that process survives."""
    workload = await proxy.launch(rig.request())
    await proxy.close()
    await asyncio.to_thread(rig.kill, workload.kernel_id)
    bystander = await asyncio.create_subprocess_exec("sleep", "1000")
    record = rig.settings.runtime_dir / f"{workload.kernel_id}.kernel"
    identity = ProcessIdentity.of(bystander.pid)
    assert identity is not None
    text = await asyncio.to_thread(record.read_text)
    pid = text.partition('"pid":')[2].partition(",")[0]
    await asyncio.to_thread(
        record.write_text, text.replace(f'"pid":{pid}', f'"pid":{bystander.pid}')
    )
    await rig.open_proxy()
    await rig.until_gone(workload.kernel_id)
    assert identity.is_running()
    bystander.kill()
    await bystander.wait()


def test_identity_survives_no_process() -> None:
    """A process is itself, and gone when it is gone."""
    own = ProcessIdentity.of(os.getpid())
    assert own is not None
    assert own.is_running()
    assert not dataclasses.replace(own, start_time=own.start_time - 1).is_running()
    assert not dataclasses.replace(own, boot_id="another").is_running()
    assert not ProcessIdentity.gone(os.getpid()).is_running()
    ProcessIdentity.gone(os.getpid()).kill()


@pytest.mark.parametrize("pid", [0, -1])
def test_identity_is_of_one_process(pid: int) -> None:
    """Not of any child, or of a group: these are what other numbers mean to the system."""
    with pytest.raises(ValueError, match="pid of a process"):
        ProcessIdentity.gone(pid)


def test_unknown_mark_kills_no_process() -> None:
    """Killing by mark looks for the whole entry."""
    kill_marked("EG_LOCAL_KERNEL=")


async def test_agent_shares_most_of_its_memory(rig: LocalRig, proxy: BaseProcessProxyABC) -> None:
    """It costs a fraction of the 20 MiB that a Python of its own with the agent's modules does."""
    request = rig.request()
    await proxy.launch(request)
    pid = rig.agent_pid(request.kernel_id)
    text = await asyncio.to_thread(Path(f"/proc/{pid}/smaps_rollup").read_text)
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
    assert sizes["Private_Clean"] + sizes["Private_Dirty"] < 10 * 1024  # 7 MiB


async def test_killed_fork_server_costs_no_kernel(
    rig: LocalRig, proxy: BaseProcessProxyABC
) -> None:
    """Kernels go on, new ones start, and the ends of both are noticed."""
    former = rig.request()
    await proxy.launch(former)
    os.kill(_parent(rig.agent_pid(former.kernel_id)), signal.SIGKILL)
    later = rig.request()
    for request in (former, later):
        if request is later:
            await proxy.launch(request)
        workload = await proxy.observe(request.kernel_id)
        assert workload is not None
        await ask_agent(workload.endpoint, "/v1/state")
    watcher = Watcher(proxy)
    for request, reason in ((former, "the process ended"), (later, "killed by SIGKILL")):
        await watcher.until(request.kernel_id, WorkloadState.RUNNING)
        await asyncio.to_thread(rig.kill, request.kernel_id)
        dead = await watcher.until(request.kernel_id, WorkloadState.DEAD)
        assert dead.exit_reason == reason
    await watcher.close()


async def test_kernels_start_without_fork_server(
    rig: LocalRig, proxy: BaseProcessProxyABC, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each agent is executed then, and ends as others do."""
    monkeypatch.setattr(fork_server, "_DEADLINE_SECONDS", 0.0)
    request = rig.request()
    workload = await proxy.launch(request)
    await ask_agent(workload.endpoint, "/v1/state")
    assert _parent(rig.agent_pid(request.kernel_id)) == os.getpid()
    watcher = Watcher(proxy)
    await watcher.until(request.kernel_id, WorkloadState.RUNNING)
    await asyncio.to_thread(rig.kill, request.kernel_id)
    dead = await watcher.until(request.kernel_id, WorkloadState.DEAD)
    assert dead.exit_reason == "killed by SIGKILL"
    await watcher.close()


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
