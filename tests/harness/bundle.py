"""The agent's bundle as a file, for tests that start it as a container does."""

import io
import re
import zipfile
from pathlib import Path

import h11
import wsproto

import kernel_agent

AGENT = Path(kernel_agent.__file__).parent
PACKAGES = {"kernel_agent": AGENT} | {
    package.__name__: Path(package.__file__).parent for package in (h11, wsproto)
}


def build(modules: dict[str, bytes] | None = None, root: Path | None = None) -> bytes:
    """Make the bundle.

    Args:
        modules: what its archive holds in place of the agent, by name.
        root: a folder that stands for `/` where the shell script looks into /opt and /usr.
    """
    prelude = (AGENT / "prelude.sh").read_text()
    if root is not None:
        prelude = re.sub(r"/(opt|usr)/", rf"{root}/\1/", prelude)
    content = io.BytesIO()
    content.write(prelude.encode())
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__main__.py", (AGENT / "archive_main.py").read_bytes())
        for name, data in (modules if modules is not None else agent_modules()).items():
            archive.writestr(name, data)
    return content.getvalue()


def agent_modules() -> dict[str, bytes]:
    """Return the agent and what it needs, by the names in the archive."""
    return {
        f"{package}/{path.relative_to(folder)}": path.read_bytes()
        for package, folder in PACKAGES.items()
        for path in folder.rglob("*.py")
    }
