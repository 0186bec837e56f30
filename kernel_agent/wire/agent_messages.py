"""Messages that the agent makes itself: requests to the kernel, and notices to clients.

Messages to clients carry the kernel's own session id, since JupyterLab drops messages of a session
other than the one it saw last.
"""

from __future__ import annotations

import os
from datetime import datetime, timezone
from typing import Any, Dict, List, Mapping, Optional

from kernel_agent.wire.entries import Loss
from kernel_agent.wire.message import EMPTY, IOPUB, Message, encode_json, make_header, make_message

NO_BUFFERS = (
    "\n[Binary data was left out of a message: this client's connection to the gateway carries "
    "text only. Widgets and plots that use binary data (ipympl, images, arrays) stay empty here. "
    'See "Binary data" in the gateway\'s docs/clients.md for clients that show them.]\n'
)
SMALLER = (
    "Save the data to a file, or make the output smaller: a lower dpi, fewer points, fewer rows. "
    'See "Large messages" in the gateway\'s docs/clients.md.'
)
IOPUB_LOST = (
    "The kernel has closed its output channel (iopub): its output is lost. Restart the kernel.\n"
)


def timestamp(seconds: Optional[float] = None) -> str:
    """Return a time as Jupyter clients parse it: UTC, six digits of microseconds, `Z`.

    Args:
        seconds: since the epoch; None: now.
    """
    utc = timezone.utc
    moment = datetime.now(utc) if seconds is None else datetime.fromtimestamp(seconds, utc)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


class MessageFactory:
    """Makes messages with fresh ids.

    Attributes:
        own_session: session id of the agent's requests to the kernel.
        kernel_session: session id of the kernel process, known after its first reply.
    """

    def __init__(self) -> None:
        self.own_session = os.urandom(16).hex()
        self.kernel_session = self.own_session

    def request(self, msg_type: str, content: Mapping[str, Any]) -> List[bytes]:
        """Return the parts of a request to the kernel."""
        header = self._header(msg_type, self.own_session)
        return [encode_json(header), EMPTY, EMPTY, encode_json(content)]

    def status(self, execution_state: str, parent_header: bytes = EMPTY) -> Message:
        """Return a `status`; Jupyter servers send `restarting` and `dead` without a parent."""
        return self.answer(IOPUB, "status", {"execution_state": execution_state}, parent_header)

    def stderr(self, text: str, parent_header: bytes) -> Message:
        """Return a `stream` message that shows a text under the cell of the parent."""
        return self.answer(IOPUB, "stream", {"name": "stderr", "text": text}, parent_header)

    def answer(
        self, channel: bytes, msg_type: str, content: Mapping[str, Any], parent_header: bytes
    ) -> Message:
        """Return a message of the given type in the kernel's name."""
        header = self._header(msg_type, self.kernel_session)
        return make_message(channel, header, content, parent_header)

    def loss(self, loss: Loss) -> Message:
        """Return the notice that the log has dropped output before a client was sent it."""
        text = (
            f"\n[{loss.messages} output messages ({loss.payload_bytes} bytes) are missing here: "
            "the kernel's log was full, or they were too old for it, before they were sent.]\n"
        )
        return self.stderr(text, loss.parent_header)

    def missing_buffers(self, parent_header: bytes) -> Message:
        """Return the notice that a client gets messages without their buffers."""
        return self.stderr(NO_BUFFERS, parent_header)

    def too_large(self, message: Message, size: int, limit: int) -> Message:
        """Return the replacement of a message of `size` bytes that is over a client's limit.

        `limit` is an upper bound of that limit.
        """
        reason = f"the most that this client takes is {_in_mebibytes(limit)}"
        return self._replacement(message, size, reason)

    def not_allowed(self, message: Message, size: int, limit: int) -> Message:
        """Return the replacement of a message that is over the gateway's limit."""
        reason = f"the gateway allows {_in_mebibytes(limit)} (its setting max_output_bytes)"
        return self._replacement(message, size, reason)

    def lost_reply(self, reply: Message) -> Message:
        """Return the replacement of a reply that was too large to wait for its client."""
        return self._replacement(
            reply, reply.size, "the kernel's log was full before this client was sent it"
        )

    def _replacement(self, message: Message, size: int, reason: str) -> Message:
        text = f"A message of {_in_mebibytes(size)} was left out: {reason}. {SMALLER}"
        if message.channel == IOPUB:
            return self.stderr(f"\n[{text}]\n", message.parts[1])
        content = {"status": "error", "ename": "MessageTooLarge", "evalue": text, "traceback": []}
        return Message(message.channel, [*message.parts[:3], encode_json(content)])

    def _header(self, msg_type: str, session: str) -> Dict[str, str]:
        return make_header(msg_type, session, os.urandom(16).hex(), timestamp())


def _in_mebibytes(size: int) -> str:
    """Return a size in MiB and in bytes."""
    return f"{size / 2**20:.1f} MiB ({size:,} bytes)"
