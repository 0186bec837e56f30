"""The process that runs the gateway: its user, its CPUs, its limits and its signals."""

import asyncio
import getpass
import os
import resource
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jupyter_core.paths import jupyter_path

from enterprise_gateway.settings import HostSettings

_ENOUGH_DESCRIPTORS = 65536


def find_username() -> str:
    """Return the name of the user that runs the gateway, "" if it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user of a container without an entry in /etc/passwd
        return ""


def count_cpus() -> int:
    """Return the number of CPUs that the process may use."""
    return len(os.sched_getaffinity(0))


def find_host() -> HostSettings:
    """Return where the machine and the account have programs, files and kernelspecs."""
    return HostSettings(
        executable_path=os.pathsep.join(os.get_exec_path()),
        home=Path.home(),
        temp_folder=Path(tempfile.gettempdir()),
        kernelspec_folders=tuple(map(Path, jupyter_path("kernels"))),
    )


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open files and connections to the hard one.

    Each WebSocket takes two descriptors, and the usual soft limit of 1024 is meant for programs
    that call select(2). If there is no hard limit, the soft one becomes `_ENOUGH_DESCRIPTORS`:
    local kernels inherit it, and programs that close every descriptor they might have would take
    minutes.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH_DESCRIPTORS if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def cancelled_by_signals() -> Iterator[None]:
    """Cancel the current task at each SIGTERM or SIGINT.

    A second signal cancels what the task does to end in an orderly way. SIGHUP is ignored, but by a
    handler: children would inherit `SIG_IGN`.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()

    def stop() -> None:
        if task is None:
            raise AssertionError("a coroutine runs in a task")
        task.cancel()

    handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: lambda: None}
    for signum, handler in handlers.items():
        loop.add_signal_handler(signum, handler)
    try:
        yield
    finally:
        for signum in handlers:
            loop.remove_signal_handler(signum)
