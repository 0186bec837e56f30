"""A raw client of the kernel WebSocket, in both codecs, sharing no code with the agent."""

import contextlib
import itertools
import json
import struct
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import websocket

V1_SUBPROTOCOL = "v1.kernel.websocket.jupyter.org"


class Codec(Enum):
    """How messages are framed on the WebSocket."""

    V1 = "v1"
    LEGACY = "legacy"


@dataclass(frozen=True)
class Message:
    """One Jupyter message, as it was on the wire."""

    channel: str
    header: dict[str, Any]
    parent_header: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    content: dict[str, Any] = field(default_factory=dict)
    buffers: tuple[bytes, ...] = ()

    @property
    def id(self) -> str:
        """The sender's id of the message."""
        return str(self.header["msg_id"])

    @property
    def type(self) -> str:
        """The message type."""
        return str(self.header["msg_type"])

    @property
    def parent_id(self) -> str:
        """The id of the request that it belongs to, "" if there is none."""
        return str(self.parent_header.get("msg_id", ""))


def encode_v1(message: Message) -> bytes:
    """Frame a message for `V1_SUBPROTOCOL`: little-endian 64-bit offsets, then the parts."""
    parts = [
        message.channel.encode(),
        *(
            json.dumps(part).encode()
            for part in (message.header, message.parent_header, message.metadata, message.content)
        ),
        *message.buffers,
    ]
    count = len(parts) + 1
    offsets = [8 * (count + 1)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return struct.pack(f"<{count + 1}Q", count, *offsets) + b"".join(parts)


def decode_v1(data: bytes) -> Message:
    """Read what `encode_v1` makes."""
    (count,) = struct.unpack_from("<Q", data)
    offsets = struct.unpack_from(f"<{count}Q", data, 8)
    assert offsets[-1] == len(data)
    parts = [data[start:end] for start, end in itertools.pairwise(offsets)]
    header, parent, metadata, content = (json.loads(part) for part in parts[1:5])
    return Message(parts[0].decode(), header, parent, metadata, content, tuple(parts[5:]))


def encode_legacy(message: Message) -> str | bytes:
    """Frame a message as JSON text; with buffers, as big-endian 32-bit offsets, JSON, buffers."""
    document = {
        "header": message.header,
        "parent_header": message.parent_header,
        "metadata": message.metadata,
        "content": message.content,
        "channel": message.channel,
    }
    if not message.buffers:
        return json.dumps({**document, "buffers": []})
    parts = [json.dumps(document).encode(), *message.buffers]
    offsets = [4 * (len(parts) + 1)]
    for part in parts[:-1]:
        offsets.append(offsets[-1] + len(part))
    return struct.pack(f"!{len(parts) + 1}I", len(parts), *offsets) + b"".join(parts)


def decode_legacy(data: str | bytes) -> Message:
    """Read what `encode_legacy` makes."""
    buffers: tuple[bytes, ...] = ()
    if isinstance(data, bytes):
        (count,) = struct.unpack_from("!I", data)
        offsets = [*struct.unpack_from(f"!{count}I", data, 4), len(data)]
        parts = [data[start:end] for start, end in itertools.pairwise(offsets)]
        data, buffers = parts[0].decode(), tuple(parts[1:])
    document = json.loads(data)
    return Message(
        document["channel"],
        document["header"],
        document["parent_header"],
        document["metadata"],
        document["content"],
        buffers,
    )


class Channels:
    """One WebSocket to a kernel. Everything that arrives is kept, in order, in `received`."""

    def __init__(
        self,
        url: str,
        *,
        token: str,
        session_id: str = "",
        codec: Codec = Codec.V1,
        headers: Sequence[str] = (),
    ) -> None:
        """Connect to `url` (`ws://…/api/kernels/<id>/channels`)."""
        self.session_id = session_id or uuid.uuid4().hex
        self.codec = codec
        self.received: list[Message] = []
        subprotocols = [V1_SUBPROTOCOL] if codec is Codec.V1 else None
        self.socket = websocket.create_connection(
            f"{url}?session_id={self.session_id}",
            timeout=60,
            header=[f"Authorization: token {token}", *headers],
            subprotocols=subprotocols,
            enable_multithread=True,
        )
        assert self.socket.getsubprotocol() == (V1_SUBPROTOCOL if subprotocols else None)

    def send(
        self,
        msg_type: str,
        content: dict[str, Any] | None = None,
        *,
        channel: str = "shell",
        buffers: Sequence[bytes] = (),
        parent_header: dict[str, Any] | None = None,
    ) -> str:
        """Send one message; returns its id."""
        header = {
            "msg_id": uuid.uuid4().hex,
            "msg_type": msg_type,
            "session": self.session_id,
            "username": "test",
            "date": datetime.now(UTC).isoformat(),
            "version": "5.4",
        }
        message = Message(channel, header, parent_header or {}, {}, content or {}, tuple(buffers))
        if self.codec is Codec.V1:
            self.socket.send_binary(encode_v1(message))
        else:
            data = encode_legacy(message)
            if isinstance(data, str):
                self.socket.send(data)
            else:
                self.socket.send_binary(data)
        return str(header["msg_id"])

    def receive(self, *, timeout: float = 60.0) -> Message:
        """Return the next message; pings are answered on the way."""
        self.socket.settimeout(timeout)
        data = self.socket.recv()
        if not data:
            raise ConnectionError("the server closed the WebSocket")
        if self.codec is Codec.V1:
            assert isinstance(data, bytes), "v1 knows no text frames"
            message = decode_v1(data)
        else:
            message = decode_legacy(data)
        self.received.append(message)
        return message

    def receive_until(
        self, condition: Callable[[Message], bool], *, timeout: float = 60.0
    ) -> Message:
        """Receive until a message fulfils the condition; `timeout` is for one message."""
        while True:
            message = self.receive(timeout=timeout)
            if condition(message):
                return message

    def receive_until_lost(self) -> None:
        """Receive all that is still coming, until the connection is gone; closes this end."""
        with contextlib.suppress(ConnectionError, websocket.WebSocketConnectionClosedException):
            while True:
                self.receive(timeout=30)
        self.close()

    def request(
        self, msg_type: str, content: dict[str, Any] | None = None, *, channel: str = "shell"
    ) -> Message:
        """Send a request and return its reply."""
        request_id = self.send(msg_type, content, channel=channel)
        return self.receive_until(
            lambda message: message.parent_id == request_id and message.type.endswith("_reply")
        )

    def start_execution(self, code: str, *, allow_stdin: bool = False) -> str:
        """Send an execute_request; returns its id."""
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": allow_stdin,
            "stop_on_error": True,
        }
        return self.send("execute_request", content)

    def finish_execution(self, request_id: str, *, timeout: float = 60.0) -> "Execution":
        """Receive until the reply and the idle status of an execution were seen."""
        execution = Execution(request_id)
        for message in self.received:
            execution.add(message)
        while not execution.is_complete:
            execution.add(self.receive(timeout=timeout))
        return execution

    def execute(self, code: str, *, timeout: float = 60.0) -> "Execution":
        """Run code and return everything that belongs to it."""
        return self.finish_execution(self.start_execution(code), timeout=timeout)

    def close(self) -> None:
        """Close the WebSocket."""
        self.socket.close()


class Execution:
    """The messages that answer one execute_request, repeats left out."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.messages: list[Message] = []
        self._ids: set[str] = set()

    def add(self, message: Message) -> None:
        """Take the message if it belongs here and is new."""
        if message.parent_id == self.request_id and message.id not in self._ids:
            self._ids.add(message.id)
            self.messages.append(message)

    @property
    def is_complete(self) -> bool:
        """Both the reply and the idle status are here."""
        return bool(self.of_type("execute_reply")) and any(
            message.content["execution_state"] == "idle" for message in self.of_type("status")
        )

    @property
    def status(self) -> str:
        """`status` of the reply: ok, error or aborted."""
        return str(self.of_type("execute_reply")[0].content["status"])

    @property
    def stdout(self) -> str:
        """What the code printed."""
        return "".join(
            message.content["text"]
            for message in self.of_type("stream")
            if message.content["name"] == "stdout"
        )

    @property
    def result(self) -> str:
        """The text form of the value, "" if there is none."""
        results = self.of_type("execute_result")
        return str(results[0].content["data"]["text/plain"]) if results else ""

    def of_type(self, msg_type: str) -> list[Message]:
        """Return the messages of one type."""
        return [message for message in self.messages if message.type == msg_type]


def join_streams(before: Sequence[Message], after: Sequence[Message]) -> list[Message]:
    """Join what a client got before and after a reconnection, and check that nothing was reordered.

    What came again must be exactly the tail of `before`, at the head of `after`.
    """
    ids_before = [message.id for message in before]
    known = set(ids_before)
    assert len(known) == len(ids_before), "repeated within one connection"
    ids_after = [message.id for message in after]
    assert len(set(ids_after)) == len(ids_after), "repeated within one connection"
    repeated = [each for each in ids_after if each in known]
    if repeated:
        assert ids_before[-len(repeated) :] == ids_after[: len(repeated)] == repeated
    return [*before, *after[len(repeated) :]]
