"""What is left of kernels that no client can use is removed; kernels that live never are."""

import logging
import time
import uuid
from contextlib import closing

import pytest
from docker import DockerClient
from docker.models.containers import Container
from docker.types import EndpointSpec, RestartPolicy
from harness.engines.swarm import KERNEL_IMAGE
from harness.gateways.faults import (
    Witness,
    connect_all,
    cut_off,
    heartbeat,
    labels_of,
    lasting,
    placing_on,
    wait_until_no_trace,
)
from harness.gateways.replica import ReplicaGroup

from swarmlab.lab import SwarmLab

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

_log = logging.getLogger(__name__)

REMOVAL_DEADLINE = 240.0
"""60 s on a machine that has nothing else to do."""
LAUNCH_TIMEOUT = 20
PAUSED_SECONDS = 20.0
CUT_SECONDS = 8.0
HEARTBEAT = 20.0
"""The cut node must be heard of within three, from up to one before the cut: TCP, which waits twice
as long before each new attempt, may send the first sign of life only 13 s after the cut began, or
26 s if that lasts somewhat longer.
"""


class Orphans:
    """Makes what launches leave behind when their replica dies, or their image is no kernel's."""

    def __init__(self, lab: SwarmLab, username: str, network: str) -> None:
        self._lab = lab
        self._username = username
        self._network = network

    def service(
        self, *command: str, constraints: list[str] | None = None, env: list[str] | None = None
    ) -> str:
        """Make a service; returns the kernel's id."""
        kernel_id = str(uuid.uuid4())
        labels = self._labels(kernel_id)
        with closing(self._lab.manager.client()) as client:
            client.services.create(
                KERNEL_IMAGE,
                list(command),
                name=f"{self._username}-{kernel_id}",
                labels=labels,
                container_labels=labels,
                networks=[self._network],
                restart_policy=RestartPolicy(condition="none"),
                endpoint_spec=endpoint_spec(),
                constraints=constraints or [],
                env=[f"KERNEL_ID={kernel_id}", *(env or [])],
            )
        return kernel_id

    def container(self) -> str:
        """Make a container that is never started; returns the kernel's id."""
        kernel_id = str(uuid.uuid4())
        with closing(self._lab.manager.client()) as client:
            client.containers.create(
                KERNEL_IMAGE,
                name=f"{self._username}-{kernel_id}",
                labels=self._labels(kernel_id),
            )
        return kernel_id

    def _labels(self, kernel_id: str) -> dict[str, str]:
        return {"app": "enterprise-gateway", "component": "kernel", "kernel_id": kernel_id}


def endpoint_spec() -> EndpointSpec:
    """Return how services are found here: by the addresses of their containers."""
    return EndpointSpec(mode="dnsrr")


def container_of(client: DockerClient, kernel_id: str) -> Container:
    """Return a kernel's container on a node."""
    (container,) = client.containers.list(filters=labels_of(kernel_id), ignore_removed=True)
    return container


def test_orphans_go_and_kernels_stay(lab: SwarmLab, group: ReplicaGroup, network: str) -> None:
    """Each kind of orphan is gone after a minute; a kernel that only does not answer goes on."""
    manager, _, cut = lab.nodes
    with heartbeat(lab, HEARTBEAT):
        with placing_on(lab, manager):
            paused = group.start_kernel()
        with placing_on(lab, cut):
            isolated = group.start_kernel()
        live = [paused, isolated]
        clients = connect_all(group, live)
        orphans = Orphans(lab, group.username, network)
        with placing_on(lab, *lab.nodes[:2]), Witness(group.replicas, live) as witness:
            made = {
                "nothing listens": orphans.service("sleep", "infinity"),
                "no node fits": orphans.service(
                    "sleep",
                    "infinity",
                    constraints=["node.labels.place==nowhere"],
                    env=[f"KERNEL_LAUNCH_TIMEOUT={LAUNCH_TIMEOUT}"],
                ),
                "never started": orphans.container(),
                "ended": orphans.service("true"),
                "failed": orphans.service("false"),
            }
            began = time.monotonic()
            with closing(manager.client()) as client:
                container = container_of(client, paused)
                container.pause()
                try:
                    with lasting(PAUSED_SECONDS), cut_off(cut), lasting(CUT_SECONDS):
                        pass
                finally:
                    container.unpause()

            for kind, each in made.items():
                deadline = REMOVAL_DEADLINE - (time.monotonic() - began)
                wait_until_no_trace(lab, each, deadline=deadline)
                _log.info("%s: removed after %.0f s", kind, time.monotonic() - began)
        assert witness.denials == []
        for kernel_id in live:
            again = group.connect(kernel_id, session_id=clients[kernel_id].session_id)
            assert again.execute("mine").result == repr(kernel_id)
            again.close()
    for kernel_id in live:
        group.pick().delete_kernel(kernel_id)
