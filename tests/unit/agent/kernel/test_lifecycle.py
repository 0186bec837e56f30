"""The state machine of a kernel's life."""

import pytest

from kernel_agent.kernel.lifecycle import (
    BY_CLIENT,
    BY_GATEWAY,
    STABLE_SECONDS,
    EndedBy,
    Lifecycle,
    Next,
    Phase,
    announce_end,
)
from kernel_agent.process.exits import ExitReason

REASON = ExitReason("the kernel exited with code 1", exit_code=1)


def running(*, autorestart: bool = True, restart_limit: int = 5) -> Lifecycle:
    """Return a kernel that is ready."""
    lifecycle = Lifecycle(autorestart=autorestart, restart_limit=restart_limit)
    lifecycle.become_ready(0.0)
    return lifecycle


def test_first_process_that_never_was_ready_is_a_failed_launch() -> None:
    """No restart of what never worked."""
    lifecycle = Lifecycle(autorestart=True, restart_limit=5)
    assert lifecycle.process_ended(1.0, REASON) is Next.FAIL
    assert lifecycle.phase is Phase.DEAD
    assert lifecycle.reason == REASON


@pytest.mark.parametrize("is_ready_again", [True, False])
def test_deaths_in_a_row_end_at_the_limit(*, is_ready_again: bool) -> None:
    """Five restarts, then dead, whether or not the processes came up."""
    lifecycle = running()
    for count in range(1, 6):
        assert lifecycle.process_ended(count, REASON) is Next.START
        assert lifecycle.phase is Phase.RESTARTING
        assert lifecycle.restarts == count
        if is_ready_again:
            lifecycle.become_ready(count)
    assert lifecycle.process_ended(6.0, REASON) is Next.STAY_DEAD
    assert lifecycle.phase is Phase.DEAD


def test_stable_process_ends_the_series() -> None:
    """A process that lived long enough starts the count anew."""
    lifecycle = running(restart_limit=1)
    now = 0.0
    for _ in range(5):
        now += STABLE_SECONDS
        assert lifecycle.process_ended(now, REASON) is Next.START
        lifecycle.become_ready(now)
    assert lifecycle.process_ended(now + 1, REASON) is Next.STAY_DEAD


def test_no_autorestart_means_dead_at_once() -> None:
    """With autorestart off, or a limit of none."""
    assert running(autorestart=False).process_ended(1.0, REASON) is Next.STAY_DEAD
    assert running(restart_limit=0).process_ended(1.0, REASON) is Next.STAY_DEAD


def test_requested_restart_is_no_death() -> None:
    """It sets no reason, clears an old one, and does not count as a death."""
    lifecycle = running(restart_limit=1)
    lifecycle.process_ended(1.0, REASON)
    lifecycle.become_ready(1.0)
    assert lifecycle.reason == REASON
    for _ in range(3):
        assert lifecycle.request_restart(BY_GATEWAY)
        assert lifecycle.phase is Phase.RESTARTING
        assert lifecycle.process_ended(2.0, REASON) is Next.START
        assert lifecycle.reason is None
        lifecycle.become_ready(2.0)
    assert lifecycle.restarts == 4


def test_restart_requested_during_a_restart_joins_it() -> None:
    """A client that asks while a process is starting gets that one."""
    lifecycle = running()
    assert lifecycle.request_restart(BY_GATEWAY)
    assert not lifecycle.request_restart(BY_GATEWAY)
    assert lifecycle.process_ended(1.0, REASON) is Next.START
    assert not lifecycle.request_restart(BY_GATEWAY)
    lifecycle.become_ready(1.0)
    assert lifecycle.restarts == 1
    assert lifecycle.process_ended(2.0, REASON) is Next.START
    assert lifecycle.reason == REASON


def test_restart_revives_the_dead() -> None:
    """A dead kernel has no process to end, and starts again."""
    lifecycle = running(autorestart=False)
    lifecycle.process_ended(1.0, REASON)
    assert lifecycle.leave_death() is Next.STAY_DEAD
    assert not lifecycle.request_restart(BY_GATEWAY)
    assert lifecycle.leave_death() is Next.START
    lifecycle.become_ready(2.0)
    assert lifecycle.phase is Phase.RUNNING
    assert lifecycle.reason is None


def test_end_wins_over_everything() -> None:
    """Once the end was asked for nothing starts again."""
    lifecycle = running()
    lifecycle.request_restart(BY_GATEWAY)
    lifecycle.request_end(BY_GATEWAY, EndedBy.GATEWAY)
    assert not lifecycle.request_restart(BY_GATEWAY)
    assert lifecycle.process_ended(1.0, REASON) is Next.END
    dead = running(autorestart=False)
    dead.process_ended(1.0, REASON)
    dead.request_end(BY_GATEWAY, EndedBy.GATEWAY)
    assert dead.leave_death() is Next.END


STOP = ExitReason("the kernel was told to stop (SIGTERM)", signal="SIGTERM")


def test_stop_from_outside_is_an_end_with_a_reason() -> None:
    """Whether the kernel runs or is just being restarted."""
    for is_restarting in (False, True):
        lifecycle = running()
        if is_restarting:
            lifecycle.request_restart(BY_GATEWAY)
        lifecycle.request_stop(STOP)
        assert lifecycle.phase is Phase.TERMINATING
        assert lifecycle.process_ended(1.0, REASON) is Next.STOP
        assert lifecycle.reason == STOP


def test_stop_of_a_dead_kernel_keeps_why_it_died() -> None:
    """That is the more telling reason."""
    dead = running(autorestart=False)
    dead.process_ended(1.0, REASON)
    dead.request_stop(STOP)
    assert dead.leave_death() is Next.STOP
    assert dead.reason == REASON


@pytest.mark.parametrize("is_stopped_first", [True, False])
def test_end_asked_for_counts_more_than_a_stop(*, is_stopped_first: bool) -> None:
    """In whichever order they come: a gateway asks, then removes the container."""
    lifecycle = running()
    if is_stopped_first:
        lifecycle.request_stop(STOP)
    lifecycle.request_end(BY_GATEWAY, EndedBy.GATEWAY)
    lifecycle.request_stop(STOP)
    assert lifecycle.process_ended(1.0, REASON) is Next.END
    assert lifecycle.reason is None


def test_end_asked_for_forgets_an_earlier_crash() -> None:
    """What a reason explains is why a kernel is gone that no client wanted to end."""
    lifecycle = running()
    lifecycle.process_ended(1.0, REASON)
    lifecycle.become_ready(1.0)
    lifecycle.request_end(BY_GATEWAY, EndedBy.GATEWAY)
    assert lifecycle.reason is None


def test_ready_while_ending_does_not_revive() -> None:
    """A process that becomes ready after the end was asked for stays marked."""
    lifecycle = Lifecycle(autorestart=True, restart_limit=5)
    lifecycle.request_end(BY_GATEWAY, EndedBy.GATEWAY)
    lifecycle.become_ready(1.0)
    assert lifecycle.phase is Phase.TERMINATING


def test_kernel_that_cannot_be_started_again_is_lost() -> None:
    """Unless its end was asked for: there is nothing to wait for."""
    lifecycle = Lifecycle(autorestart=True, restart_limit=5, can_start_again=False)
    lifecycle.become_ready(0.0)
    assert lifecycle.process_ended(1.0, REASON) is Next.LOSE
    assert lifecycle.phase is Phase.DEAD
    assert lifecycle.reason == REASON
    asked = Lifecycle(autorestart=True, restart_limit=5, can_start_again=False)
    asked.become_ready(0.0)
    asked.request_end(BY_GATEWAY, EndedBy.GATEWAY)
    assert asked.process_ended(1.0, REASON) is Next.END


def test_notice_under_an_interrupted_cell_says_who_ends_the_kernel() -> None:
    """The first who asks for an end, also if others ask while it is under way."""
    lifecycle = running()
    lifecycle.request_restart(BY_CLIENT)
    assert announce_end(lifecycle, is_restart=True) == (
        "The kernel is being restarted by a shutdown_request of a client.\n"
    )
    lifecycle.request_end(BY_GATEWAY, EndedBy.GATEWAY)
    lifecycle.request_end(BY_CLIENT, EndedBy.CLIENT)
    assert announce_end(lifecycle, is_restart=False) == (
        "The kernel is being shut down by a request to the gateway.\n"
    )
    assert lifecycle.ended_by is EndedBy.GATEWAY
    stopped = running()
    stopped.request_stop(STOP)
    assert announce_end(stopped, is_restart=False) == ("The kernel was told to stop (SIGTERM).\n")


def test_process_is_awaited_from_its_start_until_it_is_ready() -> None:
    """Not while the former one is still to end."""
    life = Lifecycle(autorestart=True, restart_limit=5)
    assert life.is_awaiting_process
    life.become_ready(0.0)
    assert not life.is_awaiting_process
    life.request_restart(BY_GATEWAY)
    assert not life.is_awaiting_process
    life.process_ended(1.0, ExitReason("the kernel exited with code 0"))
    assert life.is_awaiting_process
    life.become_ready(2.0)
    assert not life.is_awaiting_process


def test_restart_that_is_not_counted_is_followed_by_one_that_is() -> None:
    """As when a kernel of a pool begins anew for its user."""
    life = Lifecycle(autorestart=True, restart_limit=5)
    life.become_ready(0.0)
    for count, is_counted in ((0, False), (1, True)):
        assert life.request_restart(BY_GATEWAY, is_counted=is_counted)
        assert life.process_ended(1.0, REASON) is Next.START
        life.become_ready(2.0)
        assert life.restarts == count
