"""Parses Jupyter's kernelspecs and chooses the one to run. Pure.

https://jupyter-client.readthedocs.io/en/stable/kernels.html#kernel-specs
"""

from __future__ import annotations

import json
import re
from string import Template
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from kernel_agent.launch.command import Command

SYSTEM_FOLDERS = ("/usr/local/share/jupyter", "/usr/share/jupyter")
DEFAULT_NAME = "python3"
USUAL_NAMES = {"python": DEFAULT_NAME, "r": "ir"}
"""Name of a language's kernelspec in practically every image that has one."""
PYTHON_COMMAND = re.compile(r"python(3(\.\d+)?)?")
"""Words of `argv` that Jupyter replaces by its own Python."""

_NAME = re.compile(r"[a-z0-9._-]+", re.IGNORECASE)
_IN_PREFIX = re.compile(r"(.+)/share/jupyter")


class NoKernelError(Exception):
    """The image has no suitable kernel, or several; the text lists those it has."""


class Kernelspec(NamedTuple):
    """A kernel.json.

    Attributes:
        name: name of its folder, in lower case.
        folder: its path, the `resource_dir`.
        prefix: prefix of the installation that the data folder belongs to; "" if to none.
    """

    name: str
    folder: str
    prefix: str
    argv: Tuple[str, ...]
    env: Mapping[str, str]
    language: str
    display_name: str
    interrupt_by_message: bool


def data_folders(environ: Mapping[str, str], prefixes: Sequence[str]) -> List[str]:
    """Return Jupyter's data folders in the order of the search.

    They are jupyter_core's (`jupyter_path`), but the user's come last: those may be on a volume
    shared with other images, and the image's own kernel is wanted.

    Args:
        environ: the environment.
        prefixes: prefixes of the Python installations of the image.
    """
    home = environ.get("HOME") or ""
    xdg = environ.get("XDG_DATA_HOME") or f"{home}/.local/share"
    base = environ.get("PYTHONUSERBASE") or f"{home}/.local"
    folders = [
        *(environ.get("JUPYTER_PATH") or "").split(":"),
        *(f"{prefix.rstrip('/')}/share/jupyter" for prefix in prefixes),
        *SYSTEM_FOLDERS,
        environ.get("JUPYTER_DATA_DIR") or f"{xdg}/jupyter",
        f"{base}/share/jupyter",
    ]
    stripped = (folder.rstrip("/") for folder in folders)
    return list(dict.fromkeys(folder for folder in stripped if folder.startswith("/")))


def is_kernel_name(name: str) -> bool:
    """Return whether a folder of this name can be a kernelspec's."""
    return _NAME.fullmatch(name) is not None


def parse_kernelspec(text: str, data_folder: str, name: str) -> Optional[Kernelspec]:
    """Parse a kernel.json; return None if Jupyter could not use it either.

    Args:
        text: the file's content.
        data_folder: the data folder, which has the file as `kernels/NAME/kernel.json`.
        name: that NAME.
    """
    try:
        document = json.loads(text)
    except ValueError:
        return None
    if not isinstance(document, dict):
        return None
    argv = document.get("argv")
    env = document.get("env", {})
    if not (isinstance(argv, list) and argv and all(isinstance(word, str) for word in argv)):
        return None
    if not (isinstance(env, dict) and all(isinstance(value, str) for value in env.values())):
        return None
    prefix = _IN_PREFIX.fullmatch(data_folder)
    return Kernelspec(
        name.lower(),
        f"{data_folder}/kernels/{name}",
        prefix[1] if prefix else "",
        tuple(argv),
        env,
        str(document.get("language", "")),
        str(document.get("display_name", "")),
        document.get("interrupt_mode") == "message",
    )


def choose_kernelspec(specs: Sequence[Kernelspec], language: str) -> Optional[Kernelspec]:
    """Return the kernelspec to run; None if there is none for the language.

    Among those of the language, ignoring case, it prefers the usual name (`python3`, `ir`), then
    the language's own name, then the first by name. Without a language it is `python3`, or the only
    one.

    Args:
        specs: kernelspecs with different names.
        language: the requested language; "": any.

    Raises:
        NoKernelError: no language is requested and there are several.
    """
    by_name = {spec.name: spec for spec in specs}
    if not language:
        if DEFAULT_NAME in by_name or not specs:
            return by_name.get(DEFAULT_NAME)
        if len(specs) == 1:
            return specs[0]
        raise NoKernelError(
            f"the image has several kernels ({describe(specs)}) and none named {DEFAULT_NAME}. Say "
            "which by KERNEL_LANGUAGE, or give its command as argv in the kernelspec's "
            "process_proxy config"
        )
    wanted = language.lower()
    usual = USUAL_NAMES.get(wanted, wanted)

    def rank(spec: Kernelspec) -> Tuple[bool, bool, str]:
        return spec.name != usual, spec.name != wanted, spec.name

    matching = [spec for spec in specs if spec.language.lower() == wanted]
    return min(matching, key=rank) if matching else None


def command_of(spec: Kernelspec, environ: Mapping[str, str], python: str) -> Command:
    """Return the command of a kernelspec.

    Args:
        spec: the kernelspec.
        environ: values of `$NAME` and `${NAME}` in its `env`.
        python: the Python that replaces a `python` without a path.
    """
    fields = {"{resource_dir}": spec.folder, "{prefix}": spec.prefix}
    argv = [_filled(word, fields) for word in spec.argv]
    if PYTHON_COMMAND.fullmatch(argv[0]):
        argv[0] = python
    env = {name: Template(value).safe_substitute(environ) for name, value in spec.env.items()}
    return Command(tuple(argv), env, spec.interrupt_by_message)


def ipykernel_command(python: str) -> Command:
    """Return the command of a Python kernel that has no kernelspec."""
    return Command((python, "-m", "ipykernel_launcher", "-f", "{connection_file}"))


def explain_absence(
    language: str, specs: Sequence[Kernelspec], folders: Sequence[str]
) -> NoKernelError:
    """Return the error for an image without a kernel of the language."""
    wanted = f" for the language {language!r}" if language else ""
    there = f"it has {describe(specs)}" if specs else "it has none at all"
    return NoKernelError(
        f"the image has no kernel{wanted}: {there} (looked in {', '.join(folders)}, and for the "
        "Python package ipykernel). Install a kernel in the image (pip install ipykernel), "
        "or correct KERNEL_LANGUAGE, which is the kernelspec's language, or give the kernel's "
        "command as argv in the kernelspec's process_proxy config"
    )


def describe(specs: Sequence[Kernelspec]) -> str:
    """Return names and languages of kernelspecs."""
    return ", ".join(f"{spec.name} ({spec.language or 'no language'})" for spec in specs)


def _filled(word: str, fields: Dict[str, str]) -> str:
    for field, value in fields.items():
        word = word.replace(field, value)
    return word
