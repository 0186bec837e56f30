"""`python3 -m kernel_agent -- KERNEL_COMMAND…`.

Spawns the kernel first, then imports what serving needs while the kernel boots.
"""

from __future__ import annotations

import os
import sys
from typing import Union

from kernel_agent.connection_file import PrivateFolder
from kernel_agent.lifecycle import ExitReason
from kernel_agent.listener import Listener
from kernel_agent.process import KernelProcess, Launcher, SpawnError
from kernel_agent.settings import AgentSettings, SettingsError, kernel_environment, read_settings

EXIT_USAGE = 2


def main() -> int:
    """Run the agent; return its exit code."""
    try:
        settings = read_settings(os.environ, sys.argv[1:])
        listener = Listener(settings.listen)
    except (SettingsError, OSError, ValueError) as exc:
        sys.stderr.write(f"kernel_agent: {exc}\n")
        return EXIT_USAGE
    try:
        with PrivateFolder(os.environ.get("TMPDIR") or "/tmp") as folder:  # noqa: S108  # private
            return _run(settings, listener, folder)
    finally:
        listener.close()


def _run(settings: AgentSettings, listener: Listener, folder: str) -> int:
    connection_file = f"{folder}/kernel.json"
    launcher = Launcher(
        settings.argv,
        kernel_environment(os.environ),
        settings.port_range,
        connection_file,
        settings.output_file_max_bytes,
    )
    first: Union[KernelProcess, ExitReason]
    try:
        first = launcher.spawn()
    except SpawnError as exc:
        first = ExitReason(str(exc))

    import asyncio  # noqa: PLC0415  # imported while the kernel boots
    import logging  # noqa: PLC0415  # likewise

    from kernel_agent.agent import run  # noqa: PLC0415  # likewise
    from kernel_agent.privacy import hide_process  # noqa: PLC0415  # likewise

    hide_process()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    return asyncio.run(run(settings, launcher, listener, first))


if __name__ == "__main__":
    sys.exit(main())
