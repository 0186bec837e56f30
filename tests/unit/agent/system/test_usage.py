"""What a kernel has used, by either version of control groups and by processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_agent.system.usage import (
    SAMPLE_SECONDS,
    Usage,
    UsageMeter,
    parse_cpu_stat,
    parse_stat,
    read_descendants,
    read_own_group,
)

BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"


@pytest.mark.parametrize(
    ("proc", "files"),
    [
        (
            "0::/a\n",
            {"a/cpu.stat": "usage_usec 2500000\nuser_usec 1\n", "a/memory.peak": "4096\n"},
        ),
        ("0::/host\n", {"cpu.stat": "usage_usec 2500000\n", "memory.current": "4096\n"}),
        (
            "4:memory:/a\n2:cpu,cpuacct:/a\n",
            {"cpuacct/a/cpuacct.usage": "2500000000\n", "memory/memory.max_usage_in_bytes": "4096"},
        ),
    ],
    ids=["v2", "v2 of an older Linux", "v1"],
)
def test_own_control_group_tells_all(tmp_path: Path, proc: str, files: dict[str, str]) -> None:
    """In the own group, or at the mount if that shows the container's own."""
    for name, text in files.items():
        file = tmp_path / "cg" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    own = tmp_path / "cgroup"
    own.write_text(proc)
    assert read_own_group(own, tmp_path / "cg") == Usage(2.5, 4096)


def test_group_that_does_not_count_is_no_usage(tmp_path: Path) -> None:
    """None is not 0: a gateway must not take a kernel for one that has used nothing."""
    (tmp_path / "cgroup").write_text("0::/\n")
    assert read_own_group(tmp_path / "cgroup", tmp_path) is None
    assert read_own_group(tmp_path / "nothing", tmp_path) is None
    assert parse_cpu_stat("nonsense\n") == 0.0


def test_program_may_have_any_name() -> None:
    """Also one that looks like the end of the name and more fields."""
    after = ["S", *["0"] * 10, "100", "50", "30", "20", *["0"] * 6, "3", "0"]
    usage = parse_stat(b"1 (a) S 7 (b) " + " ".join(after).encode())
    assert usage.cpu_seconds == 200 / os.sysconf("SC_CLK_TCK")
    assert usage.memory_bytes == 3 * os.sysconf("SC_PAGE_SIZE")
    for text in (b"", b"1 (a", b"1 (a) S 1 2 3"):
        with pytest.raises(ValueError, match=r"subsection not found|too few fields"):
            parse_stat(text)


def test_descendants_count_alive_and_dead() -> None:
    """A child that has ended, and the child of one that lives."""
    before = read_descendants().cpu_seconds
    subprocess.run([sys.executable, "-c", BURN.format(seconds=0.3)], check=True)
    assert read_descendants().cpu_seconds - before >= 0.3
    grandchild = f"{BURN.format(seconds=0.3)}print('burnt', flush=True)\ninput()"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"burnt\n"
        usage = read_descendants()
        assert usage.cpu_seconds - before >= 0.6
        assert usage.memory_bytes > 1_000_000
        process.stdin.write(b"\n")


def test_meter_reads_rarely_and_never_goes_back() -> None:
    """A process that ends takes its memory with it, and a group may vanish."""
    readings: list[Usage | None] = [Usage(1.0, 500), Usage(2.0, 300), None]
    clock = 0.0
    meter = UsageMeter(lambda: readings.pop(0), lambda: clock)
    first = {"cpu_seconds": 1.0, "memory_peak_bytes": 500}
    assert meter.describe() == first
    assert meter.describe() == first
    clock = SAMPLE_SECONDS
    assert meter.describe() == {"cpu_seconds": 2.0, "memory_peak_bytes": 500}
    meter.refresh()
    assert meter.describe() == {"cpu_seconds": 2.0, "memory_peak_bytes": 500}
    assert UsageMeter(lambda: None).describe() is None
