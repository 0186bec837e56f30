"""What clients are told of that a running kernel could not have."""

import asyncio
from pathlib import Path
from unittest.mock import Mock

import pytest

from kernel_agent.kernel import shortages
from kernel_agent.kernel.shortages import ShortageWatch, explain_killed_process
from kernel_agent.process.exits import SharedMemory
from kernel_agent.system.cgroup import OomCounter, PidsCounter
from kernel_agent.system.memory import end_before_agent


class Group:
    """A control group of version 2, and a watch of it that is looked through by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "cgroup").write_text("0::/\n")
        (folder / "pids.max").write_text("64\n")
        self.count()
        self.told: list[str] = []
        self.is_alive = True
        self.oom = OomCounter(folder / "cgroup", folder)
        pids = PidsCounter(folder / "cgroup", folder)
        self.shared_memory: SharedMemory | None = SharedMemory(64 << 20, 64 << 20)
        self.watch = ShortageWatch(
            self.oom,
            pids,
            lambda: True,
            lambda: self.is_alive,
            self.told.append,
            lambda: self.shared_memory,
        )

    def count(self, oom_kill: int = 0, refused: int = 0) -> None:
        """Write the counters."""
        (self.folder / "memory.events").write_text(f"oom 9\noom_kill {oom_kill}\n")
        (self.folder / "pids.events").write_text(f"max {refused}\n")

    def look(self) -> None:
        """Let the time of a look come."""
        self.watch._look()


@pytest.fixture
async def group(tmp_path: Path) -> Group:
    """A group in which nothing has happened yet."""
    return Group(tmp_path)


async def test_killed_process_is_told_once_the_kernel_is_seen_to_live(group: Group) -> None:
    """The look after that which saw the kill: the kernel's own end would have come meanwhile."""
    group.count(oom_kill=1)
    group.look()
    assert group.told == []
    group.look()
    assert len(group.told) == 1
    assert "A process that the kernel had started was killed" in group.told[0]
    group.look()
    assert len(group.told) == 1
    assert not group.oom.has_increased()


async def test_kernel_that_was_killed_is_not_told_as_another_process(group: Group) -> None:
    """Its counter is left for the reason of its end."""
    group.count(oom_kill=1)
    group.look()
    group.is_alive = False
    for _ in range(3):
        group.look()
    assert group.told == []
    assert group.oom.has_increased()


async def test_full_shared_memory_is_told_once(group: Group) -> None:
    """Workers that fill it are killed, and may take what filled it along."""
    group.look()
    group.shared_memory = None
    group.look()
    assert group.told == []
    group.shared_memory = SharedMemory(64 << 20, 4096)
    group.look()
    group.look()
    (notice,) = group.told
    assert "64 MiB in /dev/shm, is full" in notice
    assert "KERNEL_SHM_SIZE" in notice
    group.shared_memory = SharedMemory(64 << 20, 32 << 20)
    group.look()
    group.shared_memory = SharedMemory(64 << 20, 0)
    group.look()
    assert len(group.told) == 2


async def test_spare_that_was_killed_is_not_told(group: Group) -> None:
    """Its end is discounted where it is seen."""
    group.count(oom_kill=1)
    group.look()
    group.oom.discount()
    group.look()
    assert group.told == []


async def test_refused_processes_are_told_once_in_a_while(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a kernel tries; with the limit."""
    for refused in range(1, 6):
        group.count(refused=refused)
        group.look()
    assert len(group.told) == 1
    assert "may not have more than 64 of them" in group.told[0]
    monkeypatch.setattr(shortages, "QUIET_SECONDS", 0.0)
    group.watch._next_notice = 0.0
    group.count(refused=9)
    group.look()
    assert len(group.told) == 2


async def test_idle_kernel_is_not_looked_at(group: Group) -> None:
    """A timer runs only while there is something to see."""
    loop = asyncio.get_running_loop()
    call_later = Mock(wraps=loop.call_later)
    watch = ShortageWatch(group.oom, PidsCounter(), lambda: False, lambda: True, group.told.append)
    watch._loop = Mock(call_later=call_later, time=loop.time)
    watch.begin()
    watch.begin()
    assert call_later.call_count == 1
    watch._look()
    assert call_later.call_count == 1
    watch.stop()


def test_machine_without_memory_has_no_limit_to_tell() -> None:
    """A container without a limit shares the machine's."""
    assert "the machine had none left" in explain_killed_process(None)
    assert "the memory limit is 1.5 GiB" in explain_killed_process(3 << 29)


def test_process_that_is_gone_needs_no_score() -> None:
    """It may end at any moment."""
    end_before_agent(2**22 + 1)


async def test_kernel_that_takes_long_to_end_has_run_out_of_memory(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though its kill was told as another process's; but not if it ends much later."""
    group.count(oom_kill=1)
    group.look()
    group.look()
    assert len(group.told) == 1
    assert group.watch.has_ended_kernel()
    assert not group.watch.has_ended_kernel()
    monkeypatch.setattr(shortages, "DYING_SECONDS", 0.0)
    group.count(oom_kill=2)
    group.look()
    group.look()
    assert not group.watch.has_ended_kernel()


async def test_kernel_that_ends_at_once_has_run_out_of_memory(group: Group) -> None:
    """Before any look, or after the first."""
    assert not group.watch.has_ended_kernel()
    group.count(oom_kill=1)
    assert group.watch.has_ended_kernel()
    group.count(oom_kill=2)
    group.look()
    assert group.watch.has_ended_kernel()
    assert group.told == []


async def test_killed_processes_are_told_once_in_a_while(group: Group) -> None:
    """A pool of workers that starts each anew would fill the page; each kill still counts."""
    for killed in range(1, 5):
        group.count(oom_kill=killed)
        group.look()
        group.look()
    assert len(group.told) == 1
    assert not group.oom.has_increased()
    group.watch._next_kill_notice = 0.0
    group.count(oom_kill=9)
    group.look()
    group.look()
    assert len(group.told) == 2
