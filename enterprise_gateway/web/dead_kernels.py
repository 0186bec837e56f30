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
from types import MappingProxyType
from typing import TypeAlias

import msgspec

from enterprise_gateway.services.kernels.agents.state import OpenRequest

V1_SUBPROTOCOL = "v1.kernel.websocket.jupyter.org"
ENAME = "KernelDied"
DEATH_SECONDS = 10.0
"""How long the news of a kernel's death may take if its agent does not answer any more."""
NO_INFO: Mapping[str, object] = MappingProxyType({})
Document: TypeAlias = dict[str, object]
"""A message in the form of clients that do not speak `V1_SUBPROTOCOL`."""

_REQUEST_SUFFIX = "_request"
_PARTS = ("header", "parent_header", "metadata", "content")


def explain_death(reason: str) -> str:
    """Return a sentence for users that says why a kernel died, and what they can do."""
    return f"{reason[:1].upper()}{reason[1:]}. Restart it to go on."


class DeadKernelAnswers:
    """Makes the messages for one client, in its form."""

    def __init__(
        self, explanation: str, *, is_v1: bool = False, kernel_info: Mapping[str, object] = NO_INFO
    ) -> None:
        """Prepare.

        Args:
            explanation: why there is no kernel.
            is_v1: whether the client speaks `V1_SUBPROTOCOL`.
            kernel_info: the content of its last kernel_info reply, {} if that is not known.
        """
        self._explanation = explanation
        self._is_v1 = is_v1
        self._kernel_info = kernel_info
        self._session = uuid.uuid4().hex

    def answer_left(
        self, requests: Iterable[OpenRequest], sent: Iterable[str | bytes] = ()
    ) -> list[str | bytes]:
        """Return the answers to requests that the kernel left.

        No status `dead` follows: JupyterLab would end its connection for good, and its "Restart
        Kernel…" then does nothing.

        Args:
            requests: those that its agent told of.
            sent: messages of the client that it may not have told of.
        """
        left = {_key(request): request for request in requests}
        for data in sent:
            request = read_request(data, is_v1=self._is_v1)
            if request is not None and _awaits_reply(request):
                left.setdefault(_key(request), request)
        return [
            self._encode(message) for request in left.values() for message in self.fail(request)
        ]

    def answer(self, data: str | bytes) -> list[str | bytes]:
        """Return the answers to a client's message; [] if it gets none."""
        request = read_request(data, is_v1=self._is_v1)
        if request is None:
            return []
        return [self._encode(message) for message in self.fail(request, " This was not run.")]

    def fail(self, request: OpenRequest, addition: str = "") -> list[Document]:
        """Return the answers to a request, as documents."""
        header = request.header
        msg_type = str(header.get("msg_type", ""))
        evalue = self._explanation + addition
        error = {"ename": ENAME, "evalue": evalue, "traceback": [f"{ENAME}: {evalue}"]}
        answers = []
        if msg_type == "execute_request":
            answers.append(self._message("iopub", "error", error, header))
        if _awaits_reply(request):
            reply = msg_type.removesuffix(_REQUEST_SUFFIX) + "_reply"
            content: Mapping[str, object] = {"status": "error", **error}
            if msg_type == "kernel_info_request" and self._kernel_info:
                # papermill asks after its last cell, and with an error forgets why that failed
                content = self._kernel_info
            answers.append(self._message(request.channel, reply, content, header))
        answers.append(self._message("iopub", "status", {"execution_state": "idle"}, header))
        return answers

    def _message(
        self,
        channel: str,
        msg_type: str,
        content: Mapping[str, object],
        parent: Mapping[str, object],
    ) -> Document:
        header = {
            "msg_id": uuid.uuid4().hex,
            "msg_type": msg_type,
            "session": self._session,
            "username": "",
            "date": datetime.now(UTC).isoformat(),
            "version": "5.3",
        }
        return {
            "header": header,
            "msg_id": header["msg_id"],
            "msg_type": msg_type,
            "parent_header": parent,
            "metadata": {},
            "content": content,
            "buffers": [],
            "channel": channel,
        }

    def _encode(self, message: Document) -> str | bytes:
        if not self._is_v1:
            return json.dumps(message)
        parts = [str(message["channel"]).encode()]
        parts += [json.dumps(message[name]).encode() for name in _PARTS]
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
            return _request(channel.decode(), msgspec.json.decode(header))
        if isinstance(data, bytes):
            count, start, end = struct.unpack_from("!3I", data)
            data = data[start : end if count > 1 else None].decode()
        document = msgspec.json.decode(data, type=dict[str, object])
        return _request(document.get("channel", "shell"), document["header"])
    except (msgspec.MsgspecError, ValueError, KeyError, struct.error, RecursionError):
        return None


def _request(channel: object, header: object) -> OpenRequest:
    return msgspec.convert({"channel": channel, "header": header}, OpenRequest)


def _key(request: OpenRequest) -> tuple[str, str]:
    return str(request.header.get("session")), str(request.header.get("msg_id"))


def _awaits_reply(request: OpenRequest) -> bool:
    return str(request.header.get("msg_type", "")).endswith(_REQUEST_SUFFIX)
