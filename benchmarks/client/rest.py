"""The few REST calls that a benchmark makes, without the cost of a client library."""

import json
import socket
from collections.abc import Mapping
from http.client import HTTPConnection


class RestError(Exception):
    """The server answered with an error."""


class Rest:
    """One server; a connection per request, as several threads use it."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self.host = host
        self.port = port
        self.token = token

    def start_kernel(self, name: str, **env: str) -> str:
        """Start a kernel with these variables and return its id."""
        body = {"name": name, "env": {"KERNEL_USERNAME": "bench", **env}}
        model = self._call("POST", "/api/kernels", body, timeout=120.0)
        return str(json.loads(model)["id"])

    def delete_kernel(self, kernel_id: str) -> None:
        """End a kernel."""
        self._call("DELETE", f"/api/kernels/{kernel_id}", None, timeout=60.0)

    def restart_kernel(self, kernel_id: str) -> None:
        """Restart a kernel; returns when the new process is ready."""
        self._call("POST", f"/api/kernels/{kernel_id}/restart", {}, timeout=60.0)

    def kernel(self, kernel_id: str) -> dict[str, object]:
        """The model of a kernel."""
        model: dict[str, object] = json.loads(
            self._call("GET", f"/api/kernels/{kernel_id}", None, timeout=60.0)
        )
        return model

    def metrics(self) -> str:
        """What Prometheus gets."""
        return self._call("GET", "/metrics", None, timeout=60.0).decode()

    def answers(self) -> bool:
        """Whether the server is up, which is when this first succeeds."""
        try:
            self._call("GET", "/api", None, timeout=5.0)
        except (OSError, RestError):
            return False
        return True

    def _call(
        self, method: str, path: str, body: Mapping[str, object] | None, timeout: float
    ) -> bytes:
        connection = _connect(self.host, self.port, timeout)
        try:
            headers = {"Authorization": f"token {self.token}", "Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            raise RestError(
                f"{method} {path}: {response.status} {answer.decode(errors='replace')[:500]}"
            )
        return answer


class KeptConnection:
    """One connection, for one GET after the other."""

    def __init__(self, host: str, port: int, token: str = "") -> None:
        self._connection = _connect(host, port, timeout=60.0)
        self._headers = {"Authorization": f"token {token}"}

    def get(self, path: str) -> bytes:
        """Return the body of a GET that must succeed."""
        self._connection.request("GET", path, headers=self._headers)
        response = self._connection.getresponse()
        answer = response.read()
        if response.status >= 400:
            raise RestError(
                f"GET {path}: {response.status} {answer.decode(errors='replace')[:500]}"
            )
        return answer

    def close(self) -> None:
        """Close it."""
        self._connection.close()


def _connect(host: str, port: int, timeout: float) -> HTTPConnection:
    connection = HTTPConnection(host, port, timeout=timeout)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection
