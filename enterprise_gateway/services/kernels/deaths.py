"""What follows from the ends of workloads: dead kernels that clients are told of, or nothing."""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable, Container, Coroutine, Mapping

from enterprise_gateway.errors import GatewayError
from enterprise_gateway.services.kernels.ended import Ended
from enterprise_gateway.services.kernels.fate import decide_death
from enterprise_gateway.services.kernels.records import Record
from enterprise_gateway.services.processproxies.contract import (
    ORDERLY_EXIT,
    BaseProcessProxyABC,
    Workload,
    WorkloadState,
)

LAST_WORDS_SECONDS = 0.3
"""How long after a workload's death its agent's last state document may still arrive."""
RELAUNCH_SECONDS = 1.0
"""How long after the removal of a dead workload its kernel may be launched again elsewhere."""
SWEEP_SECONDS = 30.0
"""How long whoever launched a workload in vain has to read what it printed."""

_log = logging.getLogger(__name__)


class Deaths:
    """Decides about records whose workloads have ended."""

    def __init__(
        self,
        records: Mapping[str, Record],
        launching: Container[str],
        ended: Ended,
        drop: Callable[[Record], None],
        detach: Callable[[Record], None],
    ) -> None:
        """Decide about nothing yet.

        Args:
            records: the registry's, by kernel id.
            launching: ids of the kernels that this gateway process is launching.
            ended: where what has ended is remembered.
            drop: forgets a record.
            detach: leaves the agent of a record.
        """
        self._records = records
        self._launching = launching
        self._ended = ended
        self._drop = drop
        self._detach = detach
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Leave open what has not been decided."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def take(self, record: Record, workload: Workload) -> None:
        """Take in that a known workload has ended, or is not there any more after its end."""
        if workload.state is WorkloadState.GONE:
            self.settle(record, workload)
        elif record.death is None:
            self._begin(self._bury(record, workload))
            return
        elif workload.exit_reason != ORDERLY_EXIT:
            return
        if record.death is not None:
            # Somebody has deleted the kernel, or is about to launch it again.
            forget = functools.partial(self._forget, record)
            self._ended.bury(record.kernel_id, forget, RELAUNCH_SECONDS)

    async def _bury(self, record: Record, workload: Workload) -> None:
        """Draw the conclusions of a workload's end, once its agent's last words have arrived."""
        await wait_for_last_words(record.is_silent)
        self.settle(record, workload)

    def settle(self, record: Record, workload: Workload) -> None:
        """Decide what the end of a record's workload means.

        Args:
            record: nothing happens if there is another by now, since the kernel was launched again.
            workload: with what the engine says of its end, if anything.
        """
        if self._records.get(record.kernel_id) is not record or record.death is not None:
            return
        reason = workload.exit_reason
        death = decide_death(record.state, reason, was_terminating=record.was_terminating)
        was_told = record.is_public or _may_have_been_ready(record, workload)
        if death is None or not was_told:
            before = "" if was_told else " before anybody was told of it"
            _log.info("Kernel %s ended%s", record.kernel_id, before)
            self._drop(record)
            if workload.is_tombstone:
                self.sweep(record.proxy, workload)
            return
        _log.warning("Kernel %s died: %s", record.kernel_id, death)
        record.death = death
        record.is_known.set()
        record.is_over.set()
        self._detach(record)
        self._ended.bury(record.kernel_id, functools.partial(self._forget, record))

    def _forget(self, record: Record) -> None:
        """Forget a kernel that is dead, unless it is being launched again."""
        if record.kernel_id in self._launching:
            self._ended.bury(record.kernel_id, functools.partial(self._forget, record))
        else:
            self._drop(record)

    def sweep(self, proxy: BaseProcessProxyABC, workload: Workload) -> None:
        """Have removed what would tell of a death that nobody needs to know of."""
        self._begin(_sweep(proxy, workload))

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _may_have_been_ready(record: Record, workload: Workload) -> bool:
    """Say whether another gateway process may have told a client of a kernel.

    An agent may be killed before its word that the kernel is ready has come here. So what was seen
    to run counts, if it leaves a tombstone: a start that failed leaves none.
    """
    if record.state is not None and not record.is_pending:
        return True
    return record.has_run and workload.is_tombstone and record.is_starting


async def wait_for_last_words(event: asyncio.Event) -> None:
    """Wait for what tells that an agent will say no more, but not for ever."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LAST_WORDS_SECONDS):
            await event.wait()


async def _sweep(proxy: BaseProcessProxyABC, workload: Workload) -> None:
    """Remove what would tell of a death that nobody needs to know of."""
    await asyncio.sleep(SWEEP_SECONDS)
    with contextlib.suppress(GatewayError):
        await proxy.sweep(workload)
