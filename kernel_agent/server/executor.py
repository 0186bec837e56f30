"""Begins executions for HTTP clients, ends their time, and answers their prompts."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Callable, Optional, Set

from kernel_agent.kernel.executions import (
    MAX_UNFINISHED,
    Execution,
    Executions,
    ExecutionState,
)
from kernel_agent.kernel.interrupts import REACTION_SECONDS
from kernel_agent.kernel.lifecycle import KernelDeadError, Phase
from kernel_agent.kernel.pending import EXECUTE_REQUEST
from kernel_agent.kernel.supervisor import KernelSupervisor
from kernel_agent.server.execute_body import ExecuteBody, derive_msg_id
from kernel_agent.server.http import HttpError
from kernel_agent.settings import AgentSettings
from kernel_agent.wire.agent_messages import timestamp
from kernel_agent.wire.entries import Entry
from kernel_agent.wire.message import EMPTY, SHELL, STDIN, encode_json, make_header
from kernel_agent.wire.message_log import MessageLog

GIVE_UP_SECONDS = REACTION_SECONDS + 1.0
"""How long after the interrupt a stream waits; the notice for all clients comes before."""


class Executor:
    """The kernel's client in the name of all HTTP clients, in one session of their own."""

    def __init__(
        self,
        settings: AgentSettings,
        supervisor: KernelSupervisor,
        executions: Executions,
        log: MessageLog,
    ) -> None:
        self._settings = settings
        self._supervisor = supervisor
        self._executions = executions
        self._log = log
        self.session = os.urandom(16).hex()
        """The `header.session` of its requests."""
        self._interrupting: "Set[asyncio.Task[None]]" = set()

    def begin(self, body: ExecuteBody, key: str) -> Execution:
        """Send the kernel an `execute_request`, and return the execution.

        Args:
            body: what to execute.
            key: names the execution: the one that it named before is returned, and nothing is sent;
                "": a new one.

        Raises:
            HttpError: the kernel is dead, the key named something else, or too much is waiting.
        """
        msg_id = derive_msg_id(self._settings.kernel_id, key) if key else os.urandom(16).hex()
        known = self._executions.get(msg_id) if key else None
        if known is not None:
            if known.fingerprint != body.fingerprint():
                raise HttpError(422, "another request had this Idempotency-Key")
            return known
        self._check(EXECUTE_REQUEST)
        header = make_header(EXECUTE_REQUEST, self.session, msg_id, timestamp())
        header["username"] = self._settings.username
        execution = self._executions.add(msg_id, self.session, self._log.position)
        if execution is None:
            raise HttpError(409, "a WebSocket client used the id of this execution")
        execution.fingerprint = body.fingerprint()
        execution.timeout = body.timeout
        if body.timeout is not None:
            _TimeLimit(execution, body.timeout, self._end_time)
        parts = [encode_json(header), EMPTY, EMPTY, encode_json(body.content())]
        self._supervisor.submit(SHELL, parts, may_wait=True)
        return execution

    def answer(self, execution: Execution, value: str) -> None:
        """Answer the prompt of an execution.

        Raises:
            HttpError: it waits for no answer.
        """
        prompt = execution.take_prompt()
        if prompt is None:
            raise HttpError(409, "the execution does not wait for input")
        header = make_header("input_reply", execution.session, os.urandom(16).hex(), timestamp())
        parts = [encode_json(header), prompt, EMPTY, encode_json({"value": value})]
        self._supervisor.submit(STDIN, parts, may_wait=False)

    def _check(self, msg_type: str) -> None:
        allowed = self._settings.allowed_message_types
        if allowed and msg_type not in allowed:
            raise HttpError(403, f"{msg_type} is not in the setting allowed_message_types")
        if self._supervisor.lifecycle.phase in (Phase.DEAD, Phase.TERMINATING):
            raise HttpError(409, str(KernelDeadError(self._supervisor.lifecycle.reason)))
        if self._executions.is_full or self._supervisor.backlog.is_full:
            raise HttpError(
                503,
                f"the kernel has not finished {MAX_UNFINISHED} executions, or reads no requests",
            )

    def _end_time(self, execution: Execution) -> None:
        task = asyncio.get_running_loop().create_task(self._interrupt(execution))
        self._interrupting.add(task)
        task.add_done_callback(self._interrupting.discard)

    async def _interrupt(self, execution: Execution) -> None:
        """Task root: interrupt an execution whose time is over; give it up if that is in vain."""
        if execution.state is not ExecutionState.RUNNING:
            return
        execution.is_timed_out = True
        with contextlib.suppress(KernelDeadError):  # its end answers the request
            await self._supervisor.interrupt()
            await asyncio.sleep(GIVE_UP_SECONDS)
            execution.give_up()


class _TimeLimit:
    """Calls back when an execution has run for too long; it lives as long as the execution runs."""

    def __init__(
        self, execution: Execution, seconds: float, end: Callable[[Execution], None]
    ) -> None:
        self._execution = execution
        self._seconds = seconds
        self._end = end
        self._timer: Optional[asyncio.TimerHandle] = None
        self._unsubscribe = execution.subscribe(self._follow)

    def _follow(self, _: Optional[Entry]) -> None:
        execution = self._execution
        if execution.reply is not None:
            self._unsubscribe()
            if self._timer is not None:
                self._timer.cancel()
        elif execution.state is ExecutionState.RUNNING and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._seconds, self._end, execution)
