"""When a kernel in another container counts as dead."""

from kernel_agent.eg.liveness import (
    REFUSED_SECONDS,
    SILENT_SECONDS,
    LivenessProbe,
    ProbeResult,
)


def test_refusals_mean_nothing_before_the_kernel_listens() -> None:
    """A launcher reports ports first and opens them then."""
    liveness = LivenessProbe()
    assert not liveness.record(ProbeResult.REFUSED, 0.0)
    assert not liveness.record(ProbeResult.REFUSED, 1000.0)
    assert not liveness.is_known_alive


def test_kernel_known_to_have_listened_is_dead_after_refusals() -> None:
    """It may have answered the agent and died before the first accepted probe."""
    liveness = LivenessProbe()
    assert not liveness.record(ProbeResult.REFUSED, 0.0)
    liveness.confirm_started()
    assert not liveness.record(ProbeResult.REFUSED, 1.0)
    assert liveness.record(ProbeResult.REFUSED, 1.0 + REFUSED_SECONDS)


def test_kernel_that_refuses_connections_is_dead_soon() -> None:
    """One refusal could be chance."""
    liveness = LivenessProbe()
    assert not liveness.record(ProbeResult.ACCEPTED, 0.0)
    assert not liveness.record(ProbeResult.REFUSED, 10.0)
    assert not liveness.is_known_alive
    assert not liveness.record(ProbeResult.REFUSED, 10.0 + REFUSED_SECONDS / 2)
    assert liveness.record(ProbeResult.REFUSED, 10.0 + REFUSED_SECONDS)


def test_kernel_that_is_silent_is_dead_much_later() -> None:
    """A network may lose packets, a machine may be very busy."""
    liveness = LivenessProbe()
    liveness.record(ProbeResult.ACCEPTED, 0.0)
    assert not liveness.record(ProbeResult.NO_ANSWER, 10.0)
    assert not liveness.record(ProbeResult.REFUSED, 10.1)
    assert not liveness.record(ProbeResult.NO_ANSWER, 10.2 + REFUSED_SECONDS)
    assert liveness.record(ProbeResult.NO_ANSWER, 10.0 + SILENT_SECONDS)


def test_one_connection_is_proof_of_life() -> None:
    """Whatever was before it."""
    liveness = LivenessProbe()
    liveness.record(ProbeResult.ACCEPTED, 0.0)
    liveness.record(ProbeResult.NO_ANSWER, 1.0)
    liveness.record(ProbeResult.ACCEPTED, 2.0)
    assert liveness.is_known_alive
    assert not liveness.record(ProbeResult.NO_ANSWER, 1.0 + SILENT_SECONDS)
