"""A Docker engine without containers, for tests that must not see those of other runs."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 128  # as dockerd: a unix socket refuses what does not fit

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.stopped = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    """Knows no container; its stream of events never has one."""

    server: _Server

    def do_GET(self) -> None:
        """Answer that there is nothing."""
        if "/events" in self.path:
            self.send_response(200)
            self.end_headers()
            self.server.stopped.wait()
            return
        body = b'{"ApiVersion": "1.41"}' if "/version" in self.path else b"[]"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Stay silent."""

    def address_string(self) -> str:
        """Return something: unix sockets have no address."""
        return "client"


@contextmanager
def empty_engine(folder: Path) -> Iterator[str]:
    """Run the engine; yields its `DOCKER_HOST`."""
    path = folder / "engine.sock"
    with _Server(path) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"unix://{path}"
        finally:
            server.stopped.set()
            server.shutdown()
            thread.join()
