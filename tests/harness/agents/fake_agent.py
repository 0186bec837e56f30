"""A kernel agent without a kernel: the control part of the wire contract, driven by the test."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

RESTART = {"seconds": 1.5, "steps": {"end": 0.5, "kernel": 1.0}}
"""How long it says that a restart took."""


class FakeAgent:
    """Serves docs/agent-interface.md, section 3, on a unix socket.

    Attributes:
        state: the state document; change it with `change`.
        calls: the requests other than reads and claims, such as `POST /v1/restart`; also those
            that it has not answered yet.
        is_sidecar: whether the kernel is in another container, and so no restart is possible.
        claims_refused: how many of the next claims it refuses.
        asked: how many requests have begun, other than for events.
        silence: cleared, no request is answered until it is set again.
    """

    def __init__(self, path: Path, kernel_id: str, token: str, **state: Any) -> None:
        self.path = path
        self.calls: list[str] = []
        self.bodies: list[Any] = []
        self.is_sidecar = False
        self.claims_refused = 0
        self.asked = 0
        self.silence = asyncio.Event()
        self.silence.set()
        self.ended = asyncio.Event()
        self.state: dict[str, Any] = {
            "version": 1,
            "kernel_id": kernel_id,
            "kernel_name": "",
            "username": "",
            "language": "",
            "execution_state": "idle",
            "last_activity": "2026-01-02T03:04:05.678901Z",
            "started": "2026-01-02T03:04:05.000000Z",
            "connections": 0,
            "websockets": 0,
            "restarts": 0,
            "reason": None,
            "claimed": False,
            "annotations": {"revision": 0, "document": {}},
            **state,
        }
        self._token = token
        self._streams: set[asyncio.Queue[bytes | None]] = set()
        app = web.Application(middlewares=[self._authorize])
        app.add_routes(
            [
                web.get("/v1/state", self._get_state),
                web.get("/v1/events", self._get_events),
                web.post("/v1/claim", self._claim),
                web.post("/v1/interrupt", self._interrupt),
                web.post("/v1/restart", self._restart),
                web.post("/v1/shutdown", self._shutdown),
                web.put("/v1/culling", self._put_culling),
                web.put("/v1/annotations", self._put_annotations),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    async def start(self) -> None:
        """Begin to serve."""
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.path)).start()

    async def stop(self) -> None:
        """Stop serving, without a final state."""
        for queue in self._streams:
            queue.put_nowait(None)
        await self._runner.cleanup()
        self.path.unlink(missing_ok=True)

    def change(self, **changes: Any) -> None:
        """Change the state and tell who listens."""
        self.state.update(changes)
        for queue in self._streams:
            queue.put_nowait(self._line())

    def end(self, reason: dict[str, Any] | None = None) -> None:
        """Tell the final state: dead, and why."""
        self.change(execution_state="dead", reason=reason)
        for queue in self._streams:
            queue.put_nowait(b"")
        self.ended.set()

    def _line(self) -> bytes:
        return msgspec.json.encode(self.state) + b"\n"

    @web.middleware
    async def _authorize(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {self._token}":
            return web.json_response({"reason": "Unauthorized", "message": "token"}, status=401)
        if request.method != "GET" and request.path != "/v1/claim":
            self.calls.append(f"{request.method} {request.path}")
        self.asked += request.path != "/v1/events"
        await self.silence.wait()
        response = await handler(request)
        assert isinstance(response, web.StreamResponse)
        return response

    async def _get_state(self, _request: web.Request) -> web.Response:
        return web.json_response(self.state)

    async def _get_events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        queue.put_nowait(self._line())
        self._streams.add(queue)
        try:
            while line := await queue.get():
                await response.write(line)
            if line is None and request.transport is not None:
                request.transport.abort()
        finally:
            self._streams.discard(queue)
        return response

    async def _claim(self, request: web.Request) -> web.Response:
        if self.claims_refused:
            self.claims_refused -= 1
            return web.json_response({"reason": "Unavailable", "message": "busy"}, status=503)
        body = await request.json() if request.can_read_body and not self.state["restarts"] else {}
        self.change(claimed=True, **body)
        return web.Response(status=204)

    async def _interrupt(self, _request: web.Request) -> web.Response:
        self.change(claimed=True)
        if self.state["execution_state"] == "dead":
            return web.json_response({"reason": "Conflict", "message": "it is dead"}, status=409)
        return web.Response(status=204)

    async def _restart(self, _request: web.Request) -> web.Response:
        if self.is_sidecar:
            answer = {"reason": "Not Implemented", "message": "it is in another container"}
            return web.json_response(answer, status=501)
        self.change(
            claimed=True,
            execution_state="idle",
            restarts=self.state["restarts"] + 1,
            reason=None,
            start=RESTART,
        )
        return web.json_response(self.state)

    async def _shutdown(self, _request: web.Request) -> web.Response:
        self.end()
        return web.Response(status=204)

    async def _put_culling(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        return web.Response(status=204)

    async def _put_annotations(self, request: web.Request) -> web.Response:
        present = self.state["annotations"]
        if request.headers.get("If-Match") != f'"{present["revision"]}"':
            return web.json_response(present, status=412)
        new = {"revision": present["revision"] + 1, "document": await request.json()}
        self.change(annotations=new)
        return web.json_response(new)
