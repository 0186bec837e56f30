"""What the launchers of Enterprise Gateway's images have in common: no process is ready ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kernel_agent.process.spawner import KernelProcess, KernelSpawner


class SparelessSpawner:
    """The part of a `spawner.KernelSpawner` that restarts, where there is no spare."""

    has_spare = False
    """Whether the next respawn takes a process that is ready."""

    def prepare(self, *_: object) -> None:
        """Do nothing: there is nothing to prepare."""

    async def respawn(self: "KernelSpawner") -> "KernelProcess":
        """Do as at the first time.

        Raises:
            SpawnError: that fails.
        """
        return self.spawn()
