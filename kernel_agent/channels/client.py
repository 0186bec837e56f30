"""The agent as a client of one kernel process: its own requests, and the readiness barrier.

A kernel is ready when it has answered kernel_info on shell and on control and a message arrived on
iopub: a subscription that is not yet live would lose the first output of the first request. Kernels
that answer only shutdown_request on control (IRkernel) are ready without that answer.
"""

from __future__ import annotations

import asyncio
from typing import Any, Callable, Dict, List, Optional, Sequence

from kernel_agent.channels.channels import KernelChannels
from kernel_agent.launch.connection_info import ConnectionInfo
from kernel_agent.launch.output_queue import queue_code
from kernel_agent.wire.agent_messages import MessageFactory
from kernel_agent.wire.backlog import Backlog
from kernel_agent.wire.message import CONTROL, IOPUB, SHELL, Message

SHELL_RETRY_SECONDS = 1.0
"""Interval of kernel_info requests on shell; one that is sent too early may get lost."""
RETRY_SECONDS = 0.1
"""Interval of kernel_info requests while control, or only iopub, is silent; each request makes the
kernel publish a status."""
CONTROL_GRACE_SECONDS = 0.25
"""How long to wait for an answer on control after that on shell. Kernels that answer there do so at
once, whatever version of the protocol they claim."""
STUCK_SECONDS = 1.0
"""How long a kernel may take to end after its shutdown_reply, before it is woken. ipykernel 7 may
hang for seconds if a message arrives on shell while it ends."""


class KernelClient:
    """A client of one kernel process.

    Attributes:
        channels: its sockets.
        ready: done when the kernel is ready.
        kernel_info: content of its latest kernel_info reply.
    """

    def __init__(
        self,
        info: ConnectionInfo,
        factory: MessageFactory,
        backlog: Backlog,
        *,
        on_iopub: Callable[[List[Message]], None],
        on_reply: Callable[[Message], None],
        on_woken: Callable[[Callable[[], None]], None],
    ) -> None:
        """Connect and start to request kernel_info.

        Args:
            info: address and key of the process.
            factory: makes the agent's requests.
            backlog: counts messages that the kernel does not take.
            on_iopub: called with batches of iopub messages, without statuses of own requests.
            on_reply: called with every reply and input request for a client.
            on_woken: called, with `wake`, when the kernel has answered the latest `wake`, and so
                has handled what it was sent on shell before.
        """
        self._factory = factory
        self._on_iopub = on_iopub
        self._on_reply = on_reply
        self._on_woken = on_woken
        self._wake_id = ""
        self._loop = asyncio.get_running_loop()
        self._awaited = {SHELL, CONTROL, IOPUB}
        self._control_deadline = 0.0
        self._own_session = factory.own_session.encode()
        self.kernel_info: Dict[str, Any] = {}
        self.ready: "asyncio.Future[None]" = self._loop.create_future()
        self.channels = KernelChannels(info, self._on_messages, backlog)
        self._timer: Optional[asyncio.TimerHandle] = None
        self._poll()

    @property
    def is_ready(self) -> bool:
        """Whether clients' messages may go to the kernel."""
        return self.ready.done()

    def request(self, channel: bytes, msg_type: str, **content: object) -> str:
        """Send a request of the agent's own; clients do not see its reply and status.

        Returns:
            Its id.
        """
        parts = self._factory.request(msg_type, content)
        self.channels.send(channel, parts)
        return Message(channel, parts).msg_id

    def send(self, channel: bytes, parts: Sequence[bytes]) -> None:
        """Send a client's message."""
        self.channels.send(channel, parts)

    def execute_silently(self, code: str) -> None:
        """Send code that takes effect before any message of a client that is sent after it."""
        self.request(SHELL, "execute_request", code=code, silent=True, store_history=False)

    def interrupt(self) -> None:
        """Send an interrupt_request."""
        self.request(CONTROL, "interrupt_request")

    def wake(self) -> None:
        """Send a request that wakes the kernel's event loop.

        During an `await` ipykernel handles a signal only when a shell message arrives after it. On
        a shutdown_request it stops its main loop, which may take half a minute to wake if the
        process has a zombie child, such as the listener of a launcher.
        """
        self._wake_id = self.request(SHELL, "kernel_info_request")

    def _wake_later(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(STUCK_SECONDS, self.wake)

    def close(self) -> None:
        """Close the sockets and stop polling."""
        if self._timer is not None:
            self._timer.cancel()
        self.channels.close()

    def _poll(self) -> None:
        """Request kernel_info until the kernel is ready: on shell, then on control.

        ipykernel 6 fails on a control request that arrives before it listens on shell.
        """
        if self._timer is not None:
            self._timer.cancel()
        if self.ready.done():
            return
        if SHELL in self._awaited:
            self._request_kernel_info(SHELL, SHELL_RETRY_SECONDS)
        elif CONTROL in self._awaited and self._loop.time() < self._control_deadline:
            self._request_kernel_info(CONTROL, RETRY_SECONDS)
        else:
            self._mark_alive(CONTROL)
            if not self.ready.done():
                self._request_kernel_info(SHELL, RETRY_SECONDS)

    def _request_kernel_info(self, channel: bytes, interval: float) -> None:
        self.request(channel, "kernel_info_request")
        self._timer = self._loop.call_later(interval, self._poll)

    def _on_messages(self, messages: List[Message]) -> None:
        if messages[0].channel == IOPUB:
            if IOPUB in self._awaited:
                self._mark_alive(IOPUB)
            own = self._own_session
            others = [
                message
                for message in messages
                if own not in message.parts[1] or message.msg_type != "status"
            ]
            if others:
                self._on_iopub(others)
            return
        for message in messages:
            if message.channel == CONTROL and message.msg_type == "shutdown_reply":
                self._wake_later()
            if message.parent_session != self._factory.own_session:
                self._on_reply(message)
            elif message.msg_type == "kernel_info_reply":
                self.kernel_info = message.content()
                self._factory.kernel_session = message.session
                self._mark_alive(message.channel)
                if message.parent_id == self._wake_id:
                    self._on_woken(self.wake)
            elif message.msg_type == "interrupt_reply":
                # The kernel signals itself just before this reply.
                self.wake()

    def _mark_alive(self, channel: bytes) -> None:
        if channel not in self._awaited:
            return
        self._awaited.discard(channel)
        if not self._awaited:
            code = queue_code(self.kernel_info)
            if code:
                self.execute_silently(code)
            self.ready.set_result(None)
        elif channel == SHELL:
            self._control_deadline = self._loop.time() + CONTROL_GRACE_SECONDS
            self._poll()
