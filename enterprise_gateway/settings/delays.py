"""Delays that only tests change."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DelaySettings:
    """Delays that users have no reason to change; tests shorten them (`EG_TEST_DELAYS`)."""

    ended_container_seconds: float = 2.0
    """How long an ended container stays, so that its output can be read."""
    ended_service_seconds: float = 2.0
    """How long the service of a kernel that ended as requested stays, for the same reason."""
    failed_service_seconds: float = 30.0
    """How long the service of a kernel that never became ready stays."""
    tombstone_seconds: float = 300.0
    """How long the service of any other dead kernel stays. While it does, every replica reports
    that the kernel is dead, and why.
    """
    unpaired_grace_seconds: float = 10.0
    """How long a kernel whose sidecar ended, or the reverse, may take to end by itself."""
    launch_margin_seconds: float = 5.0
    """How long after its launch timeout a service that does not run is left to its launcher."""
    stale_container_seconds: float = 45.0
    """When a container that was created but never started is removed: its creator was killed."""
    late_cause_seconds: float = 0.3
    """How long after a container was killed the engine may report that it ran out of memory."""
    container_check_seconds: float = 5.0
    """The shortest time between two checks for such containers, and between removal attempts."""
    starting_tasks_seconds: float = 0.2
    """How often the tasks of starting services are listed."""
    ended_tasks_seconds: float = 5.0
    """How often the ended tasks of a swarm are listed."""
    service_removal_retry_seconds: float = 5.0
    """How long after a failed removal of a service the next one is tried."""
    no_swarm_seconds: float = 15.0
    """How often an engine that manages no swarm is asked again."""
    engine_settle_seconds: float = 10.0
    """How long an engine may still carry out the requests of a launch script that was killed."""
    engine_retry_seconds: float = 0.1
    """The first pause before the engine is followed again; it doubles up to 5 s."""
    report_seconds: float = 5.0
    """How long a connection to the response listener may last."""
    orphan_seconds: float = 30.0
    """How long a workload runs without a listener where its agent should be, before it is removed.

    An agent listens within about a second of its container's start. Orphans are to be gone after a
    minute; of that, up to ten seconds pass before the next check, and an engine may take fifteen to
    end a container.
    """
    final_state_seconds: float = 0.3
    """How long after a workload's exit its agent's final state document may still arrive."""
    stale_tombstone_seconds: float = 30.0
    """How long a tombstone that tells clients nothing stays, so that its launcher can read its log.
    """
    claim_retry_seconds: float = 0.5
    """The first pause before an agent is told again that its kernel is claimed; it doubles."""
    pause_check_seconds: float = 5.0
    """How often is looked for kernels to pause, and for those that have been paused long enough."""
    request_seconds: float = 20.0
    """How long after a request to an agent its kernel is not left paused.

    By then the request has an answer, or what it has begun shows in the kernel's state at all
    replicas: a load balancer to which a WebSocket is handed over may take 15 s.
    """
    agent_report_seconds: float = 30.0
    """How long an agent tries to report its kernel, before it ends the kernel and itself."""
    agent_silence_seconds: float = 40.0
    """When an agent's event stream is taken to be lost; it is never silent for more than 15 s."""
    volume_lock_seconds: float = 15.0
    """When another gateway's lock on the agent's volume is broken. Filling takes some tenths of a
    second, so that gateway was killed.
    """
    pull_retry_seconds: float = 1.0
    """The first pause before a pull is tried again that the network has broken; it doubles."""
