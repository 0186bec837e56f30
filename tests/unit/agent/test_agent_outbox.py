"""The outbox: order, acknowledgement, resending, and what goes when it is full."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kernel_agent.message import IOPUB, OVERHEAD_BYTES, SHELL, STDIN, Message
from kernel_agent.outbox import Outbox


def message(kind: str, payload: int = 0, channel: bytes = IOPUB, parent: bytes = b"{}") -> Message:
    """Make a message of a type with so many bytes of content."""
    return Message(channel, [b'{"msg_type":"%s"}' % kind.encode(), parent, b"{}", b"x" * payload])


def make_outbox(max_bytes: int) -> Outbox:
    """Make an outbox of a client whose `header.session` is `me`."""
    return Outbox(max_bytes, lambda message: message.parent_session in ("", "me"))


def fill(outbox: Outbox, *messages: Message) -> None:
    """Append messages."""
    outbox.extend(messages, sum(one.size for one in messages))


def drain(outbox: Outbox) -> list[Message]:
    """Take everything."""
    taken: list[Message] = []
    while batch := outbox.take(10_000):
        taken += batch
    return taken


def test_everything_is_sent_once_in_order() -> None:
    """Messages come out as they went in, in batches of about the size asked for."""
    outbox = make_outbox(10**6)
    messages = [message("stream", 100) for _ in range(10)]
    fill(outbox, *messages)
    batch = outbox.take(messages[0].size * 3)
    assert list(batch) == messages[:3]
    assert drain(outbox) == messages[3:]
    assert drain(outbox) == []


def test_pong_acknowledges_what_was_sent_before_its_ping() -> None:
    """What was sent after the ping stays; one ping is under way at a time."""
    outbox = make_outbox(10**6)
    fill(outbox, message("stream"), message("stream"))
    outbox.take(1)
    number = outbox.next_ping()
    outbox.take(1)
    assert outbox.unasked_bytes == 0
    assert not outbox.acknowledge(number + 1)
    assert outbox.acknowledge(number)
    assert not outbox.acknowledge(number)
    assert len(outbox) == 1
    assert outbox.unasked_bytes == outbox.size
    assert outbox.next_ping() == number + 1


def test_rewind_resends_what_was_not_acknowledged() -> None:
    """After a cut everything not acknowledged comes again, in order, before the new."""
    outbox = make_outbox(10**6)
    messages = [message("stream") for _ in range(4)]
    fill(outbox, *messages[:3])
    outbox.take(1)
    number = outbox.next_ping()
    outbox.take(1)
    outbox.rewind()
    fill(outbox, messages[3])
    assert not outbox.acknowledge(number)
    assert drain(outbox) == messages


def test_full_outbox_drops_the_oldest_output_first() -> None:
    """Stream and display go first; results later; replies, status and input requests never."""
    outbox = make_outbox(20_000)
    kept = [
        message("status", 1000),
        message("execute_reply", 1000, SHELL),
        message("input_request", 1000, STDIN),
        message("execute_result", 1000),
    ]
    output = [message(kind, 1000) for kind in ("stream", "display_data") for _ in range(10)]
    fill(outbox, *kept, *output)
    left = drain(outbox)
    assert left[:4] == kept
    assert left[4:] == output[-len(left[4:]) :]
    assert outbox.size <= 20_000


def test_results_go_when_no_output_is_left_to_drop() -> None:
    """Only replies and status may exceed the limit."""
    outbox = make_outbox(10_000)
    results = [message("execute_result", 1000) for _ in range(20)]
    replies = [message("execute_reply", 1000, SHELL) for _ in range(20)]
    fill(outbox, *results)
    fill(outbox, *replies)
    assert drain(outbox) == replies


def test_what_cannot_be_dropped_is_not_searched_again_and_again() -> None:
    """An outbox full of status messages costs no sweep a message."""
    outbox = make_outbox(5_000)
    sweeps = 0
    original = outbox._drop_oldest

    def count() -> None:
        nonlocal sweeps
        sweeps += 1
        original()

    outbox._drop_oldest = count  # type: ignore[method-assign]  # counts
    for _ in range(1000):
        fill(outbox, message("status"))
    assert len(outbox) == 1000
    assert sweeps < 60


def test_status_of_others_goes_first_and_untold_but_for_the_newest() -> None:
    """Nobody waits for it; the client's own, and the state that the kernel is in, stay."""
    outbox = make_outbox(20_000)
    own, other = b'{"session":"me"}', b'{"session":"other"}'
    kept = [message("status", parent=own), message("stream", 1000), message("status")]
    fill(outbox, *kept)
    latest = [message("status", parent=other) for _ in range(100)]
    for one in latest:
        fill(outbox, one)
        assert outbox.size <= 20_000
    left = drain(outbox)
    assert left[:3] == kept
    assert left[3:] == latest[-len(left[3:]) :]
    assert outbox.take_loss() is None


def test_loss_is_told_once_with_count_and_bytes() -> None:
    """The client hears how much it lost and below which cell, then no more of it."""
    outbox = make_outbox(5_000)
    parent = b'{"msg_id":"cell"}'
    fill(outbox, *(message("stream", 1000, parent=parent) for _ in range(10)))
    dropped = 10 - len(outbox)
    loss = outbox.take_loss()
    assert loss is not None
    assert loss.messages == dropped
    assert loss.payload_bytes >= dropped * 1000
    assert loss.parent_header == parent
    assert outbox.take_loss() is None


def test_drop_of_what_was_sent_is_told_only_if_it_would_be_resent() -> None:
    """A message under way probably arrives: it is lost only if the connection is."""
    for is_cut in (False, True):
        outbox = make_outbox(5_000)
        fill(outbox, message("stream", 1000), message("stream", 1000))
        outbox.take(10_000)
        number = outbox.next_ping()
        fill(outbox, message("stream", 2000))
        if is_cut:
            outbox.rewind()
        else:
            outbox.acknowledge(number)
            outbox.rewind()
        assert (outbox.take_loss() is not None) is is_cut


def test_lag_is_half_an_outbox_of_large_messages() -> None:
    """Small messages never make a client slow its kernel down; a quarter ends the lag."""
    small = make_outbox(100_000)
    fill(small, *(message("stream", 10) for _ in range(150)))
    assert small.size > 50_000
    assert not small.is_lagging
    large = make_outbox(100_000)
    fill(large, *(message("display_data", 20_000) for _ in range(3)))
    assert large.is_lagging
    assert not large.has_room
    large.take(50_000)
    assert large.has_room
    large.rewind()
    assert large.is_lagging


def test_loss_is_told_again_until_it_is_acknowledged() -> None:
    """A cut repeats the notice too, and tells of what was dropped on its way."""
    outbox = make_outbox(10_000)
    first, second = message("stream", 500), message("stream", 500)
    fill(outbox, first)
    outbox.take(1)
    number = outbox.next_ping()
    fill(outbox, second)
    outbox.take(1)
    fill(outbox, *(message("stream", 500) for _ in range(20)))
    told = outbox.take_loss()
    assert told is not None
    assert outbox.acknowledge(number)
    outbox.rewind()
    again = outbox.take_loss()
    assert again is not None
    assert again.messages == told.messages + 1
    assert len(outbox) == 22 - 1 - again.messages
    drain(outbox)
    number = outbox.next_ping()
    assert outbox.acknowledge(number)
    outbox.rewind()
    assert outbox.take_loss() is None


class OutboxMachine(RuleBasedStateMachine):
    """Any mixture of sending, acknowledging and cuts loses nothing and keeps the order."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = make_outbox(10**9)
        self.appended: list[Message] = []
        self.wire: list[int] = []
        self.pings: list[tuple[int, int]] = []
        self.acknowledged = 0
        self.next = 0

    @rule(count=st.integers(1, 5))
    def append(self, count: int) -> None:
        """The kernel publishes."""
        messages = [message("stream", 10) for _ in range(count)]
        self.appended += messages
        fill(self.outbox, *messages)

    @rule(size=st.integers(1, 3000))
    def send(self, size: int) -> None:
        """A batch goes out; each message follows its predecessor."""
        for one in self.outbox.take(size):
            assert one is self.appended[self.next]
            self.next += 1
        if self.outbox.unasked_bytes:
            self.pings.append((self.outbox.next_ping(), self.next))

    @precondition(lambda self: self.pings)
    @rule()
    def pong(self) -> None:
        """The client answers."""
        number, count = self.pings.pop(0)
        assert self.outbox.acknowledge(number)
        self.acknowledged = count

    @rule()
    def cut(self) -> None:
        """The connection is lost, and the pongs under way with it."""
        self.outbox.rewind()
        self.pings = []
        self.next = self.acknowledged

    @invariant()
    def nothing_is_lost(self) -> None:
        """What is not acknowledged is in the outbox, and its size is right."""
        unacknowledged = self.appended[self.acknowledged :]
        assert len(self.outbox) == len(unacknowledged)
        assert self.outbox.size == sum(one.size for one in unacknowledged)


TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = settings(max_examples=50, deadline=None)


def test_size_counts_payload_and_overhead() -> None:
    """Small messages cost more memory than their payload."""
    assert message("stream", 1000).size > 1000 + OVERHEAD_BYTES
