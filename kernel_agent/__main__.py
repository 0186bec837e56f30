"""`python3 -m kernel_agent -- KERNEL_COMMAND...`: spawns the kernel, then imports what serving needs while it boots."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Optional

from kernel_agent.lifecycle import ExitReason
from kernel_agent.process import KernelProcess, Launcher, SpawnError
from kernel_agent.settings import SettingsError, kernel_environment, read_settings

EXIT_USAGE = 2


def main() -> int:
    """Run the agent; return its exit code."""
    try:
        settings = read_settings(os.environ, sys.argv[1:])
    except SettingsError as exc:
        sys.stderr.write(f"kernel_agent: {exc}\n")
        return EXIT_USAGE
    with tempfile.TemporaryDirectory(prefix="kernel-agent-") as folder:
        path = os.path.join(folder, f"kernel-{settings.kernel_id or 'unnamed'}.json")
        env = kernel_environment(os.environ)
        launcher = Launcher(settings.argv, env, settings.port_range, path)
        process: Optional[KernelProcess] = None
        failure: Optional[ExitReason] = None
        try:
            process = launcher.spawn()
        except SpawnError as exc:
            failure = ExitReason(str(exc))

        import asyncio  # noqa: PLC0415  # imported while the kernel boots
        import logging  # noqa: PLC0415  # likewise

        from kernel_agent.agent import run  # noqa: PLC0415  # likewise

        logging.basicConfig(
            level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
        return asyncio.run(run(settings, launcher, process, failure))


if __name__ == "__main__":
    sys.exit(main())
