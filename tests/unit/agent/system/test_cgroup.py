"""Out-of-memory kills, as either version of control groups counts them."""

from pathlib import Path

import pytest

from kernel_agent.system.cgroup import (
    OomCounter,
    counter_candidates,
    memory_limit,
    parse_events,
)

V1_CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"


V2_EVENTS = "low 0\nhigh 0\nmax 27\noom 5\noom_kill 2\noom_group_kill 0\n"


@pytest.mark.parametrize(
    ("text", "count"), [(V1_CONTROL, 3), (V2_EVENTS, 2), ("", 0), ("oom_kill x", 0)]
)
def test_oom_kills_are_counted(text: str, count: int) -> None:
    """The counter of either version of control groups."""
    assert parse_events(text, "oom_kill") == count


def test_counter_is_looked_for_in_the_own_group_then_at_the_mount() -> None:
    """In a container the path is often the host's, and the mount the container's own group."""
    root = Path("/cg")
    v1 = "12:pids:/docker/a\n4:memory:/docker/a\n1:name=systemd:/docker/a\n"
    assert counter_candidates(v1, root) == [
        root / "memory/docker/a/memory.oom_control",
        root / "memory/memory.oom_control",
    ]
    v2 = "0::/system.slice/docker-a.scope\n"
    assert counter_candidates(v2, root) == [
        root / "system.slice/docker-a.scope/memory.events",
        root / "memory.events",
    ]
    assert counter_candidates("nonsense\n", root) == []


@pytest.mark.parametrize("version", [1, 2])
def test_oom_counter_sees_new_kills_only(tmp_path: Path, version: int) -> None:
    """Kills before the kernel do not count; a vanished file is no error."""
    proc = tmp_path / "cgroup"
    proc.write_text("4:memory:/a\n" if version == 1 else "0::/\n")
    folder = tmp_path / ("memory" if version == 1 else "")
    folder.mkdir(exist_ok=True)
    file = folder / ("memory.oom_control" if version == 1 else "memory.events")
    file.write_text("oom_kill 4\n")
    counter = OomCounter(proc, tmp_path)
    assert not counter.has_increased()
    file.write_text("oom_kill 5\n")
    assert counter.has_increased()
    assert not counter.has_increased()
    file.unlink()
    assert not counter.has_increased()
    assert not OomCounter(tmp_path / "nothing", tmp_path).has_increased()


@pytest.mark.parametrize(
    ("version", "unlimited"), [(1, "9223372036854771712"), (2, "max")], ids=["v1", "v2"]
)
def test_memory_limit_is_the_lowest_of_the_groups_above(
    tmp_path: Path, version: int, unlimited: str
) -> None:
    """A container's own is at the mount; a process of a machine may be limited by a group above."""
    proc = tmp_path / "cgroup"
    proc.write_text("4:memory:/a/b\n" if version == 1 else "0::/a/b\n")
    root = tmp_path / "cg"
    base = root / "memory" if version == 1 else root
    (base / "a/b").mkdir(parents=True)
    name = "memory.limit_in_bytes" if version == 1 else "memory.max"
    counter = "memory.oom_control" if version == 1 else "memory.events"
    (base / "a/b" / counter).write_text("oom_kill 0\n")
    assert memory_limit(proc, root) is None
    (base / "a/b" / name).write_text(f"{unlimited}\n")
    assert memory_limit(proc, root) is None
    (base / "a" / name).write_text("2000\n")
    assert memory_limit(proc, root) == 2000
    (base / "a/b" / name).write_text("1000\n")
    assert memory_limit(proc, root) == 1000
    (base / name).write_text("500\n")
    assert memory_limit(proc, root) == 500
    assert memory_limit(tmp_path / "nothing", root) is None


def test_kill_of_another_process_is_discounted_once(tmp_path: Path) -> None:
    """Only if there was one, and a kill beside it still counts."""
    (tmp_path / "memory.events").write_text("oom_kill 2\n")
    (tmp_path / "cgroup").write_text("0::/\n")
    counter = OomCounter(tmp_path / "cgroup", tmp_path)
    counter.discount()
    (tmp_path / "memory.events").write_text("oom_kill 3\n")
    counter.discount()
    assert not counter.has_increased()
    (tmp_path / "memory.events").write_text("oom_kill 5\n")
    counter.discount()
    assert counter.has_increased()
