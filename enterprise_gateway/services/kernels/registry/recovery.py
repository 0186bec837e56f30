"""Recovers how other replicas launched their kernels, so that this one can launch them again.

It asks while the kernels live: an engine forgets a workload that has ended, unless it keeps a
tombstone.
"""

import asyncio
import logging
from collections.abc import Mapping

from enterprise_gateway.errors import GatewayError, UnavailableError
from enterprise_gateway.services.kernels.planning.environment import (
    changed_environment,
    recover_client_env,
    recover_kernel_name,
)
from enterprise_gateway.services.kernels.planning.ids import GID, UID
from enterprise_gateway.services.kernels.registry.records import Record, RecoveredLaunch
from enterprise_gateway.services.processproxies.workloads.names import (
    escape_username,
    unescape_username,
)
from enterprise_gateway.services.tasks import BackgroundTasks
from enterprise_gateway.settings import LiveSettings

ANSWER_SECONDS = 10.0
RETRY_SECONDS = 5.0
MAX_CALLS = 4

_log = logging.getLogger(__name__)


def _is_engines(name: str) -> bool:
    """Say whether only the engine is believed about a variable: no takeover sets it.

    They choose the kernelspec, the image, and the user of its processes.
    """
    return name.startswith("EG_") or name in ("KERNEL_IMAGE", "KERNEL_ID", UID, GID)


class LaunchRecovery:
    """Asks engines for the environment of other replicas' kernels."""

    def __init__(self, live: LiveSettings) -> None:
        self._live = live
        self._calls = asyncio.Semaphore(MAX_CALLS)
        self._tasks = BackgroundTasks()

    def recover(self, record: Record) -> None:
        """Begin to recover the launch of a kernel, unless that is known or has begun."""
        if record.launch is None and record.recovered is None and not record.is_pooled:
            self._tasks.begin_once(record, lambda: self._recover(record))

    async def close(self) -> None:
        """Stop asking."""
        await self._tasks.cancel()

    async def _environment(self, record: Record) -> Mapping[str, str]:
        """Return the environment of a kernel, with what changed when it was taken from a pool."""
        workload = record.workload
        env = dict(await record.proxy.launched_with(workload))
        if workload.pool:
            if record.agent is None:  # what its user chose died with its agent
                return {name: env[name] for name in ("EG_AGENT_SETTINGS",) if name in env}
            if record.is_paused:
                raise UnavailableError("it is paused")
            told = (await record.agent.taken()).env
            changes = {name: value for name, value in told.items() if not _is_engines(name)}
            env = changed_environment(env, changes)
        # whose kernel it is, its workload's name tells, and neither its environment nor its agent
        owner = workload.username
        if env and owner and escape_username(env.get("KERNEL_USERNAME", "")) != owner:
            env["KERNEL_USERNAME"] = unescape_username(owner)
        return env

    async def _recover(self, record: Record) -> None:
        while True:
            try:
                async with self._calls, asyncio.timeout(ANSWER_SECONDS):
                    env = await self._environment(record)
            except (GatewayError, TimeoutError) as exc:
                _log.debug("Kernel %s: its launch is not recovered yet: %s", record.kernel_id, exc)
                if record.is_over.is_set():
                    return
                await asyncio.sleep(RETRY_SECONDS)  # an engine does not announce its return
            except Exception:  # noqa: BLE001 - a task's root, and a site's own class may raise anything
                _log.exception("Kernel %s: its launch cannot be recovered", record.kernel_id)
                return
            else:
                client_envs = self._live.current.kernels.client_envs
                record.apply_recovered(
                    RecoveredLaunch(recover_client_env(env, client_envs), recover_kernel_name(env))
                )
                return
