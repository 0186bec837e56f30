"""Client requests that the kernel has not finished; the agent answers them if the kernel ends.

A request is finished when its reply and the `idle` status for it have passed; a message that has no
reply, such as comm_msg, when its `idle` has.
https://jupyter-client.readthedocs.io/en/stable/messaging.html#messages-on-the-shell-router-dealer-channel

Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Callable, Dict, List, Optional, Tuple

from kernel_agent.kernel.activity import Running
from kernel_agent.wire.agent_messages import MessageFactory
from kernel_agent.wire.message import CONTROL, IOPUB, SHELL, Message, decode_object

MAX_BYTES = 4 * 1024 * 1024
"""Limit of all requests kept; above it messages without a reply are dropped first, then the oldest
requests. A widget that is moved while a cell runs sends thousands, and kernels leave some requests
unanswered."""
OVERHEAD_BYTES = 512
MAX_DESCRIBED = 128
MAX_DESCRIBED_BYTES = 2048
"""How many requests the state document has, and how large their headers may be."""
EXECUTE_REQUEST = "execute_request"
REQUEST_SUFFIX = "_request"
SHUTDOWN_REQUEST = "shutdown_request"
"""Is answered with success: the process has ended."""


class PendingRequest:
    """One client request.

    Attributes:
        channel: `SHELL` or `CONTROL`.
        header: as the client sent it.
        msg_type: the header's.
        awaits_reply: whether its reply is due.
        awaits_idle: whether its `idle` status is due.
        is_begun: whether the kernel reported that it is running it.
        execution_count: number of the execution, once the kernel reported it.
        is_restart: whether it is a shutdown_request for a restart.
        is_loss_reported: whether the client was sent a notice that output is lost.
        on_idle: is called when its `idle` has passed and its reply has not.
    """

    __slots__ = (
        "awaits_idle",
        "awaits_reply",
        "channel",
        "execution_count",
        "header",
        "is_begun",
        "is_loss_reported",
        "is_restart",
        "msg_type",
        "on_idle",
    )

    def __init__(self, channel: bytes, header: bytes, msg_type: str) -> None:
        self.channel = channel
        self.header = header
        self.msg_type = msg_type
        self.awaits_reply = msg_type.endswith(REQUEST_SUFFIX)
        self.awaits_idle = True
        self.is_begun = False
        self.is_loss_reported = False
        self.is_restart = False
        self.execution_count: Optional[int] = None
        self.on_idle: Optional[Callable[[], None]] = None

    @property
    def size(self) -> int:
        """Its approximate size in bytes."""
        return len(self.header) + OVERHEAD_BYTES


class PendingRequests:
    """All requests that one kernel process has not finished, in the order in which they came."""

    def __init__(self) -> None:
        self._requests: "OrderedDict[Tuple[str, str], PendingRequest]" = OrderedDict()
        self._silent: "OrderedDict[Tuple[str, str], PendingRequest]" = OrderedDict()
        """Those without a reply."""
        self._size = 0

    def add(self, message: Message) -> None:
        """Add a client's message if it is a request."""
        request = read_request(message)
        if request is None:
            return
        key = (message.session, message.msg_id)
        self._remove(key)
        (self._requests if request.awaits_reply else self._silent)[key] = request
        self._size += request.size
        while self._size > MAX_BYTES:
            self._remove(next(iter(self._silent or self._requests)))

    def record_reply(self, reply: Message) -> None:
        """Record a message of the kernel on shell, control or stdin."""
        key = _parent_key(reply)
        request = self._requests.get(key)
        if request is not None and reply.channel == request.channel:
            request.awaits_reply = False
            self._finish(key, request)

    def record_iopub(self, message: Message) -> None:
        """Record a `status` or an `execute_input`."""
        key = _parent_key(message)
        request = self._requests.get(key) or self._silent.get(key)
        if request is None:
            return
        content = message.content()
        request.is_begun = True
        if content.get("execution_state") == "idle":
            request.awaits_idle = False
            self._finish(key, request)
            if request.awaits_reply and request.on_idle is not None:
                request.on_idle()
        count = content.get("execution_count")
        if isinstance(count, int):
            request.execution_count = count

    @property
    def running(self) -> Optional[Running]:
        """The oldest request on shell without a reply: the kernel runs it, whatever it reports."""
        for (_, msg_id), request in self._requests.items():
            if request.awaits_reply and request.channel == SHELL:
                return Running(msg_id, request.header)
        return None

    def all(self) -> List[PendingRequest]:
        """Return all requests, oldest first, then the messages without a reply."""
        return [*self._requests.values(), *self._silent.values()]

    def describe(self) -> List[Dict[str, Any]]:
        """Return the oldest requests without a reply, as the state document has them."""
        described: List[Dict[str, Any]] = []
        for request in self._requests.values():
            if request.awaits_reply and len(request.header) <= MAX_DESCRIBED_BYTES:
                header = decode_object(request.header)
                described.append({"channel": request.channel.decode(), "header": header})
            if len(described) == MAX_DESCRIBED:
                break
        return described

    def pop_unreplied(self, on_idle: Callable[[], None]) -> List[PendingRequest]:
        """Remove and return the requests on the main shell whose `idle` passed without a reply.

        Args:
            on_idle: is called when that becomes true of another one, whose `idle` is on its way.
        """
        unreplied: List[PendingRequest] = []
        for key, request in list(self._requests.items()):
            is_subshell = bool((decode_object(request.header) or {}).get("subshell_id"))
            if request.channel != SHELL or not request.awaits_reply or is_subshell:
                continue
            if request.awaits_idle:
                request.on_idle = on_idle
            else:
                self._remove(key)
                unreplied.append(request)
        return unreplied

    def pop_all(self) -> List[PendingRequest]:
        """Remove and return all requests, which the caller answers."""
        requests = self.all()
        self._requests.clear()
        self._silent.clear()
        self._size = 0
        for request in requests:
            if request.awaits_reply and request.msg_type == EXECUTE_REQUEST:
                # a process that ended at once may have had no time to send its status
                request.is_begun = True
                break
        return requests

    def _finish(self, key: Tuple[str, str], request: PendingRequest) -> None:
        if not (request.awaits_reply or request.awaits_idle):
            self._remove(key)

    def _remove(self, key: Tuple[str, str]) -> None:
        request = self._requests.pop(key, None) or self._silent.pop(key, None)
        if request is not None:
            self._size -= request.size


def read_request(message: Message) -> Optional[PendingRequest]:
    """Return a client's message as a request; None if it gets no answer."""
    if message.channel not in (SHELL, CONTROL):
        return None
    request = PendingRequest(message.channel, message.parts[0], message.msg_type)
    if request.msg_type == SHUTDOWN_REQUEST:
        request.is_restart = bool(message.content().get("restart"))
    return request


def fail_request(
    request: PendingRequest, ename: str, evalue: str, factory: MessageFactory
) -> List[Message]:
    """Return the messages that a request still awaits, as a failure.

    As from a kernel: an `error` output if it is an execute_request, the reply, and `idle`. A
    request that was not run fails like one that was, not as `aborted`: nbclient and papermill take
    any status but `error` for success.
    """
    answers: List[Message] = []
    if request.msg_type == EXECUTE_REQUEST and not request.is_begun:
        evalue += " This was not run."
    if request.awaits_reply:
        error = {"ename": ename, "evalue": evalue, "traceback": [f"{ename}: {evalue}"]}
        reply: Dict[str, Any] = {"status": "error", **error}
        if request.msg_type == EXECUTE_REQUEST:
            reply["execution_count"] = request.execution_count
            answers.append(factory.answer(IOPUB, "error", error, request.header))
        elif request.msg_type == SHUTDOWN_REQUEST:
            reply = {"status": "ok", "restart": request.is_restart}
        msg_type = request.msg_type[: -len(REQUEST_SUFFIX)] + "_reply"
        answers.append(factory.answer(request.channel, msg_type, reply, request.header))
    if request.awaits_idle:
        answers.append(factory.status("idle", request.header))
    return answers


def _parent_key(message: Message) -> Tuple[str, str]:
    return message.parent_session, message.parent_id
