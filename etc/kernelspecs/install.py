"""Install the kernelspecs of this folder where Jupyter finds them.

    python etc/kernelspecs/install.py --prefix DIR --version V [--mode docker|swarm]

Each becomes `DIR/share/jupyter/kernels/NAME`, with VERSION and process proxy in its kernel.json
replaced and the launch script copied in: from then on the folder is the site's own, to be edited
and moved as one likes (`{resource_dir}` in argv is wherever it is). A file that was edited there is
kept, and said so.
"""

import argparse
import hashlib
import json
import sys
from enum import Enum
from pathlib import Path

SOURCE = Path(__file__).resolve().parent
LAUNCH_SCRIPT = SOURCE.parent / "kernel-launchers" / "docker" / "scripts" / "launch_docker.py"
INSTALLED = ".installed.json"
"""In each installed kernelspec: the SHA-256 of every file as it was installed."""


class Mode(Enum):
    """What a kernel becomes; the value is the argument of `--mode`."""

    DOCKER = "docker"
    """A container on the gateway's own Docker engine."""
    SWARM = "swarm"
    """A service that Docker Swarm places on one of its nodes."""


PROCESS_PROXIES = {Mode.DOCKER: b"DockerProcessProxy", Mode.SWARM: b"DockerSwarmProcessProxy"}
"""The class in kernel.json."""


def main() -> None:
    """Install all kernelspecs."""
    parser = argparse.ArgumentParser(description="Install Enterprise Gateway's kernelspecs.")
    parser.add_argument(
        "--prefix", type=Path, required=True, help="such as /usr/local or sys.prefix"
    )
    parser.add_argument("--version", required=True, help="tag of the kernel images")
    parser.add_argument(
        "--mode",
        choices=[mode.value for mode in Mode],
        default=Mode.SWARM.value,
        help="whether kernels are containers of the engine or services of the Swarm (the default)",
    )
    arguments = parser.parse_args()
    mode = Mode(arguments.mode)
    kernels = arguments.prefix / "share" / "jupyter" / "kernels"
    for source in sorted(SOURCE.glob("*/kernel.json")):
        install(source.parent, kernels / source.parent.name, arguments.version, mode)


def install(source: Path, target: Path, version: str, mode: Mode) -> None:
    """Install or update one kernelspec."""
    record = target / INSTALLED
    before = json.loads(record.read_text()) if record.exists() else {}
    now = {}
    for name, content in contents(source, version, mode).items():
        now[name] = digest(content)
        file = target / name
        if file.exists():
            present = digest(file.read_bytes())
            if present not in (now[name], before.get(name, now[name])):
                sys.stdout.write(f"{file} was edited and is kept as it is\n")
                continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    record.write_text(json.dumps(now, indent=1) + "\n")


def contents(source: Path, version: str, mode: Mode) -> dict[str, bytes]:
    """Return what a kernelspec consists of, by path in its folder."""
    files = {file.name: file.read_bytes() for file in sorted(source.iterdir()) if file.is_file()}
    spec = files["kernel.json"].replace(b":VERSION", b":" + version.encode())
    files["kernel.json"] = spec.replace(PROCESS_PROXIES[Mode.SWARM], PROCESS_PROXIES[mode])
    files["scripts/launch_docker.py"] = LAUNCH_SCRIPT.read_bytes()
    return files


def digest(content: bytes) -> str:
    """Return the SHA-256 of a file's content."""
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    main()
