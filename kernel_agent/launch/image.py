"""Finds the kernel of an image in its files; `kernelspecs` chooses among several.

Imported only when no command was given.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Dict, Iterator, List, Mapping, Sequence

from kernel_agent.launch.command import BootstrapScript, Kernel
from kernel_agent.launch.kernelspecs import (
    Kernelspec,
    choose_kernelspec,
    command_of,
    data_folders,
    explain_absence,
    ipykernel_command,
    is_kernel_name,
    parse_kernelspec,
)

BOOTSTRAP_SCRIPT = "/usr/local/bin/bootstrap-kernel.sh"
PROGRAMS = ("jupyter", "python3", "python")
"""Programs on PATH whose installation may have kernelspecs in `../share/jupyter`."""
USUAL_PREFIXES = ("/opt/conda", "/opt/venv")


def find_kernel(environ: Mapping[str, str], language: str) -> Kernel:
    """Return the kernel of the image.

    Args:
        environ: the environment that the kernel would have.
        language: the requested language; "": none.

    Raises:
        NoKernelError: there is none, or the choice is ambiguous.
    """
    if os.access(BOOTSTRAP_SCRIPT, os.X_OK):
        return BootstrapScript(BOOTSTRAP_SCRIPT)
    prefixes = _prefixes(environ.get("PATH") or os.defpath)
    folders = data_folders(environ, prefixes)
    specs = _read_kernelspecs(folders)
    spec = choose_kernelspec(specs, language)
    if spec is not None:
        return command_of(spec, environ, _python_of(spec.prefix))
    if language.lower() in ("", "python"):
        if any(_is_there(f"{folder}/ipykernel") for folder in sys.path):
            return ipykernel_command(sys.executable)
        for prefix in prefixes:
            if _has_ipykernel(prefix):
                return ipykernel_command(_python_of(prefix))
    raise explain_absence(language, specs, folders)


def _prefixes(path: str) -> List[str]:
    """Return the prefixes of installations that may have kernels, without duplicates."""
    found = []
    for program in PROGRAMS:
        for folder in path.split(":"):
            file = f"{folder}/{program}"
            if folder.endswith("/bin") and os.access(file, os.X_OK):
                real = os.path.dirname(os.path.realpath(file))
                found += [os.path.dirname(folder), os.path.dirname(real)]
    found += [sys.prefix, *USUAL_PREFIXES]
    return list(dict.fromkeys(found))


def _read_kernelspecs(folders: Sequence[str]) -> List[Kernelspec]:
    """Return the kernelspecs of data folders, sorted by name; the first of each name counts."""
    specs: Dict[str, Kernelspec] = {}
    for folder in folders:
        for name in _names(f"{folder}/kernels"):
            if name.lower() in specs or not is_kernel_name(name):
                continue
            with suppress(OSError, UnicodeDecodeError):
                with open(f"{folder}/kernels/{name}/kernel.json", encoding="utf-8") as file:
                    spec = parse_kernelspec(file.read(), folder, name)
                if spec is not None:
                    specs[spec.name] = spec
    return [specs[name] for name in sorted(specs)]


def _python_of(prefix: str) -> str:
    """Return the Python of an installation; the agent's own if it has none."""
    python = f"{prefix}/bin/python3"
    return python if prefix and os.access(python, os.X_OK) else sys.executable


def _has_ipykernel(prefix: str) -> bool:
    """Return whether the Python of an installation has ipykernel, without running it."""
    return any(_is_there(f"{folder}/ipykernel") for folder in _package_folders(prefix))


def _package_folders(prefix: str) -> Iterator[str]:
    for name in _names(f"{prefix}/lib"):
        if name.startswith("python3"):
            yield f"{prefix}/lib/{name}/site-packages"
            yield f"{prefix}/lib/{name}/dist-packages"


def _is_there(path: str) -> bool:
    return os.access(path, os.R_OK | os.X_OK)


def _names(folder: str) -> List[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
