"""Messages that the agent makes itself: requests to the kernel, and what it tells clients.

What clients get carries the kernel's own session id: JupyterLab drops messages of a session other
than the one it saw last.
"""

from __future__ import annotations

import os
from datetime import datetime, timezone
from typing import Any, Dict, List, Mapping

from kernel_agent.message import EMPTY, IOPUB, Message, encode_json, make_header, make_message
from kernel_agent.outbox import Loss


def timestamp() -> str:
    """Return the time as Jupyter clients parse it: UTC, always six digits of microseconds, `Z`."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class MessageFactory:
    """Makes messages with fresh ids.

    Attributes:
        own_session: session id of the agent's requests to the kernel.
        kernel_session: session id of the kernel process, known once it spoke.
    """

    def __init__(self) -> None:
        self.own_session = os.urandom(16).hex()
        self.kernel_session = self.own_session

    def request(self, msg_type: str, content: Mapping[str, Any]) -> List[bytes]:
        """Return the parts of a request to the kernel."""
        header = self._header(msg_type, self.own_session)
        return [encode_json(header), EMPTY, EMPTY, encode_json(content)]

    def status(self, execution_state: str) -> Message:
        """Return a `status` without a parent, as Jupyter servers send for `restarting`, `dead`."""
        header = self._header("status", self.kernel_session)
        return make_message(IOPUB, header, {"execution_state": execution_state})

    def stderr(self, text: str, parent_header: bytes) -> Message:
        """Return a `stream` message that shows a text below the cell of the parent."""
        header = self._header("stream", self.kernel_session)
        return make_message(IOPUB, header, {"name": "stderr", "text": text}, parent_header)

    def loss(self, loss: Loss) -> Message:
        """Return the notice of what a full outbox dropped."""
        text = (
            f"\n[{loss.messages} output messages ({loss.payload_bytes} bytes) were dropped here: "
            "this client reads more slowly than the kernel writes.]\n"
        )
        return self.stderr(text, loss.parent_header)

    def replacement(self, message: Message, size: int) -> Message:
        """Return what a peer gets in place of a message of `size` bytes that it could not take."""
        text = f"a message of {size} bytes was left out: it exceeds what this client can receive"
        if message.channel == IOPUB:
            return self.stderr(f"\n[{text}]\n", message.parts[1])
        content = {"status": "error", "ename": "MessageTooLarge", "evalue": text, "traceback": []}
        return Message(message.channel, [*message.parts[:3], encode_json(content)])

    def _header(self, msg_type: str, session: str) -> Dict[str, str]:
        return make_header(msg_type, session, os.urandom(16).hex(), timestamp())
