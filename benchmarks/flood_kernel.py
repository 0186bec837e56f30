"""A kernel that does nothing but send iopub messages as fast as raw pyzmq can.

A real kernel spends 100 µs or more on a message, which hides what lies behind it. This one signs
its messages before the flood and blocks, rather than drops, when a reader is slow, so that the rate
measured is that of the path and every message counts. It speaks as much of the Jupyter protocol as
servers need to take it for a kernel. An execute_request carries in `code` the JSON object
`{"messages": n, "bytes": size, "marker": text}`: n messages of `size` bytes of text (`display_data`
from 64 KiB on, else `stream`), then a short one that holds `marker`. The `msg_id` of each message
ends in `_` and a number that grows by one, so that a reader sees order and gaps. It runs on its
own, not as part of the package.
"""

import hmac
import json
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias
from uuid import uuid4

import zmq

DELIMITER = b"<IDS|MSG>"
LARGE_BYTES = 64 * 1024
SEND_QUEUE_MESSAGES = 1000
LINGER_MILLISECONDS = 30_000

JsonObject: TypeAlias = dict[str, object]
ZmqSocket: TypeAlias = "zmq.Socket[bytes]"


def encode(value: JsonObject) -> bytes:
    """Compact UTF-8 JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


def echo(socket: ZmqSocket) -> None:
    """Send back what comes, until the context ends."""
    with suppress(zmq.ZMQError):
        zmq.proxy(socket, socket)


class FloodKernel:
    """The sockets of one kernel and what it answers."""

    def __init__(self, connection: dict[str, str | int], context: "zmq.Context[ZmqSocket]") -> None:
        self._key = str(connection["key"]).encode()
        self._session = uuid4().hex
        self._messages = 0
        self._address = f"{connection['transport']}://{connection['ip']}"
        self._context = context
        self._shell = self._bind(zmq.ROUTER, connection["shell_port"])
        self._control = self._bind(zmq.ROUTER, connection["control_port"])
        self._stdin = self._bind(zmq.ROUTER, connection["stdin_port"])
        self._iopub = self._bind(zmq.XPUB, connection["iopub_port"])
        heartbeat = self._bind(zmq.ROUTER, connection["hb_port"])
        threading.Thread(target=echo, args=(heartbeat,), daemon=True).start()

    def _bind(self, kind: int, port: str | int) -> ZmqSocket:
        socket = self._context.socket(kind)
        socket.linger = LINGER_MILLISECONDS
        if kind == zmq.XPUB:
            socket.sndhwm = SEND_QUEUE_MESSAGES
            socket.setsockopt(zmq.XPUB_NODROP, 1)
        socket.bind(f"{self._address}:{port}")
        return socket

    def serve(self) -> None:
        """Answer requests until a client asks for the end."""
        poller = zmq.Poller()
        poller.register(self._shell, zmq.POLLIN)
        poller.register(self._control, zmq.POLLIN)
        serving = True
        while serving:
            for socket, _ in poller.poll():
                serving = self._answer(socket, socket.recv_multipart()) and serving

    def _answer(self, socket: ZmqSocket, frames: list[bytes]) -> bool:
        start = frames.index(DELIMITER)
        parent = frames[start + 2]
        request: str = json.loads(parent)["msg_type"]
        self._publish("status", parent, {"execution_state": "busy"})
        content: JsonObject = {"status": "ok"}
        if request == "kernel_info_request":
            content |= {
                "protocol_version": "5.3",
                "implementation": "flood",
                "implementation_version": "1",
                "language_info": {
                    "name": "flood",
                    "version": "1",
                    "mimetype": "",
                    "file_extension": "",
                },
                "banner": "",
            }
        elif request == "execute_request":
            order = json.loads(json.loads(frames[start + 5])["code"])
            self._flood(parent, order["messages"], order["bytes"], order["marker"])
            content |= {"execution_count": 1, "user_expressions": {}}
        elif request == "shutdown_request":
            content |= {"restart": False}
        reply = self._message(request.replace("_request", "_reply"), parent, encode(content))
        socket.send_multipart([*frames[:start], *reply])
        self._publish("status", parent, {"execution_state": "idle"})
        return request != "shutdown_request"

    def _flood(self, parent: bytes, messages: int, text_bytes: int, marker: str) -> None:
        large = text_bytes >= LARGE_BYTES
        kind = "display_data" if large else "stream"
        text = "x" * text_bytes
        content = encode(
            {"data": {"text/plain": text}, "metadata": {}, "transient": {}}
            if large
            else {"name": "stdout", "text": text}
        )
        topic = kind.encode()
        signed = [self._message(kind, parent, content) for _ in range(messages)]
        send = self._iopub.send_multipart
        for message in signed:
            send([topic, *message], copy=not large)
        self._publish("stream", parent, {"name": "stdout", "text": marker})

    def _publish(self, kind: str, parent: bytes, content: JsonObject) -> None:
        self._iopub.send_multipart([kind.encode(), *self._message(kind, parent, encode(content))])

    def _message(self, kind: str, parent: bytes, content: bytes) -> list[bytes]:
        self._messages += 1
        header = encode(
            {
                "msg_id": f"{self._session}_{self._messages}",
                "msg_type": kind,
                "session": self._session,
                "username": "flood",
                "date": datetime.now(UTC).isoformat(),
                "version": "5.3",
            }
        )
        parts = [header, parent, b"{}", content]
        signature = hmac.digest(self._key, b"".join(parts), "sha256").hex().encode()
        return [DELIMITER, signature, *parts]


def main() -> None:
    """Serve the connection file that is the last argument."""
    connection = json.loads(Path(sys.argv[-1]).read_text(encoding="utf-8"))
    with zmq.Context() as context:
        FloodKernel(connection, context).serve()
        context.destroy(linger=LINGER_MILLISECONDS)


if __name__ == "__main__":
    main()
