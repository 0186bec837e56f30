"""What clients sent and the kernel did not take."""

from kernel_agent.wire.backlog import Backlog


def test_backlog_tells_waiters_once_when_it_is_relieved() -> None:
    """Full is a state of bytes; who waits is called once."""
    backlog = Backlog(100)
    called: list[int] = []
    backlog.add(100)
    assert backlog.is_full
    backlog.when_relieved(lambda: called.append(1))
    backlog.add(50)
    backlog.remove(50)
    assert called == []
    backlog.remove(1)
    backlog.remove(99)
    assert called == [1]
