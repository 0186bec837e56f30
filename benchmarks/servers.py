"""The servers under test: on random ports, in temporary folders, stopped with their kernels."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path

from benchmarks import engine, peers, processes
from benchmarks.client.channel import WebSocketChannel
from benchmarks.client.rest import Rest, RestError
from enterprise_gateway.services.processproxies.contract import POOL_USERNAME
from jupyter_wire.messages import Codec

BOOT_SECONDS = 60.0
BOOT_POLL_SECONDS = 0.005
MODEL_POLL_SECONDS = 0.05
STOP_SECONDS = 60.0


class Column(StrEnum):
    """One column of the table."""

    GATEWAY = "this gateway"
    FLOOR = "floor"
    ENTERPRISE_GATEWAY = "EG 3.3.0"
    JUPYTER_SERVER = "jupyter_server 2.21"


PEERS = (Column.ENTERPRISE_GATEWAY, Column.JUPYTER_SERVER)
SERVERS = (Column.GATEWAY, *PEERS)


class ServerError(Exception):
    """A server did not come up."""


@dataclass
class Server:
    """One running server.

    Attributes:
        boot_seconds: from its start to its first answer.
        kernel_ids: what it was asked to start and not to end yet.
        balancer_pids: the processes of the load balancer in front of it.
    """

    column: Column
    rest: Rest
    pid: int
    boot_seconds: float
    kernel_ids: list[str] = field(default_factory=list)
    balancer_pids: list[int] = field(default_factory=list)

    def start_kernel(self, name: str, **env: str) -> str:
        """Start a kernel that goes with the server, with these variables."""
        kernel_id = self.rest.start_kernel(name, **env)
        self.kernel_ids.append(kernel_id)
        return kernel_id

    def delete_kernel(self, kernel_id: str) -> None:
        """End a kernel."""
        self.rest.delete_kernel(kernel_id)
        self.kernel_ids.remove(kernel_id)

    def wait_for_kernel(self, kernel_id: str, key: str, value: object, seconds: float) -> None:
        """Wait until a kernel's model has a value.

        Raises:
            ServerError: after `seconds`.
        """
        deadline = time.monotonic() + seconds
        while (found := self.rest.kernel(kernel_id)[key]) != value:
            if time.monotonic() > deadline:
                raise ServerError(f"{key} of the kernel is {found}, not {value}")
            time.sleep(MODEL_POLL_SECONDS)

    @contextmanager
    def kernel(self, name: str, **env: str) -> Iterator[str]:
        """A kernel with these variables for the time of a block."""
        kernel_id = self.start_kernel(name, **env)
        try:
            yield kernel_id
        finally:
            self.delete_kernel(kernel_id)

    @contextmanager
    def connect(
        self, kernel_id: str, codec: Codec = Codec.V1, session: str = ""
    ) -> Iterator[WebSocketChannel]:
        """A WebSocket for the time of a block, of a session that is new or named."""
        channel = WebSocketChannel(
            self.rest.host, self.rest.port, self.rest.token, kernel_id, codec, session
        )
        try:
            yield channel
        finally:
            channel.close()

    def pids(self) -> list[int]:
        """The server's own processes."""
        return processes.server_pids(self.pid)


@dataclass(frozen=True)
class Site:
    """Where a server runs, and how its clients get there.

    Attributes:
        ip: what it listens on.
        listen_port: likewise.
        host: where clients reach it.
        port: likewise.
        env: what it is told beyond the usual.
        enter: turns its command line into one for this machine.
        find_main: its process, by the id of the process made of that command line.
    """

    ip: str
    listen_port: int
    host: str
    port: int
    env: Mapping[str, str] = field(default_factory=dict)
    enter: Callable[..., list[str]] = lambda *command: list(command)
    find_main: Callable[[int], int] = lambda pid: pid


def local_site(env: Mapping[str, str] | None = None) -> Site:
    """This machine itself, with a port that is free."""
    port = _free_port()
    return Site("127.0.0.1", port, "127.0.0.1", port, env or {})


@contextmanager
def run_server(
    column: Column, folder: Path, jupyter_path: Path, site: Site | None = None
) -> Iterator[Server]:
    """Run a server for the time of a block; its kernels end with it.

    Args:
        column: which.
        folder: where it may leave its files.
        jupyter_path: where its kernelspecs are.
        site: None for `local_site`.

    Raises:
        PeerUnreachableError: it is a peer that could not be installed.
        ServerError: it did not answer in time; holds the end of its log.
    """
    site = site or local_site()
    token = secrets.token_hex(16)
    command = site.enter(*_command(column, site, token))
    work = folder / f"{column.name.lower()}-{secrets.token_hex(4)}"
    work.mkdir(parents=True)
    log = work / "log"
    started = time.perf_counter()
    environment = _environment(column, site, token, work, jupyter_path)
    process = processes.spawn(command, environment, log, work)
    server = Server(column, Rest(site.host, site.port, token), process.pid, 0.0)
    try:
        while not server.rest.answers():
            if process.poll() is not None or time.perf_counter() - started > BOOT_SECONDS:
                raise ServerError(
                    f"{column} did not start: {log.read_text(errors='replace')[-800:]}"
                )
            time.sleep(BOOT_POLL_SECONDS)
        server.boot_seconds = time.perf_counter() - started
        server.pid = site.find_main(process.pid)
        yield server
    finally:
        _end_kernels(server)
        processes.stop(process, server.pid)
        if "EG_POOL_SIZES" in environment:
            _end_pool(partial(site.enter, *_command(column, site, token)), environment, work)


def _end_pool(command: Callable[..., list[str]], env: Mapping[str, str], work: Path) -> None:
    """End the kernels that wait: they outlive their gateway, which would fill the pool again.

    Not all kernels: those without the label of a cluster belong to other gateways, too.
    """
    run = partial(subprocess.run, env=dict(env), cwd=work, capture_output=True, check=True)
    try:
        listed = run(command("kernels", "list", "--json"), timeout=STOP_SECONDS).stdout
        waiting = [row["id"] for row in json.loads(listed) if row["username"] == POOL_USERNAME]
        if waiting:
            run(command("kernels", "stop", *waiting), timeout=STOP_SECONDS)
    except subprocess.SubprocessError as error:
        raise ServerError(f"kernels of the pool are left: {error}") from error


def _end_kernels(server: Server) -> None:
    for kernel_id in server.kernel_ids:
        with suppress(OSError, RestError):
            server.rest.delete_kernel(kernel_id)
    # What a server that failed left behind.
    processes.kill(processes.kernel_pids(server.kernel_ids))
    engine.remove_kernels(server.kernel_ids)


def _command(column: Column, site: Site, token: str) -> list[str]:
    if column is Column.JUPYTER_SERVER:
        return [
            str(peers.install(peers.JUPYTER_SERVER)),
            "--allow-root",
            "--no-browser",
            f"--ip={site.ip}",
            f"--port={site.listen_port}",
            f"--IdentityProvider.token={token}",
            # Its limits would end the flood after a thousand messages.
            "--ZMQChannelsWebsocketConnection.limit_rate=False",
        ]
    if column is Column.ENTERPRISE_GATEWAY:
        return [str(peers.install(peers.ENTERPRISE_GATEWAY))]
    return [str(Path(sys.executable).parent / "jupyter-enterprisegateway")]


def _environment(
    column: Column, site: Site, token: str, work: Path, jupyter_path: Path
) -> dict[str, str]:
    """Nothing of this process's Jupyter set-up; both gateways understand the same `EG_*` names."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(work),
        "LANG": "C.UTF-8",
        "JUPYTER_PATH": str(jupyter_path),
        "JUPYTER_CONFIG_DIR": str(work / "config"),
        "JUPYTER_DATA_DIR": str(work / "data"),
        "JUPYTER_RUNTIME_DIR": str(work / "runtime"),
    }
    env |= {name: value for name, value in os.environ.items() if name.startswith("DOCKER_")}
    if column is Column.JUPYTER_SERVER:
        return {**env, **site.env}
    env |= {
        "EG_IP": site.ip,
        "EG_PORT": str(site.listen_port),
        "EG_PORT_RETRIES": "0",
        "EG_AUTH_TOKEN": token,
        "EG_LIST_KERNELS": "True",
        "EG_INHERITED_ENVS": "PATH,DOCKER_HOST",
        "EG_RESPONSE_PORT": str(_free_port()),
        "EG_KERNEL_LAUNCH_TIMEOUT": "60",
    }
    return {**env, **site.env}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
