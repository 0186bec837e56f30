"""The agent as a client of one kernel process: its own requests, and the readiness barrier.

A kernel is ready when it has answered kernel_info on shell and on control and something arrived on
iopub: a subscription that is not yet live would lose the first output of the first request. Kernels
that know nothing on control but shutdown_request (IRkernel) are ready without that.
"""

from __future__ import annotations

import asyncio
from typing import Any, Callable, Dict, List, Optional, Sequence

import zmq

from kernel_agent.backlog import Backlog
from kernel_agent.channels import KernelChannels
from kernel_agent.connection_file import ConnectionInfo
from kernel_agent.message import CONTROL, IOPUB, SHELL, Message
from kernel_agent.notices import MessageFactory

SHELL_RETRY_INTERVAL = 1.0
"""Seconds between kernel_info requests on shell; one that comes too early may get lost."""
RETRY_INTERVAL = 0.1
"""Seconds between kernel_info requests while control, or only iopub, is silent: each makes the
kernel publish a status."""
CONTROL_PATIENCE = 0.25
"""Seconds after the answer on shell for which control is waited for. Kernels that answer there do
so at once, whatever version of the protocol they claim; what comes later finds them ready."""


class KernelLink:
    """Talks to one kernel process.

    Attributes:
        channels: its sockets.
        ready: done when the kernel is ready.
        kernel_info: content of its latest kernel_info reply.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        info: ConnectionInfo,
        factory: MessageFactory,
        backlog: Backlog,
        *,
        on_iopub: Callable[[List[Message]], None],
        on_reply: Callable[[Message], None],
    ) -> None:
        """Connect and begin to ask for kernel_info.

        Args:
            context: where the sockets are made.
            info: how to reach the process.
            factory: makes the agent's requests.
            backlog: counts what the kernel does not take.
            on_iopub: gets iopub messages, in batches, but for the status of the agent's requests.
            on_reply: gets everything else that is not an answer to the agent.
        """
        self._factory = factory
        self._on_iopub = on_iopub
        self._on_reply = on_reply
        self._loop = asyncio.get_running_loop()
        self._awaited = {SHELL, CONTROL, IOPUB}
        self._control_deadline = 0.0
        self._own_session = factory.own_session.encode()
        self.kernel_info: Dict[str, Any] = {}
        self.ready: "asyncio.Future[None]" = self._loop.create_future()
        self.channels = KernelChannels(context, info, self._on_messages, backlog)
        self._timer: Optional[asyncio.TimerHandle] = None
        self._ask()

    @property
    def is_ready(self) -> bool:
        """Whether clients' messages may go to the kernel."""
        return self.ready.done()

    def request(self, channel: bytes, msg_type: str, **content: object) -> None:
        """Send a request of the agent's own; its reply and status stay with the agent."""
        self.channels.send(channel, self._factory.request(msg_type, content))

    def send(self, channel: bytes, parts: Sequence[bytes]) -> None:
        """Send a client's message."""
        self.channels.send(channel, parts)

    def interrupt(self) -> None:
        """Interrupt what the kernel does, with a message."""
        self.request(CONTROL, "interrupt_request")

    def wake(self) -> None:
        """Have the kernel take note of the signal that it was sent.

        During an `await` ipykernel does so only when a shell message arrives after the signal.
        """
        self.request(SHELL, "kernel_info_request")

    def close(self) -> None:
        """Close the sockets and stop asking."""
        if self._timer is not None:
            self._timer.cancel()
        self.channels.close()

    def _ask(self) -> None:
        """Ask until the kernel is ready: on shell, and when that answers on control.

        ipykernel 6 fails on a request on control that comes before it listens on shell.
        """
        if self._timer is not None:
            self._timer.cancel()
        if self.ready.done():
            return
        if SHELL in self._awaited:
            self._ask_on(SHELL, SHELL_RETRY_INTERVAL)
        elif CONTROL in self._awaited and self._loop.time() < self._control_deadline:
            self._ask_on(CONTROL, RETRY_INTERVAL)
        else:
            self._note_alive(CONTROL)
            if not self.ready.done():
                self._ask_on(SHELL, RETRY_INTERVAL)

    def _ask_on(self, channel: bytes, interval: float) -> None:
        self.request(channel, "kernel_info_request")
        self._timer = self._loop.call_later(interval, self._ask)

    def _on_messages(self, messages: List[Message]) -> None:
        if messages[0].channel == IOPUB:
            if IOPUB in self._awaited:
                self._note_alive(IOPUB)
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
            if message.parent_session != self._factory.own_session:
                self._on_reply(message)
            elif message.msg_type == "kernel_info_reply":
                self.kernel_info = message.content()
                self._factory.kernel_session = message.session
                self._note_alive(message.channel)
            elif message.msg_type == "interrupt_reply":
                # Only now has the kernel signalled itself.
                self.wake()

    def _note_alive(self, channel: bytes) -> None:
        if channel not in self._awaited:
            return
        self._awaited.discard(channel)
        if not self._awaited:
            self.ready.set_result(None)
        elif channel == SHELL:
            self._control_deadline = self._loop.time() + CONTROL_PATIENCE
            self._ask()
