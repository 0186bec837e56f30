"""A home that a kernel can write to, where its image has none for its user.

That is so with another user id than the image's, or a root file system that is read-only.
"""

from __future__ import annotations

import os
from typing import Dict, Mapping

IN_HOME = ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR")
"""Variables for folders that programs write to, besides `XDG_*_HOME`."""


def is_writable(folder: str) -> bool:
    """Whether a folder is there in which files can be made."""
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)


def replace_home(environ: Mapping[str, str], home: str) -> Dict[str, str]:
    """Return the environment with another home.

    Variables for folders in the former home go with it. Packages that the image has there for its
    user (`pip install --user`) are still found.
    """
    former = environ.get("HOME", "").rstrip("/")
    result = dict(environ)
    for name, value in environ.items():
        is_folder = name in IN_HOME or (name.startswith("XDG_") and name.endswith("_HOME"))
        if is_folder and former and value.startswith(f"{former}/"):
            result[name] = home + value[len(former) :]
    result["HOME"] = home
    if former and os.path.isdir(f"{former}/.local/lib"):
        result.setdefault("PYTHONUSERBASE", f"{former}/.local")
    return result
