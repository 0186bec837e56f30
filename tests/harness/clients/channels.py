"""A client session of the kernel WebSocket, in both codecs."""

import contextlib
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

from jupyter_wire.frames import Opcode
from jupyter_wire.messages import (
    V1_SUBPROTOCOL,
    Codec,
    Message,
    decode_legacy,
    decode_v1,
    encode,
    execute_content,
    make_header,
)
from jupyter_wire.websocket import WebSocket

CONNECT_SECONDS = 120.0
RECEIVE_SECONDS = 120.0
"""How long a kernel may be silent: on a busy machine it starts within a minute."""


class Channels:
    """One WebSocket to a kernel. Everything that arrives is kept, in order, in `received`."""

    def __init__(
        self,
        url: str,
        *,
        token: str,
        session_id: str = "",
        is_anonymous: bool = False,
        replay: str = "",
        codec: Codec = Codec.V1,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Connect to `url` (`ws://…/api/kernels/<id>/channels`).

        Args:
            url: without a query.
            token: the client's.
            session_id: in the URL and in the header of each message; "" for a new one.
            is_anonymous: leaves it out of the URL, as older clients do.
            replay: the URL's parameter of that name, "" for none.
            codec: of both directions.
            headers: of the handshake, besides those of every client.
        """
        self.session_id = session_id or uuid.uuid4().hex
        named = {} if is_anonymous else {"session_id": self.session_id}
        query = urlencode(named | ({"replay": replay} if replay else {}))
        self.codec = codec
        self.received: list[Message] = []
        subprotocol = V1_SUBPROTOCOL if codec is Codec.V1 else ""
        parts = urlsplit(url)
        self.socket = WebSocket(
            parts.hostname or "",
            parts.port or 80,
            f"{parts.path}?{query}" if query else parts.path,
            {
                "Authorization": f"token {token}",
                # by this the agent knows a client that takes binary frames without the subprotocol
                "Origin": f"http://{parts.netloc}",
                **({"Sec-WebSocket-Protocol": subprotocol} if subprotocol else {}),
                **(headers or {}),
            },
            CONNECT_SECONDS,
            is_masked=True,
        )
        assert self.socket.subprotocol == subprotocol

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
        header = make_header(msg_type, self.session_id, "test")
        message = Message(channel, header, parent_header or {}, {}, content or {}, tuple(buffers))
        data = encode(message, self.codec)
        if isinstance(data, str):
            self.socket.send(data.encode(), Opcode.TEXT)
        else:
            self.socket.send(data, Opcode.BINARY)
        return message.id

    def receive(self, *, timeout: float = RECEIVE_SECONDS) -> Message:
        """Return the next message; pings are answered on the way.

        Raises:
            TimeoutError: none came.
            ConnectionError: the server has closed the WebSocket, or the connection is lost.
        """
        opcode, data = self.socket.receive(time.monotonic() + timeout)
        if self.codec is Codec.V1:
            assert opcode == Opcode.BINARY, "v1 knows no text frames"
            message = decode_v1(data)
        else:
            message = decode_legacy(data.decode() if opcode == Opcode.TEXT else data)
        self.received.append(message)
        return message

    def receive_until(
        self, condition: Callable[[Message], bool], *, timeout: float = RECEIVE_SECONDS
    ) -> Message:
        """Receive until a message fulfils the condition; `timeout` is for one message."""
        while True:
            message = self.receive(timeout=timeout)
            if condition(message):
                return message

    def receive_until_lost(self) -> None:
        """Receive all that is still coming, until the connection is gone; closes this end."""
        with contextlib.suppress(ConnectionError):
            while True:
                self.receive()
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
        content = execute_content(code, allow_stdin=allow_stdin)
        return self.send("execute_request", content)

    def finish_execution(self, request_id: str, *, timeout: float = RECEIVE_SECONDS) -> "Execution":
        """Receive until the reply and the idle status of an execution were seen."""
        execution = Execution(request_id)
        for message in self.received:
            execution.add(message)
        while not execution.is_complete:
            execution.add(self.receive(timeout=timeout))
        return execution

    def execute(self, code: str, *, timeout: float = RECEIVE_SECONDS) -> "Execution":
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

    The second connection begins with the kernel's state, which is left out. What came again must
    be exactly the tail of `before`, and come next.
    """
    if not after:
        return list(before)
    greeting, *rest = after
    assert greeting.type == "status"
    ids_before = [message.id for message in before]
    known = set(ids_before)
    assert len(known) == len(ids_before), "repeated within one connection"
    ids_after = [message.id for message in rest]
    assert len({greeting.id, *ids_after}) == len(after), "repeated within one connection"
    repeated = [each for each in ids_after if each in known]
    if repeated:
        assert ids_before[-len(repeated) :] == ids_after[: len(repeated)] == repeated
    return [*before, *rest[len(repeated) :]]
