"""A whole gateway in this process, on a real port, and a client of it."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from enterprise_gateway.app.process import find_host
from enterprise_gateway.settings import (
    AccessSettings,
    KernelSettings,
    LiveSettings,
    ResponseSettings,
    ServerSettings,
    Settings,
)
from enterprise_gateway.web import server

TOKEN = "a-token-for-tests"
ANSWER_SECONDS = 60.0
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"
"""The id of a kernel that does not exist."""


class Answer:
    """A response whose body has been read."""

    def __init__(self, response: aiohttp.ClientResponse, raw: bytes) -> None:
        self.status = response.status
        self.headers = response.headers
        self.raw = raw

    @property
    def body(self) -> Any:
        """The body's JSON."""
        return json.loads(self.raw)

    @property
    def message(self) -> str:
        """The message of an error."""
        assert set(self.body) >= {"reason", "message"}
        return str(self.body["message"])


class Service:
    """A gateway and a client of it."""

    def __init__(self, live: LiveSettings, port: int, http: aiohttp.ClientSession) -> None:
        self.live = live
        self.port = port
        self.http = http

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        """Make a request."""
        async with self.http.request(method, path, **options) as response:
            return Answer(response, await response.read())

    async def get(self, path: str) -> Any:
        """Return the JSON of a GET that must succeed."""
        answer = await self.ask("GET", path)
        assert answer.status == 200, answer.raw
        return answer.body

    async def start_kernel(self, **body: Any) -> str:
        """Start a kernel; returns its id."""
        answer = await self.ask("POST", "/api/kernels", json=body)
        assert answer.status == 201, answer.raw
        return str(answer.body["id"])


def make_settings(folder: Path, **kernels: Any) -> Settings:
    """Return settings for a gateway of its own; `kernels` are fields of `KernelSettings`."""
    return Settings(
        server=ServerSettings(port=0, port_retries=0),
        access=AccessSettings(auth_token=TOKEN, list_kernels=True),
        kernels=KernelSettings(
            **{"default_kernel_name": "python3", "default_username": "tester", **kernels}
        ),
        response=ResponseSettings(port=0),
        host=find_host(),
        cluster_secret=b"0123456789abcdef0123456789abcdef",
        runtime_dir=folder / "run",
    )


@asynccontextmanager
async def serve_settings(live: LiveSettings) -> AsyncIterator[Service]:
    """Serve a gateway; it is stopped as SIGTERM would, so kernels go on."""
    app = server.build(live)
    async with (
        server.serve(app, live) as port,
        aiohttp.ClientSession(
            f"http://127.0.0.1:{port}",
            headers={"Authorization": f"token {TOKEN}"},
            timeout=aiohttp.ClientTimeout(ANSWER_SECONDS),
        ) as http,
    ):
        yield Service(live, port, http)


async def state_of(service: Service, kernel_id: str) -> str:
    """Return a kernel's execution state, "gone" if there is no such kernel."""
    answer = await service.ask("GET", f"/api/kernels/{kernel_id}")
    return str(answer.body["execution_state"]) if answer.status == 200 else "gone"


def in_list(model: Mapping[str, object]) -> dict[str, object]:
    """Return the model of a kernel as lists and sessions have it: without its start."""
    return {key: value for key, value in model.items() if key != "start"}


async def is_state(service: Service, kernel_id: str, wanted: str) -> bool:
    """Say whether a kernel is in a state."""
    return await state_of(service, kernel_id) == wanted
