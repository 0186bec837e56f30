"""The engine proxy of the stack, in front of the real engine or of one that only takes notes."""

import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import docker

from devtools.images import PROXY
from harness.waiting import wait_until

CONFIGURATION = "/etc/enterprise-gateway/engine.cfg"
READ_BYTES = 65536


@dataclass
class RecordingEngine:
    """An engine that answers everything with an empty object, and remembers what it was asked."""

    socket: Path
    """Where it listens."""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Method, target and headers of what got through."""
    followers: int = 0
    """Open streams of events."""


@contextmanager
def recording_engine(path: Path) -> Iterator[RecordingEngine]:
    """Have an engine that listens at a path."""
    engine = RecordingEngine(path)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            # http.server logs the address of the client, which a unix socket has not
            self.client_address = ("unix", 0)
            super().setup()

        def answer(self) -> None:
            engine.requests.append((self.command, self.path, dict(self.headers)))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path.endswith("/events"):
                self.follow()
                return
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def follow(self) -> None:
            """Send nothing, until the other side closes the connection."""
            engine.followers += 1
            with suppress(OSError):
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(b"2\r\n{}\r\n")
                while self.connection.recv(READ_BYTES):
                    pass
            engine.followers -= 1
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = answer  # noqa: N815 - http.server looks them up by method

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_UNIX
        daemon_threads = True

        def server_bind(self) -> None:
            self.socket.bind(self.server_address)

    with Server(str(path), Handler) as server:  # type: ignore[arg-type] # a path
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield engine
        finally:
            server.shutdown()
            serving.join()


class EngineProxy:
    """The container with the proxy, and the socket that a gateway gets."""

    def __init__(self, upstream: Path) -> None:
        """`upstream` is the socket of the engine that it leads to."""
        self._folder = Path(tempfile.mkdtemp(prefix="egt"))
        self.socket = self._folder / "docker.sock"
        self._client = docker.from_env()
        self._container = self._client.containers.run(
            PROXY.tag,
            ["haproxy", "-db", "-f", CONFIGURATION],
            user="root",
            cap_drop=["ALL"],
            network_mode="none",
            volumes={
                str(upstream): {"bind": "/var/run/docker.sock", "mode": "rw"},
                str(self._folder): {"bind": "/run/enterprise-gateway", "mode": "rw"},
            },
            detach=True,
        )
        wait_until(self._is_listening, what="the proxy's socket")

    def _is_listening(self) -> bool:
        """Whether connections are taken; the socket is there a moment before."""
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def close(self) -> None:
        """Remove the container."""
        self._container.remove(force=True)
        self._client.close()
        shutil.rmtree(self._folder)

    def read_log(self) -> str:
        """Return what the proxy printed."""
        return str(self._container.logs().decode())

    def client(self) -> docker.DockerClient:
        """Return a client of the engine by way of the proxy."""
        return docker.DockerClient(base_url=f"unix://{self.socket}", timeout=30)

    def exchange(self, request: bytes) -> bytes:
        """Send bytes, and return the answer up to the end of the connection."""
        received = b""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(str(self.socket))
            connection.sendall(request)
            while part := connection.recv(READ_BYTES):
                received += part
        return received
