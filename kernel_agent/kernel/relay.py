"""The way from the kernel's channels to its log: filters and back-pressure."""

from __future__ import annotations

import asyncio
from typing import Callable, List, Optional

from kernel_agent.channels.channels import KernelChannels
from kernel_agent.kernel.activity import Activity
from kernel_agent.kernel.iopub import RateLimiter, hide_traceback
from kernel_agent.kernel.pending import PendingRequests
from kernel_agent.settings import AgentSettings
from kernel_agent.wire.agent_messages import MessageFactory
from kernel_agent.wire.client_sessions import ClientSessions
from kernel_agent.wire.message import IOPUB, Message

MAX_PAUSE_SECONDS = 0.5
"""How long a burst waits for slow clients; after that it goes on."""


class Relay:
    """Delivers the kernel's messages to the clients, and tracks the kernel's activity by them.

    While no connected client keeps up with large messages, reading iopub is paused, so that a burst
    waits in the kernel instead of going to the spill, or being dropped. Pauses are short, since the
    log does not count messages that wait there.

    Attributes:
        activity: the requests that the current process is running.
        pending: the client requests that it has not finished.
    """

    def __init__(
        self,
        settings: AgentSettings,
        sessions: ClientSessions,
        factory: MessageFactory,
        on_activity: Callable[[], None],
        on_change: Callable[[], None],
    ) -> None:
        """Prepare; `attach` starts it.

        Args:
            settings: the filters' settings.
            sessions: the clients.
            factory: makes the notices of the rate limits.
            on_activity: called when iopub messages show activity for a user.
            on_change: called when what the kernel runs, or `pending`, may have changed.
        """
        self.activity = Activity()
        self.pending = PendingRequests()
        self._on_activity = on_activity
        self._on_change = on_change
        self._sessions = sessions
        self._factory = factory
        self._loop = asyncio.get_running_loop()
        self._hidden = "" if settings.allow_tracebacks else settings.traceback_replacement_message
        limits = (settings.iopub_msg_rate_limit, settings.iopub_data_rate_limit)
        self._limiter = RateLimiter(*limits) if any(limits) else None
        self._channels: Optional[KernelChannels] = None
        self._pause: Optional[asyncio.TimerHandle] = None
        self._is_catching_up = False
        sessions.subscribe(self._relieve)

    def reset_activity(self) -> None:
        """Forget the running requests of the former process."""
        self.activity = Activity()

    def attach(self, channels: KernelChannels) -> None:
        """Use the channels of a new process."""
        self._channels = channels
        self._is_catching_up = False

    def detach(self) -> None:
        """End a pause, and do not pause again: the process has ended, or is about to end."""
        self._end_pause()
        self._channels = None

    def broadcast(self, messages: List[Message]) -> None:
        """Deliver iopub messages to every client."""
        self._follow(messages)
        if self._limiter is not None:
            messages = self._limit(messages, self._limiter)
        if self._hidden:
            messages = [hide_traceback(message, self._hidden) for message in messages]
        self._sessions.broadcast(messages)
        if self._sessions.is_lagging():
            self._wait_for_clients()
        else:
            self._is_catching_up = False

    def reply(self, message: Message) -> None:
        """Deliver a reply or an input request to the client that sent the parent."""
        self.pending.record_reply(message)
        self._on_change()
        if self._hidden:
            message = hide_traceback(message, self._hidden)
        self._sessions.reply(message)

    def send_own(self, messages: List[Message]) -> None:
        """Deliver the agent's own messages without filters, and request acknowledgement.

        Front ends reconnect after the status `restarting`, and would get it again on the next
        connection if they had not acknowledged it.
        """
        for message in messages:
            if message.channel == IOPUB:
                self._sessions.broadcast([message], request_ack=True)
            else:
                self._sessions.reply(message, request_ack=True)
        self._on_change()

    def _follow(self, messages: List[Message]) -> None:
        is_active = False
        for message in messages:
            if self.activity.update(message):
                is_active = True
            header = message.parts[0]
            if b'"status"' in header or b'"execute_input"' in header:
                self.pending.record_iopub(message)
                self._on_change()
        if is_active:
            self._on_activity()

    def _limit(self, messages: List[Message], limiter: RateLimiter) -> List[Message]:
        admitted: List[Message] = []
        for message in messages:
            passes, text = limiter.admit(message, self._loop.time())
            if passes:
                admitted.append(message)
            if text is not None:
                admitted.append(self._factory.stderr(text, message.parts[1]))
        return admitted

    def _wait_for_clients(self) -> None:
        if self._channels is None or self._pause is not None or self._is_catching_up:
            return
        self._channels.pause_iopub()
        self._pause = self._loop.call_later(MAX_PAUSE_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._is_catching_up = True
        self._end_pause()

    def _relieve(self) -> None:
        if self._pause is not None and self._sessions.has_room():
            self._end_pause()

    def _end_pause(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._channels is not None:
            self._channels.resume_iopub()
