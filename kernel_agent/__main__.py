"""The command `python3 -m kernel_agent`.

`-- KERNEL_COMMAND…` runs that command, `--attach` serves a kernel in another container, and without
arguments the image's own kernel is run.

The agent hides its process from the kernel, spawns the kernel, and imports the server's modules
while the kernel boots.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Dict, Union

from kernel_agent.kernel.steps import AGENT, KERNEL, Steps, process_begun
from kernel_agent.launch.command import (
    Attachment,
    BootstrapScript,
    Command,
    Kernel,
    with_kernel_class,
)
from kernel_agent.launch.connection_file import NoFolderError, PrivateFolder
from kernel_agent.launch.home import enter_folder, has_name, is_writable, name_user, replace_home
from kernel_agent.process.child import SpawnError
from kernel_agent.process.command import CommandSpawner
from kernel_agent.process.exits import ExitReason
from kernel_agent.server.listener import CertificateError, Listener
from kernel_agent.settings import AgentSettings, SettingsError, kernel_environment, read_settings
from kernel_agent.system.exposure import hide_secrets
from kernel_agent.system.prctl import adopt_orphans

if TYPE_CHECKING:
    from kernel_agent.process.spawner import KernelProcess, KernelSpawner

EXIT_USAGE = 2
EXIT_SOFTWARE = 70
"""EX_SOFTWARE of sysexits(3)."""


def main() -> int:
    """Run the agent; return its exit code."""
    hide_secrets()
    adopt_orphans()
    try:
        settings = read_settings(os.environ, sys.argv[1:])
        kernel = settings.kernel or _find_kernel(settings)
        listener = Listener(settings.listen)
    except (SettingsError, OSError, ValueError) as exc:
        sys.stderr.write(f"kernel_agent: {exc}\n")
        return EXIT_USAGE
    try:
        with PrivateFolder(settings.folders) as folder:
            if settings.certificate:
                listener.encrypt(settings.certificate, folder)
            return _run(settings, kernel, listener, folder)
    except (NoFolderError, CertificateError) as exc:
        sys.stderr.write(f"kernel_agent: {exc}\n")
        return EXIT_USAGE
    except Exception as exc:  # noqa: BLE001  # users see the end of stderr: a sentence
        failure = f"{type(exc).__name__}: {exc} (at {_places(exc)})"
        sys.stderr.write(f"kernel_agent: the agent failed with {failure}\n")
        return EXIT_SOFTWARE
    finally:
        listener.close()


def _find_kernel(settings: AgentSettings) -> Union[Kernel, ExitReason]:
    """Find the kernel of the image; return an ExitReason, to be reported, if there is none."""
    from kernel_agent.launch.image import find_kernel  # noqa: PLC0415  # only where it is needed
    from kernel_agent.launch.kernelspecs import NoKernelError  # noqa: PLC0415  # likewise

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
    if settings.pool_ttl and not has_name():  # its user id would be named before it has a user
        settings = settings._replace(pool_ttl=0.0)
    if not isinstance(kernel, Attachment):
        settings = settings._replace(notice=enter_folder(os.environ.get("KERNEL_WORKING_DIR", "")))
    steps = Steps(AGENT, process_begun())
    spawner = _make_spawner(settings, kernel, folder)
    try:
        if first is None:
            first = spawner.spawn()
            steps.begin(KERNEL)
    except SpawnError as exc:
        first = ExitReason(str(exc))
    try:
        return _serve(settings, spawner, listener, first, steps)
    except BaseException:
        if not isinstance(first, ExitReason):
            first.kill()
        raise


def _make_spawner(settings: AgentSettings, kernel: Kernel, folder: str) -> "KernelSpawner":
    if isinstance(kernel, Attachment):
        from kernel_agent.eg.attachment import AttachSpawner  # noqa: PLC0415  # few need it

        return AttachSpawner(kernel)
    env = _environment(settings.username, folder)
    if isinstance(kernel, BootstrapScript):
        from kernel_agent.eg.bootstrap import BootstrapSpawner  # noqa: PLC0415  # for few images

        return BootstrapSpawner(
            kernel.path,
            env,
            settings.kernel_id,
            settings.port_range,
            settings.output_file_max_bytes,
        )
    kernel = with_kernel_class(kernel, env)
    return CommandSpawner(
        kernel.argv,
        {**env, **kernel.env},
        settings.port_range,
        f"{folder}/kernel.json",
        settings.output_file_max_bytes,
        preload=settings.preload,
        has_spares=settings.restart_spare,
        is_pooled=settings.pool_ttl > 0,
    )


def _environment(username: str, folder: str) -> Dict[str, str]:
    """Return the kernel's environment, with a writable home and a user name."""
    environ = kernel_environment(os.environ)
    if not is_writable(environ.get("HOME", "")):
        home = f"{folder}/home"
        os.mkdir(home, mode=0o700)
        environ = replace_home(environ, home)
    if not is_writable(environ.get("TMPDIR") or "/tmp"):  # noqa: S108  # not written
        environ["TMPDIR"] = folder
    return name_user(environ, username, folder)


def _serve(
    settings: AgentSettings,
    spawner: "KernelSpawner",
    listener: Listener,
    first: "Union[KernelProcess, ExitReason]",
    steps: Steps,
) -> int:
    import asyncio  # noqa: PLC0415  # imported while the kernel boots
    import logging  # noqa: PLC0415  # likewise

    from kernel_agent.agent import run  # noqa: PLC0415  # likewise

    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    return asyncio.run(run(settings, spawner, listener, first, steps))


def _places(exc: BaseException) -> str:
    """Return the file names and line numbers of a traceback, in one line."""
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
