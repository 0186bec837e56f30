"""What a spare runs: a kernel's process that waits, all imports done, for the word to go on.

The first process of a kernel of a pool runs it, too, and waits for nothing.

Its text is executed by the kernel's own Python, from 3.8 on, which need not be the agent's: it uses
nothing of the agent. Standard input is the channel to the agent: a socket that keeps messages
apart. Whatever goes wrong here ends the process, and the agent starts the kernel as ever.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import json
import os
import runpy
import signal
import sys
import time
from contextlib import suppress
from typing import Any, Dict, Iterable, List, Mapping, MutableMapping, Optional, Sequence, Tuple

READY, GOING, ANEW = b"ready", b"going", b"anew"
"""Its words: imports are done; it goes on; it begins anew, as files have changed meanwhile.

The word of the agent, to go on, is a JSON object: `env` has the variables to set, null for those to
unset, and `cwd` the working directory.
"""
MAX_WORD_BYTES = 262144
"""The limit of the agent's word; a socket's buffer is smaller, as Linux is configured."""
IMPORT_SECONDS = 120
"""After so long the process is ended, also if the agent is no more."""
LAUNCHER = "ipykernel.kernelapp"
AT_BOOT = (
    "ipykernel.debugger",
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "psutil",
    "sqlite3",
)
"""What ipykernel imports while its kernel boots, or for the first cell, besides its launcher."""
BACKEND, INLINE = "MPLBACKEND", "module://matplotlib_inline.backend_inline"
"""The variable that ipykernel sets before any code of a user can import Matplotlib."""

Stamp = Optional[Tuple[int, int, int]]


def main(command: List[str], words: Sequence[str], preload: Sequence[str], *, waits: bool) -> None:
    """Run the kernel in this process, all imports done; return when that has ended.

    Args:
        command: the kernel's command.
        words: the end of it: `-m MODULE` or `-c TEXT`, and the arguments of that.
        preload: modules to import besides those of the kernel.
        waits: whether this is a spare, which waits for the word to go on.
    """
    channel = take_channel()
    if waits:
        wait_as_spare(channel, command, words, preload)
    else:
        os.close(channel)
        import_ahead(words, preload)
    run(command, words)


def take_channel() -> int:
    """Return the channel, in whose place the kernel has no input."""
    channel = os.dup(0)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    return channel


def wait_as_spare(
    channel: int, command: List[str], words: Sequence[str], preload: Sequence[str]
) -> None:
    """Import, wait, and return if the kernel is to run in this process; else end or begin anew."""
    environ = dict(os.environ)
    folders = stamps(package_folders())
    import_ahead(words, preload)
    files = stamps(module_files())
    word = wait(channel)
    if word is None:
        os._exit(0)
    for place in (environ, os.environ):
        apply(word["env"], place)
    if "TZ" in word["env"]:
        time.tzset()
    os.chdir(word["cwd"])
    is_fresh = stamps(folders) == folders and stamps(files) == files
    os.write(channel, GOING if is_fresh else ANEW)
    os.close(channel)
    if not is_fresh:
        os.execvpe(command[0], command, environ)  # noqa: S606  # with a list


def import_ahead(words: Sequence[str], preload: Sequence[str]) -> None:
    """Import what the kernel will import, and the modules that the kernelspec names."""
    is_first = sys.path[:1] == [""]
    if is_first:  # as the launcher: no file of the working directory passes for one of its modules
        del sys.path[0]
    signal.alarm(IMPORT_SECONDS)
    import_modules(words, preload)
    signal.alarm(0)
    if is_first:
        sys.path.insert(0, "")


def import_modules(words: Sequence[str], preload: Sequence[str]) -> None:
    """Import the modules, those of the kernel first; its own must be there."""
    importlib.import_module(LAUNCHER)
    is_own_kernel = any("kernel_class" in word for word in words)
    for name in () if is_own_kernel else AT_BOOT:
        with suppress(Exception):  # other versions have other modules
            importlib.import_module(name)
    is_set = bool(os.environ.get(BACKEND))
    if not is_set:
        os.environ[BACKEND] = INLINE
    for name in preload:
        try:
            import_if_not_local(name)
        except BaseException as exc:  # noqa: BLE001  # also SystemExit
            text = "kernel_agent: cannot preload %s: %s: %s\n"
            sys.stderr.write(text % (name, type(exc).__name__, exc))
    if not is_set:
        os.environ.pop(BACKEND, None)


def import_if_not_local(name: str) -> None:
    """Import a module, unless cells would import another one from the working directory."""
    top = name.partition(".")[0]
    if importlib.machinery.PathFinder.find_spec(top, [os.getcwd()]) is not None:
        raise ImportError("the working directory has a module of this name")
    importlib.import_module(name)


def wait(channel: int) -> Optional[Dict[str, Any]]:
    """Say that the process is ready; return the word to go on, None if it is to end."""
    try:
        os.write(channel, READY)
        text = os.read(channel, MAX_WORD_BYTES)
    except OSError:
        return None
    return json.loads(text) if text else None


def apply(changes: Mapping[str, Optional[str]], environ: MutableMapping[str, str]) -> None:
    """Set variables, and unset those that are None."""
    for name, value in changes.items():
        if value is not None:
            environ[name] = value
        else:
            environ.pop(name, None)


def package_folders() -> List[str]:
    """Return the folders in which installers put packages, also those that are not there yet."""
    folders = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    site = sys.modules.get("site")
    if site is not None and site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    return folders


def module_files() -> List[str]:
    """Return the files of all modules that are loaded."""
    found = [getattr(module, "__dict__", {}).get("__file__") for module in sys.modules.values()]
    return [file for file in found if isinstance(file, str)]


def stamps(paths: Iterable[str]) -> Dict[str, Stamp]:
    """Return what changes with a file or the entries of a folder; None: it is not there."""
    found: Dict[str, Stamp] = {}
    for path in paths:
        try:
            stat = os.stat(path)
            found[path] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except (OSError, ValueError):
            found[path] = None
    return found


def run(command: List[str], words: Sequence[str]) -> None:
    """Run a module or a text as Python's own main function does."""
    importlib.invalidate_caches()
    option, what, *arguments = words
    sys.argv[:] = [option, *arguments]
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[:] = command
    if option == "-c":
        exec(compile(what, "<string>", "exec"), sys.modules["__main__"].__dict__)  # noqa: S102
        return
    if sys.path[:1] == [""]:
        sys.path[0] = os.getcwd()
    runpy._run_module_as_main(what)  # type: ignore[attr-defined]  # noqa: SLF001  # as `-m` does
