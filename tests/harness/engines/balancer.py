"""The load balancer of the stack in front of replicas that only say how they were asked."""

import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import docker
import requests
from docker.models.containers import Container

from devtools.images import KERNEL, PROXY
from harness.waiting import wait_until

SERVICE = "gateways"
"""The name by which the balancer asks for replicas."""
SECRET_PATH = "/run/secrets/balancer-secret"
USER_HEADER = "X-Name-Of-User"
USER_ID = 1000
"""The balancer's user, which docker-compose's secrets belong to."""

REPLICA = """
import json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

asked = []

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, _, query = self.path.partition("?")
        if "/drop" in path:
            asked.append(self.command)
            self.close_connection = True
        elif path.endswith("/channels"):
            self.channels(path.split("/")[-2], query)
        else:
            status = int(os.environ["READY"]) if path.endswith("/readyz") else 200
            self.send(status, {"name": os.environ["NAME"], "asked": asked,
                               "headers": dict(self.headers)})

    def channels(self, kernel_id, query):
        if self.headers.get("X-EG-Balancer") != os.environ["SECRET"]:
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", "proof")
            self.end_headers()
            self.wfile.write(b"spliced by " + os.environ["NAME"].encode())
            self.close_connection = True
        elif kernel_id.isdigit():
            self.send(int(kernel_id), {"reason": "a reason"}, ("Retry-After", "7"))
        elif kernel_id == "local":
            self.send_response(204)
            self.end_headers()
        else:
            self.send_response(204)
            self.send_header("X-EG-Agent-Address", kernel_id)
            self.send_header("X-EG-Agent-Target", "/v1/channels?" + query)
            self.send_header("X-EG-Agent-Authorization", "Bearer agents-token")
            self.end_headers()

    def send(self, status, document, *headers):
        body = json.dumps(document).encode()
        self.send_response(status)
        for header in (("Content-Length", str(len(body))), *headers):
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

ThreadingHTTPServer(("", 8888), Handler).serve_forever()
"""
"""A kernel id is what becomes of its channels: a status, an agent's address, `local`, `drop`."""

AGENT = r"""
import socketserver, time

ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"

class Agent(socketserver.BaseRequestHandler):
    def handle(self):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.request.recv(65536)
        mode = head.split()[1].rpartition(b"=")[2]
        if mode == b"echo":
            # hostile: none of these is for the client
            self.request.sendall(ACCEPTED + b"Set-Cookie: a=b\r\nX-Accel-Redirect: /x\r\n"
                                 b"Access-Control-Allow-Origin: *\r\n"
                                 b"Sec-WebSocket-Accept: proof\r\n\r\n")
            self.request.sendall(head)
            while data := self.request.recv(65536):
                self.request.sendall(data)
        elif mode == b"redirect":
            self.request.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\n"
                                 b"Set-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")
        elif mode == b"hints":
            while True:
                self.request.sendall(b"HTTP/1.1 103 Early Hints\r\nSet-Cookie: a=b\r\n\r\n")
        elif mode == b"page":
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhtml")
        elif mode == b"huge":
            self.request.sendall(ACCEPTED + b"X: " + b"x" * 1_000_000 + b"\r\n\r\n")
        elif mode.isdigit():
            body = b"secret of the agent"
            self.request.sendall(b"HTTP/1.1 %b Refused\r\nContent-Length: %d\r\n\r\n%b"
                                 % (mode, len(body), body))

class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True

Server(("", 8898), Agent).serve_forever()
"""
"""The last parameter of its target is what it does."""


class Balancer:
    """The balancer in a network of its own, without replicas at first."""

    def __init__(self, client: docker.DockerClient, folder: Path) -> None:
        """Start it.

        Args:
            client: of the machine's engine.
            folder: for its secret.
        """
        self._client = client
        self.secret = secrets.token_hex(16)
        file = folder / "balancer-secret"
        file.write_text(f"{self.secret}\n", encoding="ascii")
        os.chown(file, USER_ID, -1)
        self._network = client.networks.create(f"egt-{secrets.token_hex(4)}")
        self._container = self._run(
            PROXY.tag,
            ports={8888: ("127.0.0.1", None)},
            environment={
                "EG_BALANCER_SECRET_FILE": SECRET_PATH,
                "EG_PROXY_USER_HEADER": USER_HEADER,
            },
            volumes={str(file): {"bind": SECRET_PATH, "mode": "ro"}},
            read_only=True,
            cap_drop=["ALL"],
        )
        self._container.reload()
        (port,) = self._container.attrs["NetworkSettings"]["Ports"]["8888/tcp"]
        self.port = int(port["HostPort"])
        self.url = f"http://127.0.0.1:{self.port}"
        wait_until(self._is_serving, what="the load balancer")

    def close(self) -> None:
        """Remove it and its network."""
        self._container.remove(force=True)
        self._network.remove()

    @contextmanager
    def replica(self, name: str, *, ready: bool = True) -> Iterator[Container]:
        """Have a replica."""
        environment = {
            "NAME": name,
            "READY": "200" if ready else "503",
            "SECRET": self.secret,
        }
        with self._python(REPLICA, [SERVICE], environment) as container:
            yield container

    @contextmanager
    def agent(self) -> Iterator[str]:
        """Have an agent; yields its address, which is the id of its kernel."""
        with self._python(AGENT) as container:
            container.reload()
            networks = container.attrs["NetworkSettings"]["Networks"]
            yield f"{networks[self._network.name]['IPAddress']}:8898"

    def _is_serving(self) -> bool:
        """Whether it answers, if only that there is no replica."""
        with suppress(requests.ConnectionError):
            return bool(self.get().status_code)
        return False

    def get(self, path: str = "/") -> requests.Response:
        """Make a request over a connection of its own."""
        return requests.get(self.url + path, timeout=30)

    def answering(self) -> set[str]:
        """Return which replicas answer several requests."""
        answers = [self.get() for _ in range(6)]
        return {answer.json()["name"] for answer in answers if answer.ok}

    def reload(self) -> None:
        """Let it read its files anew."""
        self._container.kill(signal.SIGUSR2)

    def workers(self) -> set[str]:
        """Return the ids of its processes, without the master's, whose children they are."""
        top = self._container.top()
        own, parent = (top["Titles"].index(title) for title in ("PID", "PPID"))
        parents = {process[own]: process[parent] for process in top["Processes"]}
        return {each for each in parents if parents[each] in parents}

    def read_log(self) -> str:
        """Return what it printed."""
        return str(self._container.logs().decode())

    @contextmanager
    def _python(
        self,
        script: str,
        aliases: list[str] | None = None,
        environment: dict[str, str] | None = None,
    ) -> Iterator[Container]:
        container = self._run(
            KERNEL.tag,
            entrypoint=["python3", "-c", script],
            environment=environment or {},
            networking_config={
                self._network.name: self._client.api.create_endpoint_config(aliases=aliases)
            },
        )
        try:
            yield container
        finally:
            container.remove(force=True)

    def _run(self, image: str, **settings: object) -> Container:
        return self._client.containers.run(
            image, network=self._network.name, detach=True, **settings
        )
