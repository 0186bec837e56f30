"""What the figures were measured on: without it they mean little."""

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks import engine


@dataclass(frozen=True)
class Machine:
    """Facts that move the figures."""

    processor: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    ipykernel: str
    pyzmq: str
    docker: str
    load: float
    """Average of the minute before the run: above 0.5 the times are not to be trusted."""


def describe_machine() -> Machine:
    """Look at the machine that this process runs on."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    return Machine(
        processor=models[0] if models else platform.machine(),
        cores=os.cpu_count() or 1,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        kernel=platform.release(),
        python=platform.python_version(),
        ipykernel=version("ipykernel"),
        pyzmq=version("pyzmq"),
        docker=engine.describe_engine(),
        load=round(os.getloadavg()[0], 2),
    )
