"""`python3 -m kernel_agent -- KERNEL_COMMAND…`, or without arguments: with the image's own kernel.

`--attach` is for a kernel in another container.

Spawns the kernel first, then imports what serving needs while the kernel boots.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Dict, Union

from kernel_agent.command import Attachment, BootstrapScript, Command, Kernel
from kernel_agent.connection_file import NoFolderError, PrivateFolder
from kernel_agent.home import is_writable, replace_home
from kernel_agent.lifecycle import ExitReason
from kernel_agent.listener import Listener
from kernel_agent.process import CommandLauncher, SpawnError
from kernel_agent.settings import AgentSettings, SettingsError, kernel_environment, read_settings

if TYPE_CHECKING:
    from kernel_agent.launcher import KernelProcess, Launcher

EXIT_USAGE = 2
EXIT_SOFTWARE = 70
"""EX_SOFTWARE of sysexits(3)."""


def main() -> int:
    """Run the agent; return its exit code."""
    try:
        settings = read_settings(os.environ, sys.argv[1:])
        kernel = settings.kernel or _find_kernel(settings)
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


def _find_kernel(settings: AgentSettings) -> Union[Kernel, ExitReason]:
    """Return what to run, or why that is not known: a launch that failed, reported as such."""
    from kernel_agent.image import find_kernel  # noqa: PLC0415  # only where it is needed
    from kernel_agent.kernelspecs import NoKernelError  # noqa: PLC0415  # likewise

    environ = kernel_environment(os.environ)
    try:
        return find_kernel(environ, environ.get("KERNEL_LANGUAGE") or settings.language)
    except NoKernelError as exc:
        return ExitReason(str(exc))


def _run(
    settings: AgentSettings, kernel: Union[Kernel, ExitReason], listener: Listener, folder: str
) -> int:
    first: "Union[KernelProcess, ExitReason, None]" = None
    if isinstance(kernel, ExitReason):
        first, kernel = kernel, Command(())
    if isinstance(kernel, Command) and kernel.interrupt_by_message:
        settings = settings._replace(interrupt_by_message=True)
    launcher = _make_launcher(settings, kernel, folder)
    try:
        first = first or launcher.spawn()
    except SpawnError as exc:
        first = ExitReason(str(exc))
    try:
        return _serve(settings, launcher, listener, first)
    except BaseException:
        if not isinstance(first, ExitReason):
            first.kill()
        raise


def _make_launcher(settings: AgentSettings, kernel: Kernel, folder: str) -> "Launcher":
    if isinstance(kernel, Attachment):
        from kernel_agent.attachment import AttachLauncher  # noqa: PLC0415  # few need it

        return AttachLauncher(kernel)
    env = _environment(folder)
    if isinstance(kernel, BootstrapScript):
        from kernel_agent.bootstrap import BootstrapLauncher  # noqa: PLC0415  # for few images

        return BootstrapLauncher(
            kernel.path,
            env,
            settings.kernel_id,
            settings.port_range,
            settings.output_file_max_bytes,
        )
    return CommandLauncher(
        kernel.argv,
        {**env, **kernel.env},
        settings.port_range,
        f"{folder}/kernel.json",
        settings.output_file_max_bytes,
    )


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
    launcher: "Launcher",
    listener: Listener,
    first: "Union[KernelProcess, ExitReason]",
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
