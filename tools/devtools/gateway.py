"""`scripts/run`: the gateway in the foreground, and how to connect to it."""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path
from types import FrameType

from devtools.console import say
from devtools.host import ROOT, VENV, which
from enterprise_gateway._version import __version__
from enterprise_gateway.app.commands.kernelspecs import Mode, install_kernelspecs, is_unedited

KERNELS = VENV / "share" / "jupyter" / "kernels"
TOKEN_FILE = VENV / "gateway-token"
AVAILABLE = re.compile(r" is available at (\S+)$")


def offer_kernelspecs(images: Collection[str]) -> None:
    """Offer kernels in containers whose images are built; the local one came with ipykernel.

    Others that an earlier run has offered are taken back, unless the user has edited them.
    """
    built = [name for name, image in kernelspec_images().items() if image in images]
    for line in install_kernelspecs(KERNELS, Mode.DOCKER, names=built):
        if not line.startswith("Installed"):
            say(line)
    for name in kernelspec_images().keys() - built:
        if is_unedited(KERNELS / name):
            shutil.rmtree(KERNELS / name)


def kernelspec_images() -> dict[str, str]:
    """Return which image each of the project's kernelspecs needs."""
    return {
        file.parent.name: str(
            json.loads(file.read_text())["metadata"]["process_proxy"]["config"]["image_name"]
        ).replace("VERSION", __version__)
        for file in (ROOT / "etc" / "kernelspecs").glob("*/kernel.json")
    }


def keep_token(file: Path) -> str:
    """Return the token kept in `file`, made if need be: clients go on after a restart."""
    if not file.exists():
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode=0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_hex(24))
    return file.read_text(encoding="ascii").strip()


def banner(url: str, token: str) -> str:
    """Return the address, and the command that connects JupyterLab."""
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
