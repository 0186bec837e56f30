"""A receiver of events that verifies them with the reference library of Standard Webhooks."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook as Verifier

KEY = bytes(range(32))
VERIFIER = Verifier(base64.b64encode(KEY).decode())


class Receiver:
    """Answers with the next of its statuses, then 204; keeps what it has taken."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.attempts: list[str] = []
        self.taken: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.silence = asyncio.Event()
        self.silence.set()

    async def handle(self, request: web.Request) -> web.Response:
        """Take an event."""
        body = await request.read()
        VERIFIER.verify(body, dict(request.headers))
        event = json.loads(body)
        assert request.headers["webhook-id"] == event["id"]
        self.attempts.append(event["id"])
        await self.silence.wait()
        status = self.statuses.pop(0) if self.statuses else 204
        if status < 300:
            self.taken.append(event["id"])
            self.events.append(event)
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Serve; yields the URL."""
        app = web.Application()
        app.add_routes([web.post("/hook", self.handle)])
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            yield f"http://{host}:{port}/hook"
        finally:
            await runner.cleanup()
