"""Code by which a running kernel sets its environment and working directory. Pure.

It is one expression without a value, so that a silent request leaves no trace of it: no variable,
nothing in `In` and `Out` or the history.
"""

from __future__ import annotations

from typing import Mapping, Optional

_R_ESCAPES = {"\\": "\\\\", '"': '\\"', "`": "\\`"}


def setup_code(language: str, env: Mapping[str, Optional[str]], cwd: str) -> Optional[str]:
    """Return the code, "" if there is nothing to do, None if the language has none.

    Args:
        language: `language_info.name` of the kernel, in any case.
        env: the variables to set; None: to unset.
        cwd: the working directory, "" to stay; one that cannot be entered is ignored.
    """
    if not env and not cwd:
        return ""
    write = _WRITERS.get(language.lower())
    return write(env, cwd) if write is not None else None


def _python(env: Mapping[str, Optional[str]], cwd: str) -> str:
    steps = [
        f"os.environ.__setitem__({name!a}, {value!a})"
        if value is not None
        else f"os.environ.pop({name!a}, None)"
        for name, value in env.items()
    ]
    if cwd:
        steps.append(
            f"os.access({cwd!a}, os.X_OK) and os.path.isdir({cwd!a}) and os.chdir({cwd!a})"
        )
    return f"(lambda os: [{', '.join(steps)}] and None)(__import__('os'))"


def _r(env: Mapping[str, Optional[str]], cwd: str) -> str:
    steps = [
        f'Sys.setenv(`{_r_escaped(name)}` = "{_r_escaped(value)}")'
        if value is not None
        else f'Sys.unsetenv("{_r_escaped(name)}")'
        for name, value in env.items()
    ]
    if cwd:
        steps.append(f'try(setwd("{_r_escaped(cwd)}"), silent = TRUE)')
    return f"invisible(base::local({{ {'; '.join(steps)} }}))"


def _r_escaped(text: str) -> str:
    return "".join(_R_ESCAPES.get(char, char) for char in text)


_WRITERS = {"python": _python, "r": _r}
