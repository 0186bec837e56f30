"""The lines with which stock clients connect to this gateway. Pure.

They are those of docs/clients.md, with the gateway's own address and token in them.
"""

import json
import shlex
from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Snippet:
    """Text for one client, to be copied as a whole.

    Attributes:
        id: Unique on the page.
        title: The client's name.
        hint: Where the text goes.
        before: The text up to the token.
        token: The token, quoted as the text needs it; "" if the text has none.
        after: The text behind it.
    """

    id: str
    title: str
    hint: str
    before: str = ""
    token: str = ""
    after: str = ""


def make_snippets(url: str, token: str, *, is_listing: bool) -> list[Snippet]:
    """Return how to connect JupyterLab, VS Code and Python.

    Args:
        url: The gateway's base URL, which ends with a slash.
        token: The gateway's token; "" if it needs none.
        is_listing: Whether the gateway lists its kernels, which VS Code needs.
    """
    address = url.removesuffix("/")
    return [
        _jupyterlab(address, token),
        _vscode(url, token, is_listing=is_listing),
        _python(address, token),
    ]


def _jupyterlab(address: str, token: str) -> Snippet:
    command = f"jupyter lab --gateway-url={shlex.quote(address)}"
    return Snippet(
        "jupyterlab",
        "JupyterLab",
        "Run this in a terminal where JupyterLab is installed.",
        before="JUPYTER_GATEWAY_AUTH_TOKEN=" if token else "",
        token=shlex.quote(token) if token else "",
        after=f" {command}" if token else command,
    )


def _vscode(url: str, token: str, *, is_listing: bool) -> Snippet:
    hint = "Choose Select Kernel, Existing Jupyter Server…, and paste this address."
    if not is_listing:
        hint += " VS Code needs a gateway that lists its kernels: ask for EG_LIST_KERNELS=True."
    return Snippet(
        "vscode",
        "Visual Studio Code",
        hint,
        before=f"{url}?token=" if token else url,
        token=quote(token, safe="", errors="surrogateescape"),
    )


def _python(address: str, token: str) -> Snippet:
    before = (
        "from jupyter_kernel_client import JupyterKernelClient\n\n"
        "with JupyterKernelClient(\n"
        f"    server_url={_literal(address)},\n"
        "    token="
    )
    after = (
        ",\n) as kernel:\n"
        '    reply = kernel.execute("print(6 * 7)")\n'
        'print(reply["outputs"][0]["text"])'
    )
    return Snippet(
        "python",
        "Python",
        "Install the client with pip install jupyter-kernel-client.",
        before=before if token else f'{before}""',
        token=_literal(token) if token else "",
        after=after,
    )


def _literal(text: str) -> str:
    """Return a string in Python, which reads JSON's as its own."""
    return json.dumps(text, ensure_ascii=False)
