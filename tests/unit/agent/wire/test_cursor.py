"""What a client is sent of the log: once, in order, again after a cut, with exact losses."""

from harness.agents.logs import make_log, message
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kernel_agent.wire.cursor import MAX_PINGS, MAX_RANGES, UNDER_WAY_BYTES, Cursor
from kernel_agent.wire.entries import NO_SESSION, Loss
from kernel_agent.wire.message import IOPUB, OVERHEAD_BYTES, SHELL, Message
from kernel_agent.wire.message_log import MessageLog

NOTICE = b"notice"


def notice(loss: Loss) -> Message:
    """Make a message that carries a loss."""
    numbers = b"%d %d" % (loss.messages, loss.payload_bytes)
    return Message(IOPUB, [NOTICE, loss.parent_header, b"{}", numbers])


def cursor(log: MessageLog, key: int = 1) -> Cursor:
    """Make a cursor at the end of a log."""
    return Cursor(log, key, notice)


def drain(one: Cursor) -> list[Message]:
    """Take everything."""
    taken: list[Message] = []
    while not one.is_at_end:
        taken += one.take(10_000)
    return taken


def contents(messages: list[Message]) -> list[bytes]:
    """Return the contents of messages."""
    return [one.parts[3] for one in messages]


def text(value: str, parent: str = "", channel: bytes = IOPUB) -> Message:
    """Make output, or a reply, with a text."""
    made = message("stream" if channel == IOPUB else "reply", 0, channel, parent)
    return Message(channel, [*made.parts[:3], value.encode()])


def test_entries_of_other_sessions_are_passed_over() -> None:
    """They are not sent, and do not keep a client from being up to date."""
    log = make_log(10**6)
    one, other = cursor(log, 1), cursor(log, 2)
    log.append(text("all"))
    log.append(text("one", channel=SHELL), 1)
    log.append(text("none", channel=SHELL), NO_SESSION)
    assert contents(drain(one)) == [b"all", b"one"]
    assert contents(drain(other)) == [b"all"]
    assert one.is_at_end
    assert not one.is_flushed
    one.acknowledge(one.next_ping())
    assert one.is_flushed


def test_any_pong_acknowledges_what_its_ping_covers() -> None:
    """Not only that of the newest; pongs without a ping, or a second time, acknowledge nothing."""
    log = make_log(10**6)
    one = cursor(log)
    pings = []
    for value in ("a", "b", "c"):
        log.append(text(value))
        drain(one)
        pings.append(one.next_ping())
    assert not one.acknowledge(pings[-1] + 1)
    assert one.acknowledge(pings[1])
    assert not one.acknowledge(pings[0])
    assert not one.acknowledge(pings[1])
    assert contents(one.unacknowledged()) == [b"c"]
    one.rewind()
    assert not one.acknowledge(pings[2])
    assert contents(drain(one)) == [b"c"]


def test_client_that_answers_no_ping_costs_no_memory() -> None:
    """Its oldest pings are forgotten; the pong of a later one acknowledges as much."""
    log = make_log(10**6)
    one = cursor(log)
    for _ in range(2 * MAX_PINGS):
        log.append(text("x"))
        drain(one)
        number = one.next_ping()
    assert len(one._pings) == MAX_PINGS
    assert one.acknowledge(number)
    assert one.is_flushed


def test_only_what_may_be_on_its_way_is_looked_at() -> None:
    """A client that read all of a large log, and answered no ping, breaks its connection."""
    log = make_log(2 * UNDER_WAY_BYTES)
    one = cursor(log)
    for _ in range(24):
        log.append(message("stream", 1_000_000))
        drain(one)
    assert 16 <= len(one.unacknowledged()) < 20


def test_lag_is_half_a_log_of_large_messages() -> None:
    """Small messages never make a client slow its kernel down; a quarter ends the lag."""
    log = make_log(100_000)
    one = cursor(log)
    for _ in range(1500):
        log.append(message("stream", 10))
    assert not one.is_lagging
    drain(one)
    for _ in range(3):
        log.append(message("display_data", 20_000))
    assert one.is_lagging
    assert not one.has_room
    one.take(40_000)
    assert one.has_room


def test_loss_is_told_again_until_it_is_acknowledged() -> None:
    """With the number, the size and the last request of what is missing."""
    log = make_log(20_000)
    one = cursor(log)
    for index in range(100):
        log.append(message("stream", 1000, parent=f"{index:02}"))
    for _ in range(2):
        first, *others = drain(one)
        count, size = map(int, first.parts[3].split())
        assert first.parts[0] == NOTICE
        assert count == 100 - len(others)
        assert size == count * (others[0].size - OVERHEAD_BYTES)
        assert first.parts[1] == b'{"msg_id":"%02d"}' % (count - 1)
        one.rewind()
    drain(one)
    assert one.acknowledge(one.next_ping())
    one.rewind()
    assert drain(one) == []


def test_what_was_acknowledged_before_it_was_dropped_is_no_loss() -> None:
    """What was sent and not acknowledged is one only if the connection is lost."""
    for is_cut in (False, True):
        log = make_log(20_000)
        one = cursor(log)
        for _ in range(5):
            log.append(message("stream", 1000))
        drain(one)
        number = one.next_ping()
        for _ in range(50):
            log.append(message("stream", 1000))
            drain(one)
        if not is_cut:
            assert one.acknowledge(number + 0)
            assert one.acknowledge(one.next_ping())
        one.rewind()
        assert any(message.parts[0] == NOTICE for message in drain(one)) is is_cut


def test_new_connection_adopts_what_the_former_was_owed() -> None:
    """First the old, with replies that came in between, then what is new; nothing twice."""
    log = make_log(10**6)
    former = cursor(log, 1)
    log.append(text("acknowledged"))
    drain(former)
    former.acknowledge(former.next_ping())
    log.append(text("in flight"))
    log.append(text("reply", channel=SHELL), 1)
    drain(former)
    former.rewind()
    log.append(text("while away"))
    later = cursor(log, 2)
    log.append(text("sent"))
    log.append(text("late reply", channel=SHELL), 1)
    assert contents(drain(later)) == [b"sent"]
    number = later.next_ping()
    log.append(text("new"))
    later.adopt(former)
    expected = [b"in flight", b"reply", b"while away", b"late reply", b"new"]
    assert contents(drain(later)) == expected
    assert later.acknowledge(number)
    later.rewind()
    assert contents(drain(later)) == expected
    assert later.acknowledge(later.next_ping())
    assert later.is_flushed
    assert list(later.keys) == [2]


def test_adopting_tells_what_was_lost_in_between() -> None:
    """Also if nothing of it is left."""
    log = make_log(20_000)
    former = cursor(log, 1)
    for _ in range(10):
        log.append(message("stream", 1000))
    later = cursor(log, 2)
    for _ in range(100):
        log.append(message("stream", 1000))
        drain(later)
    later.adopt(former)
    (told,) = drain(later)
    assert told.parts[3].split()[0] == b"10"


def test_adopting_again_and_again_is_bounded() -> None:
    """A client that acknowledges nothing on any connection."""
    log = make_log(10**6)
    one = cursor(log, 1)
    for key in range(2, 50):
        log.append(text("x"))
        later = cursor(log, key)
        log.append(text("y"))
        later.adopt(one)
        one = later
        one.rewind()
    assert len(one.owed) <= MAX_RANGES
    assert contents(drain(one))[-1] == b"y"


def test_replay_gives_all_messages_of_a_request_once() -> None:
    """Those for others too, then what is new, and what is owed anyway is not repeated."""
    log = make_log(10**6)
    for value, parent in (("1", "a"), ("2", "b"), ("3", "a")):
        log.append(text(value, parent))
    log.append(text("reply", "a", SHELL), 7)
    one = cursor(log)
    found = log.find("a")
    assert found is not None
    one.replay(frozenset({"a"}), found.first, None)
    log.append(text("4", "a"))
    log.append(text("5", "b"))
    assert contents(drain(one)) == [b"1", b"3", b"reply", b"4", b"5"]
    one.rewind()
    one.replay(frozenset({"a"}), found.first, None)
    assert contents(drain(one)) == [b"1", b"3", b"reply", b"4", b"5"]


def test_replay_of_a_finished_request_reads_no_more_than_its_part() -> None:
    """What follows in the log is passed over."""
    log = make_log(10**6)
    log.append(text("1", "a"))
    for _ in range(1000):
        log.append(text("x", "b"))
    one = cursor(log)
    found = log.find("a")
    assert found is not None
    one.replay(frozenset({"a"}), found.first, found.last)
    assert contents(one.take(2000)) == [b"1"]
    assert one.is_at_end


class CursorMachine(RuleBasedStateMachine):
    """Sending, acknowledging, cuts and a small log: each output arrives or is counted, in order."""

    log: MessageLog
    one: Cursor

    def __init__(self) -> None:
        super().__init__()
        self.appended: list[bytes] = []
        self.expected: list[bytes] = []
        self.received = 0
        self.told = 0
        self.pings: list[tuple[int, int]] = []
        self.acknowledged = 0

    @initialize(memory=st.sampled_from([10_000, 10**7]), spill=st.sampled_from([0, 10_000, 10**7]))
    def begin(self, memory: int, spill: int) -> None:
        """Make a log and a client."""
        self.is_lossless = memory + spill >= 10**7
        self.log = make_log(memory, spill)
        self.one = cursor(self.log)

    @rule(count=st.integers(1, 8), size=st.sampled_from([0, 200]), is_other=st.booleans())
    def append(self, count: int, size: int, *, is_other: bool) -> None:
        """The kernel publishes, or replies to another client."""
        for _ in range(count):
            content = b"%d%s" % (len(self.appended), b"x" * size)
            channel, to = (SHELL, 9) if is_other else (IOPUB, 0)
            made = Message(channel, [b'{"msg_type":"stream"}', b"{}", b"{}", content])
            self.log.append(made, to)
            if not is_other:
                self.appended.append(content)

    @rule(size=st.integers(1, 4000))
    def send(self, size: int) -> None:
        """A batch goes out; each message follows its predecessor or the notice of a gap."""
        for one in self.one.take(size):
            if one.parts[0] == NOTICE:
                assert not self.is_lossless
                self.received += int(one.parts[3].split()[0])
            else:
                assert one.parts[3] == self.appended[self.received]
                self.received += 1
        if self.one.uncovered_bytes:
            self.pings.append((self.one.next_ping(), self.received))
        elif not self.pings:
            self.acknowledged = self.received

    @precondition(lambda self: self.pings)
    @rule(data=st.data())
    def pong(self, data: st.DataObject) -> None:
        """The client answers one of the pings; some of its pongs may be lost."""
        index = data.draw(st.integers(0, len(self.pings) - 1))
        number, self.acknowledged = self.pings[index]
        assert self.one.acknowledge(number)
        self.pings = self.pings[index + 1 :]

    @rule()
    def cut(self) -> None:
        """The connection is lost, and the pongs under way with it."""
        self.one.rewind()
        self.pings = []
        self.received = self.acknowledged

    @invariant()
    def what_is_under_way_is_known(self) -> None:
        """As far as the log still has it."""
        under_way = [one.parts[3] for one in self.one.unacknowledged()]
        sent = self.appended[self.acknowledged : self.received]
        if self.is_lossless:
            assert under_way == sent
        else:
            assert set(under_way) <= set(sent)


TestCursorMachine = CursorMachine.TestCase
TestCursorMachine.settings = settings(max_examples=50, deadline=None)
