"""The kernelspecs of a run, and bare kernels of the same commands for the floor."""

import json
import secrets
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from jupyter_client.connect import LocalPortCache

from benchmarks import processes
from benchmarks.client.channel import Connection
from enterprise_gateway.app.commands import kernelspecs

ROOT = Path(__file__).resolve().parent.parent
FLOOD = "bench_flood"
PYTHON = "bench_python"
DOCKER = "python_docker"

FIRST_PORT = 10_000
FIRST_EPHEMERAL_PORT = 32_768
"""Linux' default for `net.ipv4.ip_local_port_range`."""
PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")

COMMANDS = {
    FLOOD: [sys.executable, str(ROOT / "benchmarks" / "flood_kernel.py"), "{connection_file}"],
    # By path, so that every server runs the same ipykernel whatever its own environment holds.
    PYTHON: [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
}


def write_kernelspecs(prefix: Path) -> Path:
    """Write the kernelspecs of a run and install those that the project ships.

    Returns:
        A folder for `JUPYTER_PATH`.
    """
    jupyter_path = install_kernelspecs(prefix, "docker")
    for name, argv in COMMANDS.items():
        folder = jupyter_path / "kernels" / name
        folder.mkdir(parents=True)
        spec = {"argv": argv, "display_name": name, "language": "python", "metadata": {}}
        (folder / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    return jupyter_path


def install_kernelspecs(prefix: Path, mode: str) -> Path:
    """Install the kernelspecs that the project ships.

    Args:
        prefix: where.
        mode: whether kernels are containers ("docker") or services ("swarm").

    Returns:
        A folder for `JUPYTER_PATH`.
    """
    kernelspecs.install_kernelspecs(prefix / "share/jupyter/kernels", kernelspecs.Mode(mode))
    return prefix / "share" / "jupyter"


def derive_kernelspec(jupyter_path: Path, name: str, config: Mapping[str, object]) -> None:
    """Make another kernelspec of `python_docker`, with other keys in its config."""
    kernels = jupyter_path / "kernels"
    shutil.copytree(kernels / DOCKER, kernels / name)
    path = kernels / name / "kernel.json"
    spec = json.loads(path.read_text(encoding="utf-8"))
    spec["metadata"]["process_proxy"]["config"] |= config
    path.write_text(json.dumps(spec), encoding="utf-8")


@contextmanager
def bare_kernel(name: str, folder: Path) -> Iterator[Connection]:
    """Run the command of a kernelspec with nothing around it; yields its connection information."""
    folder.mkdir(parents=True, exist_ok=True)
    connection: Connection = {"transport": "tcp", "ip": "127.0.0.1", "key": uuid4().hex}
    connection |= {port: _reserve_port() for port in PORTS}
    connection["signature_scheme"] = "hmac-sha256"
    path = folder / f"kernel-{name}.json"
    path.write_text(json.dumps(connection), encoding="utf-8")
    argv = [part.replace("{connection_file}", str(path)) for part in COMMANDS[name]]
    env = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "IPYTHONDIR": str(folder / "ipython"),
    }
    process = processes.spawn(argv, env, folder / "kernel.log", folder)
    try:
        yield connection
    finally:
        process.kill()
        process.wait()


def _reserve_port() -> int:
    """Pick a port that the system does not give to a program that asks for any.

    Of sixteen kernels that start at once with ports of that kind, one finds its own taken in every
    fifth run.
    """
    taken = LocalPortCache.instance().currently_used_ports
    while True:
        port = FIRST_PORT + secrets.randbelow(FIRST_EPHEMERAL_PORT - FIRST_PORT)
        if port not in taken and _is_free(port):
            taken.add(port)
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
