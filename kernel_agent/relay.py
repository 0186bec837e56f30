"""From the kernel's channels to the clients' outboxes: filters, and pressure back on the kernel."""

from __future__ import annotations

import asyncio
from typing import List, Optional

from kernel_agent.channels import KernelChannels
from kernel_agent.iopub import RateLimiter, hide_traceback
from kernel_agent.message import Message
from kernel_agent.notices import MessageFactory
from kernel_agent.sessions import Sessions
from kernel_agent.settings import AgentSettings

PAUSE_LIMIT = 0.5
"""Seconds that a burst waits for the clients; after that they lose output."""


class Relay:
    """Passes the kernel's messages on.

    While no connected client keeps up with large messages iopub is left unread for moments, so that
    a burst waits with ZeroMQ instead of being dropped from the outboxes. Not for long: what waits
    there is in no outbox's account.
    """

    def __init__(
        self, settings: AgentSettings, sessions: Sessions, factory: MessageFactory
    ) -> None:
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

    def attach(self, channels: KernelChannels) -> None:
        """Begin with the channels of a new process."""
        self._channels = channels
        self._is_catching_up = False

    def detach(self) -> None:
        """The process has ended or is about to: it is not slowed down, all it sends is read."""
        self._end_pause()
        self._channels = None

    def broadcast(self, messages: List[Message]) -> None:
        """Give iopub messages to every client."""
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
        """Give a reply or an input request to the client that it is for."""
        if self._hidden:
            message = hide_traceback(message, self._hidden)
        self._sessions.reply(message)

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
        self._pause = self._loop.call_later(PAUSE_LIMIT, self._give_up)

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
