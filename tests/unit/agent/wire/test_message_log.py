"""The kernel's log: order, limits, what goes first, and exact counts of what is gone."""

import pytest
from harness.agents.logs import Clock, MemorySpill, make_log, message, shrunk
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kernel_agent.wire.entries import ALL_SESSIONS, NO_SESSION, Entry, Position
from kernel_agent.wire.message import IOPUB, OVERHEAD_BYTES, SHELL, STDIN, Message
from kernel_agent.wire.message_log import Limits, MessageLog
from kernel_agent.wire.segments import pack, unpack

ALL = 1 << 60


def everything(log: MessageLog) -> list[Message]:
    """Return all messages that are left."""
    return [entry.message for entry in log.read(0, ALL)]


def numbers(log: MessageLog) -> list[int]:
    """Return the numbers of all entries that are left."""
    return [entry.number for entry in log.read(0, ALL)]


def test_entries_are_numbered_and_read_in_order() -> None:
    """From any number on, about as many bytes as asked for, at least one entry."""
    log = make_log(10**6)
    messages = [message("stream", 100) for _ in range(10)]
    assert [log.append(one) for one in messages] == list(range(10))
    assert log.end == 10
    assert [entry.number for entry in log.read(3, 2 * messages[0].size)] == [3, 4]
    assert [entry.message for entry in log.read(9, 1)] == messages[9:]
    assert log.read(10, 1) == []


@pytest.mark.parametrize("spill", [0, 10**6])
def test_full_log_drops_the_oldest_output_first(spill: int) -> None:
    """Results, replies, input requests and statuses stay when streams and displays go."""
    log = make_log(40_000, spill)
    kept = [
        message("status", 100),
        message("execute_result", 100),
        message("execute_reply", 100, SHELL),
        message("input_request", 100, STDIN),
    ]
    for one, to in zip(kept, (ALL_SESSIONS, ALL_SESSIONS, 1, 1), strict=True):
        log.append(one, to)
    output = [message(kind, 1000) for kind in ("stream", "display_data") for _ in range(1000)]
    for one in output:
        log.append(one)
        assert log.memory_bytes <= 40_000
        assert log.spilled_bytes <= spill
    left = log.read(0, ALL)
    assert [entry.message.parts for entry in left[:4]] == [one.parts for one in kept]
    assert [entry.number for entry in left[4:]] == list(range(2004 - (len(left) - 4), 2004))
    assert len(left) > (700 if spill else 15)


def test_results_go_when_rests_fill_their_part_of_the_memory() -> None:
    """Then replies are all that stays of the oldest part."""
    log = make_log(40_000)
    for _ in range(100):
        log.append(message("execute_result", 1000))
    for _ in range(5):
        log.append(message("execute_reply", 100, SHELL), 1)
    for _ in range(100):
        log.append(message("execute_result", 1000))
    assert log.memory_bytes <= 40_000
    assert sum(entry.to == 1 for entry in log.read(0, ALL)) == 5


def test_only_what_is_owed_stays() -> None:
    """Replies and statuses that were acknowledged go untold, but for the newest status."""
    log = make_log(40_000)
    owed = {1}
    log.keep_while(lambda entry: entry.number in owed)
    for _ in range(3):
        log.append(message("status"))
    log.append(message("execute_reply", 0, SHELL), 1)
    for _ in range(200):
        log.append(message("stream", 1000))
    assert numbers(log)[:3] == [1, 2, 200 + 4 - len(numbers(log)) + 2]
    owed.clear()
    log.expire()
    assert numbers(log)[0] == 2


def test_what_is_owed_without_end_is_bounded() -> None:
    """A kernel that sends nothing but replies and statuses takes no more than the limit."""
    log = make_log(40_000)
    for _ in range(1000):
        log.append(message("status"))
        log.append(message("execute_reply", 1000, SHELL), 1)
        assert log.memory_bytes <= 40_000


def test_reply_that_is_too_large_to_stay_is_replaced() -> None:
    """A client that waits for it is told, in its place."""
    log = make_log(40_000)
    log.append(message("execute_reply", 10_000, SHELL), 1)
    for _ in range(200):
        log.append(message("stream", 1000))
    assert everything(log)[0].parts[3] == b"too large"


@pytest.mark.parametrize("spill", [0, 10**6])
def test_message_larger_than_the_log_stays_until_the_next(spill: int) -> None:
    """A connected client gets it; with a spill it stays for longer."""
    log = make_log(40_000, spill)
    log.append(message("stream", 10))
    log.append(message("stream", 100_000))
    assert numbers(log)[-1] == 1
    log.append(message("stream", 10))
    assert numbers(log) == ([0, 1, 2] if spill else [2])


def test_loss_is_counted_exactly_and_knows_its_last_parent() -> None:
    """At the entry behind the gap, also if that is in memory as it was appended."""
    log = make_log(40_000)
    size = message("stream", 1000).size - OVERHEAD_BYTES
    for index in range(100):
        log.append(message("stream", 1000, parent=f"{index:03}"))
    (first,) = log.read(0, 1)
    assert first.outputs == first.number
    assert first.output_bytes == first.number * (size + len('"msg_id":"000"'))
    assert first.lost_parent == b'{"msg_id":"%03d"}' % (first.number - 1)
    assert log.read(first.number + 1, 1)[0].lost_parent == b""
    assert log.position.outputs == 100


def test_old_segments_leave_their_small_part() -> None:
    """By age results go too, also from a kernel that is silent since then."""
    clock = Clock()
    log = MessageLog(Limits(10**6, 0, 100.0), clock, shrink=shrunk)
    log.append(message("execute_reply", 10, SHELL), 1)
    log.append(message("execute_result", 10))
    clock.now = 50.0
    log.append(message("stream", 10))
    assert log.expire() == 100.0
    clock.now = 149.0
    log.append(message("status", 10))
    assert log.expire() == 1.0
    clock.now = 150.0
    assert log.expire() == 99.0
    assert numbers(log) == [0, 3]
    clock.now = 1000.0
    assert log.expire() == 100.0
    assert numbers(log) == [0, 3]
    assert log.position.outputs == 2


def test_spill_that_takes_no_more_is_done_without() -> None:
    """The disk is full: what is there stays readable, the oldest goes to make room."""
    log = make_log(40_000, 10**6)
    spill = log._spill
    assert isinstance(spill, MemorySpill)
    for _ in range(100):
        log.append(message("stream", 1000))
    assert numbers(log) == list(range(100))
    spill.takes_writes = False
    for _ in range(100):
        log.append(message("stream", 1000))
        assert log.memory_bytes <= 40_000
    left = numbers(log)
    assert left == list(range(left[0], 200))
    assert not spill.stored


def test_spill_that_cannot_be_read_is_a_loss() -> None:
    """It is counted like any other."""
    log = make_log(40_000, 10**6)
    for _ in range(100):
        log.append(message("stream", 1000))
    assert isinstance(log._spill, MemorySpill)
    log._spill.can_be_read = False
    left = log.read(0, ALL)
    assert left[0].outputs == left[0].number > 50
    assert log.spilled_bytes == 0


def test_requests_are_found_with_their_first_and_last_entry() -> None:
    """Also while others print in between."""
    log = make_log(10**6)
    for parent in ("a", "a", "b", "a", "", "b"):
        log.append(message("stream", parent=parent))
    found = log.find("a")
    assert found is not None
    assert (found.first, found.last) == (Position(0, 0, 0), 3)
    found = log.find("b")
    assert found is not None
    assert (found.first.number, found.first.outputs, found.last) == (2, 2, 5)
    assert log.find("") is log.find("c") is None


def test_packed_entries_are_what_they_were() -> None:
    """All channels, with buffers or not."""
    entries = [
        Entry(number, message("m", 5, channel, "p", buffers=number), NO_SESSION, 1, 2, 3)
        for number, channel in enumerate((IOPUB, SHELL, STDIN))
    ]
    unpacked = unpack(b"".join(pack(entries)))
    assert [entry[2:] for entry in unpacked] == [entry[2:] for entry in entries]
    for one, other in zip(unpacked, entries, strict=True):
        assert one.message.channel is other.message.channel
        assert one.message.parts == other.message.parts


def test_listeners_are_told_of_each_append_until_they_leave() -> None:
    """A stream of a request follows the log so."""
    log = make_log(10**6)
    told: list[int] = []
    leave = log.subscribe(lambda entry: told.append(entry.number + 1))
    log.append(message("stream"))
    leave()
    log.append(message("stream"))
    assert told == [1]


class LogMachine(RuleBasedStateMachine):
    """Whatever is appended: order, limits, and what the gaps say, by a model that keeps it all."""

    log: MessageLog
    memory: int
    spill: int

    def __init__(self) -> None:
        super().__init__()
        self.appended: list[tuple[Message, int]] = []
        self.outputs: list[tuple[int, Message]] = []
        self.total = 0
        self.acknowledged = 0

    @initialize(memory=st.integers(5_000, 30_000), spill=st.sampled_from([0, 5_000, 50_000]))
    def begin(self, memory: int, spill: int) -> None:
        """Make a log."""
        self.memory, self.spill = memory, spill
        self.log = make_log(memory, spill)
        self.log.keep_while(lambda entry: entry.number >= self.acknowledged)

    @rule(
        kind=st.sampled_from(["stream", "display_data", "execute_result", "status", "reply"]),
        payload=st.sampled_from([0, 100, 3000, 10_000]),
        parent=st.sampled_from(["a", "b", ""]),
        count=st.integers(1, 6),
    )
    def append(self, kind: str, payload: int, parent: str, count: int) -> None:
        """The kernel sends."""
        channel, to = (SHELL, 1) if kind == "reply" else (IOPUB, ALL_SESSIONS)
        for _ in range(count):
            one = message(kind, payload, channel, parent)
            assert self.log.append(one, to) == len(self.appended)
            if kind not in ("reply", "status"):
                self.outputs.append((len(self.appended), one))
            self.appended.append((one, to))
            self.total += one.size

    @rule()
    def acknowledge(self) -> None:
        """Nothing so far is owed any more."""
        self.acknowledged = len(self.appended)

    @invariant()
    def what_is_left_is_right(self) -> None:
        """In order, as it was, newest included, and every gap counted."""
        left = self.log.read(0, ALL)
        assert bool(left) is bool(self.appended)
        if left:
            assert left[-1].number == len(self.appended) - 1
        after = 0
        outputs = iter([*self.outputs, (len(self.appended), message("end"))])
        number, output = next(outputs)
        count = size = 0
        for entry in left:
            lost_parent = b""
            while number < entry.number:
                count, size = count + 1, size + output.size - OVERHEAD_BYTES
                if number >= after and (output.parts[1] != b"{}" or not lost_parent):
                    lost_parent = output.parts[1]
                number, output = next(outputs)
            assert (entry.outputs, entry.output_bytes) == (count, size)
            assert entry.lost_parent == lost_parent
            original, to = self.appended[entry.number]
            assert entry.to == to
            assert entry.message.parts in (original.parts, shrunk(original).parts)
            after = entry.number + 1

    @invariant()
    def limits_hold(self) -> None:
        """Nothing is lost below them, and nothing is kept above them but the newest."""
        if self.total <= self.memory:
            assert numbers(self.log) == list(range(len(self.appended)))
        newest = self.log._segments[-1].size
        assert self.log.memory_bytes <= max(self.memory, newest + self.memory // 4)
        assert self.log.spilled_bytes <= self.spill

    @invariant()
    def reads_of_any_size_agree(self) -> None:
        """A reader that goes step by step sees what one sees that reads all at once."""
        steps: list[Entry] = []
        start = 0
        while batch := self.log.read(start, 2000):
            steps += batch
            start = batch[-1].number + 1
        assert [entry[2:] for entry in steps] == [entry[2:] for entry in self.log.read(0, ALL)]


TestLogMachine = LogMachine.TestCase
TestLogMachine.settings = settings(max_examples=50, stateful_step_count=20, deadline=None)
