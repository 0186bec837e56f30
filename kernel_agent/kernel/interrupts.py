"""Detects interrupts without effect. Pure: the caller measures the time.

Not every kernel can stop its work, and front ends do not show that an interrupt had no effect.
"""

from __future__ import annotations

from typing import Optional

from kernel_agent.kernel.activity import Running

REACTION_SECONDS = 5.0
"""How long a kernel may take to stop."""
NO_REACTION = "The kernel has not reacted to the interrupt. Restart it if you want it to stop.\n"


class InterruptWatch:
    """Watches the interrupts of one kernel process."""

    def __init__(self) -> None:
        self._watched: Optional[Running] = None

    def begin(self, running: Optional[Running]) -> bool:
        """Start to watch the request, if any, that the kernel runs at an interrupt.

        Returns:
            Whether to call `end` in `REACTION_SECONDS`. False if the same request is watched
            already: repeated interrupts produce one message.
        """
        if running is None or (self._watched and self._watched.msg_id == running.msg_id):
            return False
        self._watched = running
        return True

    def end(self, running: Optional[Running]) -> Optional[Running]:
        """Return the watched request if the kernel is still running it, else None."""
        watched, self._watched = self._watched, None
        is_same = watched is not None and running is not None and watched.msg_id == running.msg_id
        return watched if is_same else None
