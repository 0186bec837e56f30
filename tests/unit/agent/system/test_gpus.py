"""How long GPUs have been idle, by a program in the place of nvidia-smi."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from harness.waiting import eventually

from kernel_agent.system import gpus
from kernel_agent.system.gpus import GPUWatch, parse_utilization, read_utilization
from kernel_agent.system.reaper import Reaper


@pytest.fixture
async def reaper() -> AsyncIterator[Reaper]:
    """Owns the children of the test."""
    made = Reaper()
    yield made
    made.close()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Where the program is looked for first."""
    return tmp_path / "nvidia-smi"


def path_of(program: Path) -> str:
    """Return the folders in which programs are looked for."""
    return f"{program.parent}:/usr/bin:/bin"


def write(program: Path, script: str, mode: int = 0o755) -> None:
    """Replace the program as a whole."""
    fresh = program.with_suffix(".new")
    fresh.write_text(f"#!/bin/sh\n{script}\n")
    fresh.chmod(mode)
    fresh.rename(program)


def has_process(pid_file: Path) -> bool:
    """Say whether the process whose id a file holds is there."""
    return Path(f"/proc/{int(pid_file.read_text())}").exists()


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (b"0\n", 0),
        (b"0\n 35 \n100\n", 100),
        (b"", None),
        (b"[N/A]\n", None),
        (b"0\n[Not Supported]\n", None),
        (b"NVIDIA-SMI has failed\n", None),
        (b"9" * 5000, None),
    ],
)
def test_busiest_gpu_counts(output: bytes, expected: int | None) -> None:
    """What is not known of one GPU is not known."""
    assert parse_utilization(output) == expected


async def test_program_is_asked(program: Path, reaper: Reaper) -> None:
    """Without one, or with one that fails, there is nothing to know."""
    assert await read_utilization(reaper, path_of(program)) is None
    write(program, 'test -z "$EG_AGENT_TOKEN" && echo 7')
    assert await read_utilization(reaper, path_of(program)) == 7
    write(program, "echo 7; exit 9")
    assert await read_utilization(reaper, path_of(program)) is None
    write(program, "echo 7", mode=0o644)
    assert await read_utilization(reaper, path_of(program)) is None


async def test_program_that_hangs_is_killed(
    program: Path, reaper: Reaper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver in trouble must not fill the container with processes."""
    monkeypatch.setattr(gpus, "ANSWER_SECONDS", 0.2)
    write(program, f"echo $$ >{program.parent}/pid; exec sleep 1000")
    assert await read_utilization(reaper, path_of(program)) is None
    await eventually(lambda: not has_process(program.parent / "pid"))


async def test_idle_time_begins_with_the_last_use(
    program: Path, reaper: Reaper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And anew for a user who gets the kernel."""
    monkeypatch.setattr(gpus, "INTERVAL_SECONDS", 0.01)
    loop = asyncio.get_running_loop()
    watch = GPUWatch(reaper, path_of(program))
    watch.begin_anew()
    assert watch.idle_since is None
    write(program, "echo 0")
    watch.start()
    watch.start()
    await eventually(lambda: watch.idle_since is not None)
    first = watch.idle_since
    write(program, "echo 50")
    await eventually(lambda: watch.idle_since != first)
    write(program, "echo 0")
    before = loop.time()
    watch.begin_anew()
    await eventually(lambda: watch.idle_since is not None and watch.idle_since >= before)
    write(program, "exit 1")
    await eventually(lambda: watch.idle_since is None)
    watch.stop()
