"""An asynchronous client of a kernel's WebSocket, in Jupyter's older form."""

import asyncio
import uuid
from typing import Any

import aiohttp

ANSWER_SECONDS = 60.0


class Channels:
    """A client of a kernel's WebSocket, in Jupyter's older form."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, session_id: str) -> None:
        self._socket = socket
        self._session_id = session_id

    async def send(self, channel: str, msg_type: str, content: dict[str, Any]) -> str:
        """Send a message; returns its id."""
        msg_id = str(uuid.uuid4())
        header = {
            "msg_id": msg_id,
            "msg_type": msg_type,
            "session": self._session_id,
            "username": "",
            "date": "2026-01-02T03:04:05Z",
            "version": "5.3",
        }
        await self._socket.send_json(
            {
                "channel": channel,
                "header": header,
                "parent_header": {},
                "metadata": {},
                "content": content,
                "buffers": [],
            }
        )
        return msg_id

    async def receive(self, msg_type: str, msg_id: str | None = None) -> dict[str, Any]:
        """Return the content of the next message of a type, as an answer to `msg_id` if given."""
        async with asyncio.timeout(ANSWER_SECONDS):
            while True:
                message = await self._socket.receive_json()
                parent = message["parent_header"].get("msg_id")
                if message["msg_type"] == msg_type and msg_id in {None, parent}:
                    content: dict[str, Any] = message["content"]
                    return content

    async def finish(self, msg_id: str) -> None:
        """Wait for both reply and idle status: before, a failed request aborts those behind it."""
        missing = {"execute_reply", "idle"}
        async with asyncio.timeout(ANSWER_SECONDS):
            while missing:
                message = await self._socket.receive_json()
                if message["parent_header"].get("msg_id") == msg_id:
                    missing.discard(message["msg_type"])
                    missing.discard(message["content"].get("execution_state"))

    async def run(self, code: str) -> str:
        """Send code; returns the message's id."""
        return await self.send("shell", "execute_request", {"code": code, "silent": False})

    async def evaluate(self, expression: str) -> str:
        """Return what an expression is in the kernel, as text."""
        msg_id = await self.run(expression)
        content = await self.receive("execute_result", msg_id)
        return str(content["data"]["text/plain"])
