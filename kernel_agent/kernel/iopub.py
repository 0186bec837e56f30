"""Filters of messages to clients: rate limits and hidden tracebacks.

Pure: the caller passes the time. Both are off by default, and then cost nothing.
"""

from __future__ import annotations

from collections import deque
from typing import Deque, Optional, Tuple

from kernel_agent.wire.message import SHELL, Message, encode_json

WINDOW_SECONDS = 3.0
"""Period over which rates are measured, as in jupyter_server."""
RESUME_FRACTION = 0.8
"""Messages pass again when the rate has fallen to this fraction of the limit."""
EXEMPT_TYPES = frozenset({"status", "comm_open", "execute_input", "iopub_welcome"})


def hide_traceback(message: Message, text: str) -> Message:
    """Return the message with its traceback, if it has one, replaced by `text`.

    The same exception is in the `error` output and in the reply; both are replaced.
    """
    if message.channel == SHELL:
        is_error = b'"traceback"' in message.parts[3] and message.msg_type.endswith("_reply")
    else:
        is_error = message.msg_type == "error"
    if not is_error:
        return message
    content = message.content()
    hidden = {"ename": "ExecutionError", "evalue": "Execution error", "traceback": [text]}
    parts = [*message.parts[:3], encode_json({**content, **hidden}), *message.buffers]
    return Message(message.channel, parts)


class RateLimiter:
    """Drops output above a rate. A limit of 0 means no limit."""

    def __init__(self, max_messages: float, max_bytes: float) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._recent: Deque[Tuple[float, int]] = deque()
        self._recent_bytes = 0
        self._is_limiting = False

    def admit(self, message: Message, now: float) -> Tuple[bool, Optional[str]]:
        """Return whether a message passes, and a notice to clients when dropping starts.

        As in jupyter_server, bytes count for `stream` only and some types always pass.
        """
        msg_type = message.msg_type
        if msg_type in EXEMPT_TYPES:
            return True, None
        while self._recent and self._recent[0][0] <= now - WINDOW_SECONDS:
            self._recent_bytes -= self._recent.popleft()[1]
        size = sum(map(len, message.parts)) if msg_type == "stream" else 0
        fraction = RESUME_FRACTION if self._is_limiting else 1.0
        exceeded = self._exceeded(size, fraction)
        was_limiting, self._is_limiting = self._is_limiting, exceeded is not None
        if exceeded is None:
            self._recent.append((now, size))
            self._recent_bytes += size
            return True, None
        return False, None if was_limiting else f"\n[{exceeded}: output is being dropped]\n"

    def _exceeded(self, size: int, fraction: float) -> Optional[str]:
        if (
            self._max_messages
            and len(self._recent) + 1 > self._max_messages * WINDOW_SECONDS * fraction
        ):
            return f"more than {self._max_messages:g} messages a second"
        if (
            self._max_bytes
            and self._recent_bytes + size > self._max_bytes * WINDOW_SECONDS * fraction
        ):
            return f"more than {self._max_bytes:g} bytes a second"
        return None
