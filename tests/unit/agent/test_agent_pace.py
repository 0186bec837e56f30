"""When iopub is read at once, and when messages are gathered."""

from kernel_agent.pace import GATHER_TIME, LONG_RUN, Pace

SOON = 0.0005
LATE = 0.01


def run_of(
    pace: Pace, count: int, *, every: float, start: float = 1.0
) -> tuple[list[float], float]:
    """Let messages come one by one; return the delays, and when the last one came."""
    times = [start + index * every for index in range(count)]
    return [pace.note(1, now) for now in times], times[-1]


def test_short_runs_and_single_messages_are_read_at_once() -> None:
    """What a short cell publishes never waits, however many cells there are."""
    pace = Pace()
    for start in (1.0, 2.0, 3.0):
        delays, _ = run_of(pace, LONG_RUN - 1, every=SOON, start=start)
        assert not any(delays)
    delays, _ = run_of(pace, 10 * LONG_RUN, every=LATE, start=4.0)
    assert not any(delays)


def test_long_run_is_gathered_while_it_lasts() -> None:
    """From its sixteenth message on, until a wait has brought no more than one."""
    pace = Pace()
    delays, now = run_of(pace, LONG_RUN, every=SOON)
    assert delays == [0.0] * (LONG_RUN - 1) + [GATHER_TIME]
    for count in (5, 2, 300):
        now += LATE
        assert pace.note(count, now) == GATHER_TIME
    assert pace.note(1, now + LATE) == 0.0
    assert pace.note(1, now + LATE + SOON) == 0.0


def test_run_that_ended_without_a_message_begins_anew() -> None:
    """A wait that brought nothing ends it too."""
    pace = Pace()
    _, now = run_of(pace, LONG_RUN, every=SOON)
    assert pace.note(0, now + GATHER_TIME) == 0.0
    delays, _ = run_of(pace, LONG_RUN - 1, every=SOON, start=now + LATE)
    assert not any(delays)


def test_reply_ends_a_run() -> None:
    """What comes after a reply, which somebody waited for, is read at once."""
    pace = Pace()
    _, now = run_of(pace, LONG_RUN, every=SOON)
    pace.end_run()
    assert pace.note(1, now + SOON) == 0.0
