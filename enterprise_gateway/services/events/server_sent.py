"""Server-sent events: the text/event-stream of WHATWG HTML, section 9.2. Pure."""

from collections.abc import Iterable

from enterprise_gateway.services.events.bus import Entry

CONTENT_TYPE = "text/event-stream"
HEARTBEAT = b":\n\n"
"""A comment, which readers ignore."""
RETRY_MILLISECONDS = 2000
PREAMBLE = f"retry: {RETRY_MILLISECONDS}\n\n".encode()
"""How long a reader waits before it connects again."""


def encode_entries(entries: Iterable[Entry], lost: int) -> bytes:
    """Return events as a reader gets them.

    Args:
        entries: the events; their JSON has no line feed.
        lost: how many were dropped before them: told by an event `lost`, which has no id.
    """
    parts = [f'event: lost\ndata: {{"count":{lost}}}\n\n'.encode()] if lost else []
    parts += [
        b"id: %b\nevent: %b\ndata: %b\n\n" % (entry.id.encode(), entry.kind.encode(), entry.data)
        for entry in entries
    ]
    return b"".join(parts)
