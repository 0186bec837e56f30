"""What clients get from a kernel that died together with its agent. Pure.

An agent answers the requests that its kernel did not finish. If the agent is gone as well, as when
the container was killed, the gateway answers in its place: the only kernel messages that it makes.
"""

import json
import struct
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import pairwise

import msgspec

from enterprise_gateway.services.kernels.agents.state import OpenRequest

V1_SUBPROTOCOL = "v1.kernel.websocket.jupyter.org"
REQUEST_SUFFIX = "_request"
GOING_AWAY = 1001
"""Close code, RFC 6455 section 7.4.1."""
ENAME = "KernelDied"

_MAX_SHORT = 125
_FIN, _TEXT, _BINARY, _CLOSE = 0x80, 0x1, 0x2, 0x8


class DeadKernelAnswers:
    """Makes the messages for one client, in its form."""

    def __init__(self, reason: str, *, is_v1: bool) -> None:
        """Prepare.

        Args:
            reason: why the kernel died.
            is_v1: whether the client speaks `V1_SUBPROTOCOL`.
        """
        self._evalue = f"{reason[:1].upper()}{reason[1:]}. Restart it to go on."
        self._is_v1 = is_v1
        self._session = uuid.uuid4().hex

    def last_messages(self, requests: Iterable[OpenRequest]) -> list[str | bytes]:
        """Return the answers to requests that the kernel left, then the status `dead`."""
        answers = [message for request in requests for message in self._fail(request)]
        return [*answers, self._message("iopub", "status", {"execution_state": "dead"}, {})]

    def answer(self, data: str | bytes) -> list[str | bytes]:
        """Return the answers to a client's message; [] if it gets none."""
        request = read_request(data, is_v1=self._is_v1)
        return [] if request is None else self._fail(request, " This was not run.")

    def _fail(self, request: OpenRequest, addition: str = "") -> list[str | bytes]:
        header = request.header
        msg_type = str(header.get("msg_type", ""))
        evalue = self._evalue + addition
        error = {"ename": ENAME, "evalue": evalue, "traceback": [f"{ENAME}: {evalue}"]}
        answers = []
        if msg_type == "execute_request":
            answers.append(self._message("iopub", "error", error, header))
        if msg_type.endswith(REQUEST_SUFFIX):
            reply = msg_type.removesuffix(REQUEST_SUFFIX) + "_reply"
            content = {"status": "error", **error}
            answers.append(self._message(request.channel, reply, content, header))
        answers.append(self._message("iopub", "status", {"execution_state": "idle"}, header))
        return answers

    def _message(
        self,
        channel: str,
        msg_type: str,
        content: Mapping[str, object],
        parent: Mapping[str, object],
    ) -> str | bytes:
        header = {
            "msg_id": uuid.uuid4().hex,
            "msg_type": msg_type,
            "session": self._session,
            "username": "",
            "date": datetime.now(UTC).isoformat(),
            "version": "5.3",
        }
        if not self._is_v1:
            document: dict[str, object] = {
                "header": header,
                "msg_id": header["msg_id"],
                "msg_type": msg_type,
                "parent_header": parent,
                "metadata": {},
                "content": content,
                "buffers": [],
                "channel": channel,
            }
            return json.dumps(document)
        parts = [channel.encode()]
        parts += [json.dumps(part).encode() for part in (header, parent, {}, content)]
        offsets = [8 * (len(parts) + 2)]
        for part in parts:
            offsets.append(offsets[-1] + len(part))
        return b"".join([struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets), *parts])


def read_request(data: str | bytes, *, is_v1: bool) -> OpenRequest | None:
    """Return a client's request on shell or control; None if it is none, or malformed."""
    try:
        if is_v1 and isinstance(data, bytes):
            (count,) = struct.unpack_from("<Q", data)
            offsets = struct.unpack_from("<3Q", data, 8) if count >= 3 else ()
            channel, header = (data[start:end] for start, end in pairwise(offsets))
            return _request(channel.decode(), json.loads(header))
        if isinstance(data, bytes):
            count, start, end = struct.unpack_from("!3I", data)
            data = data[start : end if count > 1 else None].decode()
        document = json.loads(data)
        return _request(document["channel"], document["header"])
    except (ValueError, KeyError, TypeError, struct.error, RecursionError, msgspec.ValidationError):
        return None


def frame(data: str | bytes) -> bytes:
    """Return a message as a WebSocket frame of a server, RFC 6455 section 5.2."""
    payload, opcode = (data.encode(), _TEXT) if isinstance(data, str) else (data, _BINARY)
    size = len(payload)
    if size <= _MAX_SHORT:
        head = struct.pack("!BB", _FIN | opcode, size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", _FIN | opcode, 126, size)
    else:
        head = struct.pack("!BBQ", _FIN | opcode, 127, size)
    return head + payload


def close_frame() -> bytes:
    """Return a close frame without an explanation: the messages before it have one."""
    return struct.pack("!BBH", _FIN | _CLOSE, 2, GOING_AWAY)


def _request(channel: object, header: object) -> OpenRequest:
    return msgspec.convert({"channel": channel, "header": header}, OpenRequest)
