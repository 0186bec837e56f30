"""When iopub is read at once, and when messages are gathered."""

from kernel_agent.channels.read_batching import (
    DENSE_BYTES_PER_SECOND,
    DENSE_GATHER_SECONDS,
    GATHER_SECONDS,
    LONG_RUN_MESSAGES,
    ReadBatching,
)

SIZE = 1000
SOON = 0.003
LATE = 0.01


def run_of(
    batching: ReadBatching, count: int, *, every: float, start: float = 1.0
) -> tuple[list[float], float]:
    """Let messages come one by one; return the delays, and when the last one came."""
    times = [start + index * every for index in range(count)]
    return [batching.record_read(1, SIZE, now) for now in times], times[-1]


def test_short_runs_and_single_messages_are_read_at_once() -> None:
    """What a short cell publishes never waits, however many cells there are."""
    batching = ReadBatching()
    for start in (1.0, 2.0, 3.0):
        delays, _ = run_of(batching, LONG_RUN_MESSAGES - 1, every=SOON, start=start)
        assert not any(delays)
    delays, _ = run_of(batching, 10 * LONG_RUN_MESSAGES, every=LATE, start=4.0)
    assert not any(delays)


def test_long_run_is_gathered_while_it_lasts() -> None:
    """From its sixteenth message on, until a wait has brought no more than one."""
    batching = ReadBatching()
    delays, now = run_of(batching, LONG_RUN_MESSAGES, every=SOON)
    assert delays == [0.0] * (LONG_RUN_MESSAGES - 1) + [GATHER_SECONDS]
    for count in (5, 2, 30):
        now += LATE
        assert batching.record_read(count, count * SIZE, now) == GATHER_SECONDS
    assert batching.record_read(1, SIZE, now + LATE) == 0.0
    assert batching.record_read(1, SIZE, now + LATE + SOON) == 0.0


def test_much_output_is_gathered_for_a_shorter_time() -> None:
    """A kernel drops messages for which neither it nor the network has room."""
    batching = ReadBatching()
    _, now = run_of(batching, LONG_RUN_MESSAGES, every=SOON)
    for per_second, expected in (
        (2 * DENSE_BYTES_PER_SECOND, DENSE_GATHER_SECONDS),
        (DENSE_BYTES_PER_SECOND // 2, GATHER_SECONDS),
    ):
        now += LATE
        assert batching.record_read(100, int(per_second * LATE), now) == expected


def test_run_that_ended_without_a_message_begins_anew() -> None:
    """A wait that brought nothing ends it too."""
    batching = ReadBatching()
    _, now = run_of(batching, LONG_RUN_MESSAGES, every=SOON)
    assert batching.record_read(0, 0, now + GATHER_SECONDS) == 0.0
    delays, _ = run_of(batching, LONG_RUN_MESSAGES - 1, every=SOON, start=now + LATE)
    assert not any(delays)


def test_reply_ends_a_run() -> None:
    """Messages behind a reply are read at once: a client waited for the reply."""
    batching = ReadBatching()
    _, now = run_of(batching, LONG_RUN_MESSAGES, every=SOON)
    batching.end_run()
    assert batching.record_read(1, SIZE, now + SOON) == 0.0
