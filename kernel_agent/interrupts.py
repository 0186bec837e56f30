"""Whether an interrupt had an effect. Pure: the caller brings the time.

Not every kernel can stop what it does, and a front end shows nothing of an interrupt in vain.
"""

from __future__ import annotations

from typing import Optional

from kernel_agent.activity import Running

REACTION_TIME = 5.0
"""Seconds in which a kernel is expected to stop."""
NO_REACTION = "The kernel has not reacted to the interrupt. Restart it if you want it to stop.\n"


class InterruptWatch:
    """Follows the interrupts of one kernel process."""

    def __init__(self) -> None:
        self._watched: Optional[Running] = None

    def begin(self, running: Optional[Running]) -> bool:
        """The kernel is interrupted while it is at a request, or at none.

        Returns:
            Whether to call `end` in `REACTION_TIME`, and not when an earlier call said. Not if the
            same request is watched already: impatience makes no more messages.
        """
        if running is None or (self._watched and self._watched.msg_id == running.msg_id):
            return False
        self._watched = running
        return True

    def end(self, running: Optional[Running]) -> Optional[Running]:
        """Return the request to tell of, if the kernel is still at the one it was at."""
        watched, self._watched = self._watched, None
        is_same = watched is not None and running is not None and watched.msg_id == running.msg_id
        return watched if is_same else None
