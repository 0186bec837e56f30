"""Where a kernel is at home: its working directory, home and user name.

An image has neither of the latter for another user id than its own, or with a read-only root file
system.
"""

from __future__ import annotations

import errno
import glob
import os
import pwd
import re
import sys
from typing import Dict, Mapping

IN_HOME = ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR")
"""Variables that name folders to which programs write, besides `XDG_*_HOME`."""

USERS = "/etc/passwd"
GROUPS = "/etc/group"
NSS_WRAPPERS = ("/usr/lib/*/libnss_wrapper.so", "/usr/lib64/libnss_wrapper.so")
"""Paths at which distributions install it: https://cwrap.org/nss_wrapper.html."""
MAX_FOLDER_CHARS = 300
"""How much of a folder's name a sentence for the user has."""
MAX_NAME_CHARS = 32
"""The limit of useradd(8)."""


def enter_folder(folder: str) -> str:
    """Change to the working directory that a client asked for; on failure stay where it is.

    The engine's own option for this would create a missing folder, owned by root.

    Returns:
        A sentence for the user that says why it was not entered, "" if it was.
    """
    if not folder:
        return ""
    try:
        if not os.path.isabs(folder):
            raise NotADirectoryError(errno.ENOTDIR, "it is not an absolute path")
        os.chdir(folder)
    except OSError as exc:
        where = f"{os.getcwd()}, not in {folder[:MAX_FOLDER_CHARS]!r} (KERNEL_WORKING_DIR)"
        text = f"The kernel starts in {where}: {exc.strerror}."
        sys.stderr.write(f"kernel_agent: {text}\n")
        return text
    return ""


def is_writable(folder: str) -> bool:
    """Return whether a folder exists in which files can be created."""
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)


def replace_home(environ: Mapping[str, str], home: str) -> Dict[str, str]:
    """Return the environment with another home.

    Variables that name folders in the former home are moved, too. Packages that the image has there
    (`pip install --user`) are still found.
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


def has_name() -> bool:
    """Return whether passwd(5) has a name for the own user id."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return True


def name_user(environ: Mapping[str, str], username: str, folder: str) -> Dict[str, str]:
    """Return the environment with a name for the own user id, if passwd(5) has none.

    `USER` and `LOGNAME` are what `getpass.getuser()` asks first. For `getpwuid(3)`, `whoami` and
    the JVM an entry is appended to /etc/passwd if that is writable, as in docker-stacks' images;
    else nss_wrapper, if the image has that library, answers from a copy with that entry. Without
    either they find no name.

    Args:
        environ: the kernel's environment; `USER` and `LOGNAME` of the image take precedence.
        username: `KERNEL_USERNAME`.
        folder: the private folder, for the copy.
    """
    if has_name():
        return dict(environ)
    uid, gid = os.getuid(), os.getgid()
    name = environ.get("LOGNAME") or environ.get("USER") or unix_name(username)
    result = {**environ, "USER": environ.get("USER") or name, "LOGNAME": name}
    home = environ.get("HOME", "/").replace(":", "").replace("\n", "")
    entry = os.fsencode(f"{unix_name(name)}:x:{uid}:{gid}::{home}:/bin/sh\n")
    if os.access(USERS, os.W_OK):
        with open(USERS, "ab") as passwd:
            passwd.write(entry)
        return result
    libraries = [path for pattern in NSS_WRAPPERS for path in glob.glob(pattern)]
    if libraries:
        own_passwd = f"{folder}/passwd"
        with open(own_passwd, "wb") as copy:
            if os.access(USERS, os.R_OK):
                with open(USERS, "rb") as passwd:
                    copy.write(passwd.read())
            copy.write(entry)
        result["NSS_WRAPPER_PASSWD"] = own_passwd
        result["NSS_WRAPPER_GROUP"] = GROUPS
        result["LD_PRELOAD"] = " ".join(filter(None, [environ.get("LD_PRELOAD"), libraries[0]]))
    return result


def unix_name(text: str) -> str:
    """Return a valid Unix user name (useradd(8)) that resembles the text."""
    name = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-")[:MAX_NAME_CHARS]
    return name if re.match(r"[a-z_]", name) else f"u{name}"
