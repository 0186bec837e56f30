"""Answers client requests in place of the kernel: one that has ended, or that does not answer."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Tuple

from kernel_agent.kernel.lifecycle import Lifecycle, Next, explain_failure
from kernel_agent.kernel.pending import (
    EXECUTE_REQUEST,
    PendingRequest,
    fail_request,
    read_request,
)
from kernel_agent.kernel.relay import Relay
from kernel_agent.wire.agent_messages import IOPUB_LOST, MessageFactory
from kernel_agent.wire.message import EMPTY, Message

INTERRUPTED = "The kernel was interrupted before it had run this, and gave no reply."


class Answers:
    """What clients get in place of the kernel's own replies.

    Attributes:
        kernel_info: content of the kernel's latest kernel_info reply.
    """

    def __init__(self, relay: Relay, factory: MessageFactory, lifecycle: Lifecycle) -> None:
        self._relay = relay
        self._factory = factory
        self._lifecycle = lifecycle
        self.kernel_info: Dict[str, Any] = {}

    def after_end(self, step: Next, *, is_requested: bool) -> List[Tuple[bytes, List[bytes]]]:
        """Answer the requests that the ended process had not finished.

        Args:
            step: the step that follows.
            is_requested: whether the end or restart was requested.

        Returns:
            Messages for the next process instead, each a channel and its parts.
        """
        for_next: List[Tuple[bytes, List[bytes]]] = []
        by = self._lifecycle.requested_by if is_requested or step is Next.END else ""
        ename, evalue = explain_failure(step, self._lifecycle.reason, requested_by=by)
        for request in self._relay.pending.pop_all():
            if step is Next.START and request.msg_type == "kernel_info_request":
                # front ends send it once, and give up at an error
                for_next.append((request.channel, [request.header, EMPTY, EMPTY, EMPTY]))
            else:
                self._fail(request, ename, evalue)
        return for_next

    def refuse(self, messages: List[Tuple[bytes, List[bytes]]], step: Next) -> None:
        """Answer messages that no process will receive."""
        ename, evalue = explain_failure(
            step, self._lifecycle.reason, requested_by=self._lifecycle.requested_by
        )
        for channel, parts in messages:
            request = read_request(Message(channel, parts))
            if request is not None:
                self._fail(request, ename, evalue)

    def after_interrupt(self, wake: Callable[[], None]) -> None:
        """Answer the requests that an interrupt ended before their code ran.

        ipykernel sends `idle` for them, but no reply.

        Args:
            wake: has this called again when the kernel has handled what it was sent on shell: an
                `idle` may come later than that, and sooner than the reply before it.
        """
        for request in self._relay.pending.pop_unreplied(wake):
            self._fail(request, "KeyboardInterrupt", INTERRUPTED)

    def after_iopub_loss(self) -> None:
        """Send a notice, and `idle`, in place of a kernel that runs on without its iopub socket."""
        for request in self._relay.pending.all():
            if request.msg_type == EXECUTE_REQUEST and not request.is_loss_reported:
                request.is_loss_reported = True
                self._relay.send_own([self._factory.stderr(IOPUB_LOST, request.header)])
            if not request.awaits_reply:
                self._relay.broadcast([self._factory.status("idle", request.header)])

    def _fail(self, request: PendingRequest, ename: str, evalue: str) -> None:
        if request.msg_type == "kernel_info_request" and self.kernel_info:
            # papermill asks after its last cell, and with an error forgets why that failed
            reply = self._factory.answer(
                request.channel, "kernel_info_reply", self.kernel_info, request.header
            )
            answers = [reply, self._factory.status("idle", request.header)]
        else:
            answers = fail_request(request, ename, evalue, self._factory)
        self._relay.send_own(answers)
