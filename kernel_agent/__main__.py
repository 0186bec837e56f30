"""`python3 -m kernel_agent -- KERNEL_COMMAND…`, or without arguments: with the image's own kernel.

Spawns the kernel first, then imports what serving needs while the kernel boots.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Dict, NoReturn, Union

from kernel_agent.command import BootstrapScript, Command
from kernel_agent.connection_file import NoFolderError, PrivateFolder
from kernel_agent.home import is_writable, replace_home
from kernel_agent.lifecycle import ExitReason
from kernel_agent.listener import Listener
from kernel_agent.process import KernelProcess, Launcher, SpawnError
from kernel_agent.settings import (
    OWN_PREFIX,
    AgentSettings,
    SettingsError,
    kernel_environment,
    read_settings,
)

EXIT_USAGE = 2
EXIT_SOFTWARE = 70
"""EX_SOFTWARE of sysexits(3)."""


def main() -> int:
    """Run the agent; return its exit code."""
    try:
        settings = read_settings(os.environ, sys.argv[1:])
        kernel = _find_kernel(settings)
        if isinstance(kernel, BootstrapScript):
            _give_way(kernel)
        listener = Listener(settings.listen)
    except (SettingsError, OSError, ValueError) as exc:
        sys.stderr.write(f"kernel_agent: {exc}\n")
        return EXIT_USAGE
    try:
        with PrivateFolder(settings.folders) as folder:
            return _run(settings, kernel, listener, folder)
    except NoFolderError as exc:
        sys.stderr.write(f"kernel_agent: {exc}\n")
        return EXIT_USAGE
    except Exception as exc:  # noqa: BLE001  # users are shown the end of stderr: a sentence
        failure = f"{type(exc).__name__}: {exc} (at {_places(exc)})"
        sys.stderr.write(f"kernel_agent: the agent failed with {failure}\n")
        return EXIT_SOFTWARE
    finally:
        listener.close()


def _find_kernel(settings: AgentSettings) -> Union[Command, BootstrapScript, ExitReason]:
    """Return what to run, or why that is not known: a launch that failed, reported as such."""
    if settings.argv:
        return Command(settings.argv)
    from kernel_agent.image import find_kernel  # noqa: PLC0415  # only where it is needed
    from kernel_agent.kernelspecs import NoKernelError  # noqa: PLC0415  # likewise

    environ = kernel_environment(os.environ)
    try:
        return find_kernel(environ, environ.get("KERNEL_LANGUAGE") or settings.language)
    except NoKernelError as exc:
        return ExitReason(str(exc))


def _give_way(script: BootstrapScript) -> NoReturn:
    """Become the launcher of Enterprise Gateway's image, which reports by itself."""
    environ = {k: value for k, value in os.environ.items() if not k.startswith(OWN_PREFIX)}
    os.execve(script.path, [script.path], environ)  # noqa: S606  # not through a shell


def _run(
    settings: AgentSettings, kernel: Union[Command, ExitReason], listener: Listener, folder: str
) -> int:
    first: Union[KernelProcess, ExitReason, None] = None
    if isinstance(kernel, ExitReason):
        first, kernel = kernel, Command(())
    by_message = settings.interrupt_by_message or kernel.interrupt_by_message
    settings = settings._replace(interrupt_by_message=by_message)
    launcher = Launcher(
        kernel.argv,
        {**_environment(folder), **kernel.env},
        settings.port_range,
        f"{folder}/kernel.json",
        settings.output_file_max_bytes,
    )
    try:
        first = first or launcher.spawn()
    except SpawnError as exc:
        first = ExitReason(str(exc))
    try:
        return _serve(settings, launcher, listener, first)
    except BaseException:
        if isinstance(first, KernelProcess):
            first.signal_group(signal.SIGKILL)
        raise


def _environment(folder: str) -> Dict[str, str]:
    """Return the kernel's environment, with folders that it can write to."""
    environ = kernel_environment(os.environ)
    if not is_writable(environ.get("HOME", "")):
        home = f"{folder}/home"
        os.mkdir(home, mode=0o700)
        environ = replace_home(environ, home)
    if not is_writable(environ.get("TMPDIR") or "/tmp"):  # noqa: S108  # only looked at
        environ["TMPDIR"] = folder
    return environ


def _serve(
    settings: AgentSettings,
    launcher: Launcher,
    listener: Listener,
    first: Union[KernelProcess, ExitReason],
) -> int:
    import asyncio  # noqa: PLC0415  # imported while the kernel boots
    import logging  # noqa: PLC0415  # likewise

    from kernel_agent.agent import run  # noqa: PLC0415  # likewise
    from kernel_agent.privacy import hide_process  # noqa: PLC0415  # likewise

    hide_process()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    return asyncio.run(run(settings, launcher, listener, first))


def _places(exc: BaseException) -> str:
    """Return what a traceback tells of where it happened, in one line."""
    places = []
    step = exc.__traceback__
    while step is not None:
        name = step.tb_frame.f_code.co_filename
        if not name.startswith("<"):
            places.append(f"{name.rpartition('/')[2]}:{step.tb_lineno}")
        step = step.tb_next
    return ", ".join(places)


if __name__ == "__main__":
    sys.exit(main())
