"""`scripts/run`: the gateway in the foreground, with what its first user needs to know."""

import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from bringup.console import run, say
from bringup.host import ROOT, VENV, which
from enterprise_gateway._version import __version__

TOKEN_FILE = VENV / "gateway-token"
AVAILABLE = re.compile(r" is available at (\S+)$")


def install_kernelspecs() -> None:
    """Offer kernels in containers; the kernelspec of the local one came with ipykernel."""
    installer = str(ROOT / "etc" / "kernelspecs" / "install.py")
    options = ["--prefix", str(VENV), "--version", __version__, "--mode", "docker"]
    said = run([sys.executable, installer, *options])
    if said:
        say(said)


def keep_token(file: Path) -> str:
    """Return the token kept in `file`, made if need be: clients go on after a restart."""
    if not file.exists():
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode=0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_hex(24))
    return file.read_text(encoding="ascii").strip()


def banner(url: str, token: str) -> str:
    """Return what a user needs to connect."""
    address = url.rstrip("/")
    variable = f"JUPYTER_GATEWAY_AUTH_TOKEN={token} " if token else ""
    return f"""
  Enterprise Gateway is ready: {url}{f"?token={token}" if token else ""}

  Connect JupyterLab with

    {variable}jupyter lab --gateway-url={address}

  Ctrl-C stops the gateway.
"""


def serve(arguments: Sequence[str], env: dict[str, str]) -> int:
    """Run the gateway until it ends, and hand signals on to it; its exit status."""
    token = env["EG_AUTH_TOKEN"] if "EG_AUTH_TOKEN" in env else keep_token(TOKEN_FILE)
    defaults = {"EG_LIST_KERNELS": "True"}  # VS Code and JupyterLab ask for the list
    setpriv = which("setpriv")
    with subprocess.Popen(
        [
            # should this process be killed, the gateway ends too
            *([setpriv, "--pdeathsig", "TERM"] if setpriv else []),
            str(VENV / "bin" / "jupyter-enterprisegateway"),
            *arguments,
        ],
        env={**defaults, **env, "EG_AUTH_TOKEN": token},
        stderr=subprocess.PIPE,
        process_group=0,  # Ctrl-C comes once, by way of this process
        text=True,
        errors="replace",
    ) as gateway:

        def end(_signum: int, _frame: FrameType | None) -> None:
            gateway.terminate()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, end)
        for line in gateway.stderr or ():
            say(line.rstrip("\n"))
            available = AVAILABLE.search(line.rstrip())
            if available:
                say(banner(available[1], token))
    return gateway.returncode
