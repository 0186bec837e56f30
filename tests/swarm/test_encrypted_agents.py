"""Replicas that speak TLS with the agents of kernels on any node of a Swarm."""

from contextlib import closing
from pathlib import Path

import pytest
from harness.gateways.replica import ReplicaGroup

from swarmlab.lab import SwarmLab

pytestmark = [pytest.mark.docker, pytest.mark.kernel]


def test_every_replica_uses_the_kernel(lab: SwarmLab, network: str, tmp_path: Path) -> None:
    """One that has not started it knows its key, and restarts it."""
    env = {"EG_ENCRYPT_AGENT_TRAFFIC": "True"}
    group = ReplicaGroup(tmp_path, lab, network, lab.nodes[:2], env=env)
    with group.running():
        one, other = group.replicas
        kernel_id = one.start_kernel("python_docker")
        with closing(other.connect(kernel_id)) as channels:
            assert channels.execute("print(6 * 7)").stdout == "42\n"
        assert other.request("POST", f"/api/kernels/{kernel_id}/restart").status_code == 200
        with closing(one.connect(kernel_id)) as channels:
            assert channels.execute("print(6 * 7)").stdout == "42\n"
        assert one.request("DELETE", f"/api/kernels/{kernel_id}").status_code == 204
