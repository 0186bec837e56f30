"""The load balancer of the stack in front of replicas that only say how they were asked."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import docker
import requests
from docker.models.containers import Container

from bringup.images import KERNEL, PROXY

SERVICE = "enterprise-gateway"
"""The name by which the balancer asks for replicas."""

REPLICA = """
import json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

asked = []

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.startswith("/drop"):
            asked.append(self.command)
            self.close_connection = True
            return
        status = int(os.environ["READY"]) if self.path.endswith("/readyz") else 200
        answer = {"name": os.environ["NAME"], "asked": asked, "headers": dict(self.headers)}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

ThreadingHTTPServer(("", 8888), Handler).serve_forever()
"""


class Balancer:
    """The balancer in a network of its own, without replicas at first."""

    def __init__(self, client: docker.DockerClient) -> None:
        """Start it; `client` is of the machine's engine."""
        self._client = client
        self._network = client.networks.create(f"egt-{secrets.token_hex(4)}")
        self._container = self._run(PROXY.tag, ports={8888: ("127.0.0.1", None)})
        self._container.reload()
        (port,) = self._container.attrs["NetworkSettings"]["Ports"]["8888/tcp"]
        self.url = f"http://127.0.0.1:{port['HostPort']}"

    def close(self) -> None:
        """Remove it and its network."""
        self._container.remove(force=True)
        self._network.remove()

    @contextmanager
    def replica(self, name: str, *, ready: bool = True) -> Iterator[Container]:
        """Have a replica."""
        container = self._run(
            KERNEL.tag,
            entrypoint=["python3", "-c", REPLICA],
            environment={"NAME": name, "READY": "200" if ready else "503"},
            networking_config={
                self._network.name: self._client.api.create_endpoint_config(aliases=[SERVICE])
            },
        )
        try:
            yield container
        finally:
            container.remove(force=True)

    def get(self, path: str = "/") -> requests.Response:
        """Make a request over a connection of its own."""
        return requests.get(self.url + path, timeout=30)

    def answering(self) -> set[str]:
        """Return which replicas answer several requests."""
        answers = [self.get() for _ in range(6)]
        return {answer.json()["name"] for answer in answers if answer.ok}

    def read_log(self) -> str:
        """Return what it printed."""
        return str(self._container.logs().decode())

    def _run(self, image: str, **settings: object) -> Container:
        return self._client.containers.run(
            image, network=self._network.name, detach=True, **settings
        )
