"""A client of one address, behind which are one gateway or several."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import requests

from harness.clients.channels import Channels
from harness.waiting import wait_until
from jupyter_wire.messages import Codec

REQUEST_TIMEOUT = 240.0


class GatewayClient:
    """A client with a token, which starts kernels under a user name of its own."""

    def __init__(self, url: str, *, token: str, username: str) -> None:
        """`url` has no slash at its end."""
        self.url = url
        self.token = token
        self.username = username
        self.channels: list[Channels] = []
        self.http = requests.Session()
        self.http.headers["Authorization"] = f"token {token}"

    @property
    def ws_url(self) -> str:
        """The base URL for WebSockets."""
        return self.url.replace("http", "ws", 1)

    def disconnect(self) -> None:
        """Close all connections."""
        for channels in self.channels:
            channels.close()
        self.http.close()

    def request(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """Make an authenticated request; `path` begins with a slash."""
        arguments.setdefault("timeout", REQUEST_TIMEOUT)
        return self.http.request(method, f"{self.url}{path}", **arguments)

    def get(self, path: str) -> Any:
        """Return the JSON of a GET that must succeed."""
        response = self.request("GET", path)
        assert response.status_code == 200, response.text
        return response.json()

    def start_kernel(self, name: str, env: Mapping[str, str] | None = None) -> str:
        """Start a kernel; returns its id."""
        body = {"name": name, "env": {"KERNEL_USERNAME": self.username, **(env or {})}}
        response = self.request("POST", "/api/kernels", json=body)
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    def delete_kernel(self, kernel_id: str) -> None:
        """Shut a kernel down."""
        response = self.request("DELETE", f"/api/kernels/{kernel_id}")
        assert response.status_code == 204, response.text

    def delete_all_kernels(self) -> None:
        """Shut down every kernel that is listed, as far as the gateway answers."""
        with suppress(requests.RequestException):
            response = self.request("GET", "/api/kernels")
            for model in response.json() if response.ok else []:
                self.request("DELETE", f"/api/kernels/{model['id']}")

    def list_kernels(self) -> dict[str, dict[str, Any]]:
        """Return the models of all kernels, by id."""
        return {model["id"]: model for model in self.get("/api/kernels")}

    def wait_until_gone(self, kernel_id: str) -> None:
        """Wait until the gateway answers 404 for the kernel."""

        def is_gone() -> bool:
            return self.request("GET", f"/api/kernels/{kernel_id}").status_code == 404

        wait_until(is_gone, what=f"end of kernel {kernel_id}")

    def connect(
        self,
        kernel_id: str,
        *,
        session_id: str = "",
        is_anonymous: bool = False,
        replay: str = "",
        codec: Codec = Codec.V1,
    ) -> Channels:
        """Open a WebSocket to a kernel."""
        url = f"{self.ws_url}/api/kernels/{kernel_id}/channels"
        channels = Channels(
            url,
            token=self.token,
            session_id=session_id,
            is_anonymous=is_anonymous,
            replay=replay,
            codec=codec,
        )
        self.channels.append(channels)
        return channels
