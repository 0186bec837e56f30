"""How kernels of other gateway processes were launched.

It is asked for while they live: an engine forgets what has ended, unless it keeps a tombstone.
"""

import asyncio
import logging

from enterprise_gateway.errors import GatewayError
from enterprise_gateway.services.kernels.environment import recover_client_env, recover_kernel_name
from enterprise_gateway.services.kernels.records import Record
from enterprise_gateway.settings import LiveSettings

ANSWER_SECONDS = 10.0
RETRY_SECONDS = 5.0
MAX_CALLS = 4

_log = logging.getLogger(__name__)


class Origins:
    """Learns what it takes to launch a kernel again that another gateway process launched."""

    def __init__(self, live: LiveSettings) -> None:
        self._live = live
        self._calls = asyncio.Semaphore(MAX_CALLS)
        self._tasks: dict[Record, asyncio.Task[None]] = {}

    def learn(self, record: Record) -> None:
        """Begin to find out about a record, unless that is known or has been begun."""
        if record.launch is None and record.client_env is None and record not in self._tasks:
            task = asyncio.create_task(self._ask(record))
            self._tasks[record] = task
            task.add_done_callback(lambda _: self._tasks.pop(record, None))

    async def close(self) -> None:
        """Ask no more."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, record: Record) -> None:
        while True:
            try:
                async with self._calls, asyncio.timeout(ANSWER_SECONDS):
                    env = await record.proxy.launched_with(record.workload)
            except (GatewayError, TimeoutError) as exc:
                _log.debug("Kernel %s: how it was launched: %s", record.kernel_id, exc)
                if record.is_over.is_set():
                    return
                await asyncio.sleep(RETRY_SECONDS)  # an engine announces its return to nobody
            except Exception:  # noqa: BLE001 - a task's root, and a site's own class may raise anything
                _log.exception("Kernel %s: how it was launched is not known", record.kernel_id)
                return
            else:
                client_envs = self._live.current.kernels.client_envs
                record.client_env = recover_client_env(env, client_envs)
                record.launched_from = recover_kernel_name(env)
                return
