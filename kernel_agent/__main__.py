"""`python3 -m kernel_agent -- KERNEL_COMMAND…`, or `--attach` for a kernel in another container.

Spawns the kernel first, then imports what serving needs while the kernel boots.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Union

from kernel_agent.connection_file import PrivateFolder
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
        listener = Listener(settings.listen)
    except (SettingsError, OSError, ValueError) as exc:
        sys.stderr.write(f"kernel_agent: {exc}\n")
        return EXIT_USAGE
    try:
        with PrivateFolder(settings.folder) as folder:
            return _run(settings, listener, folder)
    except Exception as exc:  # noqa: BLE001  # users are shown the end of stderr: a sentence
        failure = f"{type(exc).__name__}: {exc} (at {_places(exc)})"
        sys.stderr.write(f"kernel_agent: the agent failed with {failure}\n")
        return EXIT_SOFTWARE
    finally:
        listener.close()


def _run(settings: AgentSettings, listener: Listener, folder: str) -> int:
    launcher = _make_launcher(settings, folder)
    first: "Union[KernelProcess, ExitReason]"
    try:
        first = launcher.spawn()
    except SpawnError as exc:
        first = ExitReason(str(exc))
    try:
        return _serve(settings, launcher, listener, first)
    except BaseException:
        if not isinstance(first, ExitReason):
            first.kill()
        raise


def _make_launcher(settings: AgentSettings, folder: str) -> "Launcher":
    if settings.attachment is not None:
        from kernel_agent.attachment import AttachLauncher  # noqa: PLC0415  # few need it

        return AttachLauncher(settings.attachment)
    env = kernel_environment(os.environ)
    if settings.bootstrap:
        from kernel_agent.bootstrap import BootstrapLauncher  # noqa: PLC0415  # for few images

        return BootstrapLauncher(
            settings.bootstrap,
            env,
            settings.kernel_id,
            settings.port_range,
            settings.output_file_max_bytes,
        )
    return CommandLauncher(
        settings.argv,
        env,
        settings.port_range,
        f"{folder}/kernel.json",
        settings.output_file_max_bytes,
    )


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
