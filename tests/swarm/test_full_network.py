"""A network in which every address is taken."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import docker
import pytest
from docker.types import EndpointSpec
from harness.engines.swarm import KERNEL_IMAGE, NetworkEndpoint, enter_network, overlay_network
from harness.proxies.engine_rigs import SwarmRig
from harness.waiting import wait_until

from enterprise_gateway.errors import LaunchError, LaunchTimeoutError
from swarmlab.lab import SwarmLab

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

SUBNET = "10.220.0.0/28"
PORT = 8893
PATIENCE = 300.0
"""Seconds that a start may take; it must fail long before."""


@contextmanager
def filled(lab: SwarmLab, network: str) -> Iterator[None]:
    """Have more sleeping tasks in a network than it has addresses."""
    with closing(lab.manager.client()) as client:
        service = client.services.create(
            KERNEL_IMAGE,
            name="egt-sleepers",
            labels={"sleepers": network},
            command=["sleep", "600"],
            stop_grace_period=0,
            mode=docker.types.ServiceMode("replicated", 16),
            networks=[network],
            endpoint_spec=EndpointSpec(mode="dnsrr"),
        )

        def waiting() -> int:
            tasks = service.tasks()
            return len(tasks) == 16 and sum(not each.get("NetworksAttachments") for each in tasks)

        try:
            wait_until(waiting, what="a task without an address")
            yield
        finally:
            service.remove()
            label = f"sleepers={network}"
            wait_until(
                lambda: not client.api.tasks({"label": label}),
                deadline=240,
                what="the sleepers' end",
            )


async def test_start_in_a_full_network_says_so_and_leaves_nothing(
    lab: SwarmLab, tmp_path: Path
) -> None:
    """Long before its deadline; kernels that run go on, and with addresses there are new ones."""
    with (
        overlay_network(lab, SUBNET) as network,
        closing(NetworkEndpoint(lab.manager, network, PORT, KERNEL_IMAGE)) as endpoint,
        enter_network(endpoint),
    ):
        rig = SwarmRig.of(tmp_path, lab, network)
        try:
            proxy = await rig.open_proxy()
            kept = await proxy.launch(rig.request())
            with filled(lab, network):
                request = rig.request(timeout=PATIENCE)
                with pytest.raises(LaunchError, match=rf"no address for it: .*{SUBNET}") as failure:
                    await proxy.launch(request)
                assert not isinstance(failure.value, LaunchTimeoutError)
                await rig.until_gone(request.kernel_id)
                assert await proxy.observe(kept.kernel_id) == kept
            again = await proxy.launch(rig.request())
            for workload in (kept, again):
                await proxy.remove(workload.kernel_id)
                await rig.until_gone(workload.kernel_id)
        finally:
            await rig.close()
