"""Launch scripts of older days do not label what every gateway reads."""

from dataclasses import replace

import pytest

from enterprise_gateway.errors import LaunchError
from enterprise_gateway.services.processproxies.contract import (
    LaunchRequest,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.launch.labels import check_labels
from enterprise_gateway.services.processproxies.resources import (
    KernelResources,
    Usage,
    labels_of_usage,
    usage_of_labels,
)
from enterprise_gateway.settings.values.amounts import Amounts

LIMITS = Amounts(nano_cpus=1_500_000_000, memory=2**30, gpus=1, pids=9)
REQUEST = LaunchRequest(
    kernel_id="k",
    kernel_name="site",
    username="ann",
    argv=("true",),
    env={},
    resource_dir="",
    config={},
    agent_settings={},
    agent_token="",
    timeout=9.0,
)


def workload(usage: Usage, launch_id: str = "") -> Workload:
    """Return a workload that a script has labelled."""
    usage = usage_of_labels(labels_of_usage(usage))
    state = WorkloadState.RUNNING
    return Workload("k", "ann-k", "ann", state, 1.0, usage=usage, launch_id=launch_id)


def test_limits_that_a_script_does_not_apply_fail_the_launch() -> None:
    """The message says what is wrong with the script, and what to do."""
    resources = KernelResources(LIMITS, groups=frozenset({"the lab"}), is_binding=True)
    request = replace(REQUEST, resources=resources)
    check_labels(request, workload(resources.usage))
    for usage in (Usage(), replace(resources.usage, groups=frozenset())):
        with pytest.raises(LaunchError, match="its launch script does not apply EG_RESOURCES"):
            check_labels(request, workload(usage))


def test_scripts_that_know_no_limits_go_on_where_none_are_set() -> None:
    """Neither the defaults nor what only a request asks for must end what has worked."""
    check_labels(REQUEST, workload(Usage()))
    defaults = KernelResources(Amounts(pids=4096, shm_size=2**31), is_binding=True)
    check_labels(replace(REQUEST, resources=defaults), workload(Usage()))
    asked = KernelResources(LIMITS, is_binding=False)
    check_labels(replace(REQUEST, resources=asked), workload(Usage()))


def test_traffic_that_would_not_be_encrypted_fails_the_launch() -> None:
    """The agent's certificate is that of the launch, whose id a label tells."""
    request = replace(REQUEST, agent_certificate="c", launch_id="one")
    check_labels(request, workload(Usage(), "one"))
    with pytest.raises(LaunchError, match="does not label it with EG_AGENT_LAUNCH"):
        check_labels(request, workload(Usage()))
