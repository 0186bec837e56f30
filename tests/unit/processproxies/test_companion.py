"""What the engine is told of a companion."""

import json

import pytest

from enterprise_gateway.services.processproxies.companion import (
    DEFAULT_COMPANION_IMAGE,
    Companion,
    container_config,
    plan_companion,
    service_spec,
)
from enterprise_gateway.services.processproxies.contract import (
    LaunchRequest,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.couples import COMPANION_LABEL
from enterprise_gateway.services.processproxies.docker_workloads import CLUSTER_LABEL
from enterprise_gateway.services.processproxies.engine_watch import Sighting
from enterprise_gateway.services.processproxies.responses import ResponseEndpoint

KERNEL_ID = "00000000-0000-0000-0000-000000000007"
TOKEN = "5ec7e7"
ATTACHMENT = '{"key": "{{.Node.Hostname}}"}'


def companion(image: str = "", **labels: str) -> Companion:
    """Return the companion of a kernel whose container has these labels."""
    request = LaunchRequest(
        kernel_id=KERNEL_ID,
        kernel_name="site",
        username="ann",
        argv=(),
        env={},
        resource_dir="",
        config={},
        agent_settings={},
        agent_token=TOKEN,
        timeout=30.0,
    )
    script_env = {
        "EG_AGENT_SETTINGS": "{}",
        "EG_AGENT_TOKEN": TOKEN,
        "KERNEL_ID": KERNEL_ID,
        "KERNEL_LAUNCH_TIMEOUT": "30",
        "KERNEL_PASSWORD": "the kernel's own",
        "DOCKER_HOST": "tcp://engine",
    }
    kernel = Workload(KERNEL_ID, f"ann-{KERNEL_ID}", "ann", WorkloadState.RUNNING, 0.0)
    return plan_companion(
        request,
        script_env,
        Sighting("c0ffee", kernel),
        labels,
        ATTACHMENT,
        ResponseEndpoint("10.0.0.1:8877", "key"),
        image=image,
        network="kernels",
    )


@pytest.mark.parametrize("cluster", [{}, {CLUSTER_LABEL: "mine"}], ids=["site's", "ours"])
def test_labels_are_those_that_the_kernel_is_found_by(cluster: dict[str, str]) -> None:
    """A site's own are not, and one that is missing must be missing on both."""
    own = {"app": "enterprise-gateway", "component": "kernel", "kernel_id": KERNEL_ID, **cluster}
    assert companion(**own, site="acme").labels == {**own, COMPANION_LABEL: "c0ffee"}


def test_environment_is_what_an_agent_needs() -> None:
    """Nothing of the kernel's, and nothing of the launch script's."""
    assert companion().environment == {
        "EG_AGENT_ATTACH": ATTACHMENT,
        "EG_AGENT_SETTINGS": "{}",
        "EG_AGENT_TOKEN": TOKEN,
        "KERNEL_ID": KERNEL_ID,
        "KERNEL_LAUNCH_TIMEOUT": "30",
        "KERNEL_USERNAME": "ann",
        "PUBLIC_KEY": "key",
        "RESPONSE_ADDRESS": "10.0.0.1:8877",
    }
    assert TOKEN not in repr(companion())


def test_image_is_the_gateways_unless_another_is_set() -> None:
    """In either kind of workload."""
    assert container_config(companion())["Image"] == DEFAULT_COMPANION_IMAGE
    spec = service_spec(companion("registry:5000/own"))
    assert spec["TaskTemplate"]["ContainerSpec"]["Image"] == "registry:5000/own"


def test_container_has_no_rights_that_it_does_not_need() -> None:
    """It reads its environment, and listens."""
    config = container_config(companion())
    host = config["HostConfig"]
    assert config["User"] == "1000:100"
    assert host == {
        "NetworkMode": "kernels",
        "SecurityOpt": ["no-new-privileges"],
        "CapDrop": ["ALL"],
    }
    assert TOKEN not in json.dumps([config["Entrypoint"], config["Cmd"], config["Labels"]])


def test_service_is_never_replaced_and_its_values_are_no_templates() -> None:
    """What a launcher reported may be anything."""
    spec = service_spec(companion())
    template = spec["TaskTemplate"]
    assert spec["EndpointSpec"] == {"Mode": "dnsrr"}
    assert template["RestartPolicy"] == {"Condition": "none"}
    assert template["Networks"] == [{"Target": "kernels"}]
    assert template["ContainerSpec"]["Labels"] == spec["Labels"]
    assert f"EG_AGENT_ATTACH={ATTACHMENT}" not in template["ContainerSpec"]["Env"]
    assert any('{{"{{"}}.Node' in entry for entry in template["ContainerSpec"]["Env"])
