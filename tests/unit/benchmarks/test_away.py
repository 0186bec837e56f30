"""What the benchmark `away` takes for a loss."""

from benchmarks.client.protocol import IDLE
from benchmarks.figures.away import Reading
from benchmarks.flood_kernel import encode
from jupyter_wire.messages import join_v1

SESSION = "0" * 32
PARENT = b'{"msg_id":"11111111111111111111111111111111_7","msg_type":"execute_request"}'


def message(number: int, kind: str = "stream") -> bytes:
    """Return a message as the flood kernel's clients get it."""
    header = encode({"msg_id": f"{SESSION}_{number}", "msg_type": kind})
    return join_v1([b"iopub", header, PARENT, b"{}", IDLE])


def test_what_comes_again_counts_once() -> None:
    """After a reconnection some messages come twice; statuses and replies are not counted."""
    reading = Reading()
    for number, kind in [(1, "status"), (2, "stream"), (3, "display_data"), (5, "execute_reply")]:
        reading.take(message(number, kind))
    for number in (2, 3, 4):
        reading.take(message(number))
    assert (reading.flooded, reading.misplaced) == (3, 0)


def test_later_message_before_an_earlier_one_is_misplaced() -> None:
    """Each that comes after a later one."""
    reading = Reading()
    for number in (1, 3, 2, 4):
        reading.take(message(number))
    assert (reading.flooded, reading.misplaced) == (4, 1)
