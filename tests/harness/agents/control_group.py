"""Control groups of version 1 or 2, whichever this machine has."""

import contextlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.waiting import wait_until

ROOT = Path("/sys/fs/cgroup")


@contextmanager
def limited_memory(limit_bytes: int) -> Iterator[list[str]]:
    """Make a group with a memory limit; yields what goes before a command that is to run in it."""
    name = f"eg-test-{secrets.token_hex(4)}"
    is_v2 = (ROOT / "cgroup.controllers").exists()
    group = ROOT / name if is_v2 else ROOT / "memory" / name
    group.mkdir()
    limits = ("memory.max", "memory.swap.max") if is_v2 else ("memory.limit_in_bytes",)
    try:
        for limit in limits:
            with contextlib.suppress(FileNotFoundError):
                (group / limit).write_text(str(limit_bytes) if limit != "memory.swap.max" else "0")
        yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh"]
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text().strip())
        group.rmdir()
