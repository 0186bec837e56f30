"""When clients are told that an interrupt had no effect."""

from kernel_agent.kernel.activity import Running
from kernel_agent.kernel.interrupts import InterruptWatch

CELL = Running("1", b"{1}")
NEXT_CELL = Running("2", b"{2}")


def test_request_that_still_runs_is_told_of() -> None:
    """The very request, by its id; the header may have been encoded anew."""
    watch = InterruptWatch()
    assert watch.begin(CELL)
    assert watch.end(Running("1", b"{ 1 }")) == CELL


def test_request_that_ended_is_not_told_of() -> None:
    """Neither when the kernel is idle nor when it is at another one."""
    for running in (None, NEXT_CELL):
        watch = InterruptWatch()
        watch.begin(CELL)
        assert watch.end(running) is None


def test_interrupt_of_an_idle_kernel_is_not_followed() -> None:
    """There is nothing that it could have no effect on."""
    assert not InterruptWatch().begin(None)


def test_interrupts_in_a_row_make_one_notice_and_a_later_one_another() -> None:
    """Impatience makes no more messages; who tries again later is told again."""
    watch = InterruptWatch()
    assert watch.begin(CELL)
    assert not watch.begin(CELL)
    assert watch.end(CELL) == CELL
    assert watch.begin(CELL)
    assert watch.end(CELL) == CELL


def test_interrupt_of_the_next_request_is_followed_instead() -> None:
    """The time begins anew."""
    watch = InterruptWatch()
    assert watch.begin(CELL)
    assert watch.begin(NEXT_CELL)
    assert watch.end(NEXT_CELL) == NEXT_CELL
