"""The plan of a sidecar, and the requests that create it."""

import json

import pytest

from enterprise_gateway.services.processproxies.contract import (
    LaunchRequest,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.launch.sidecar import (
    DEFAULT_SIDECAR_IMAGE,
    plan_sidecar,
)
from enterprise_gateway.services.processproxies.responses.listener import ResponseEndpoint
from enterprise_gateway.services.processproxies.workloads.containers import (
    CLUSTER_LABEL,
    LAUNCH_LABEL,
)
from enterprise_gateway.services.processproxies.workloads.sidecar_specs import (
    Sidecar,
    container_config,
    service_spec,
)
from enterprise_gateway.services.processproxies.workloads.sidecars import SIDECAR_LABEL, Observation
from enterprise_gateway.settings import DockerSettings, SandboxSettings, Settings

KERNEL_ID = "00000000-0000-0000-0000-000000000007"
TOKEN = "5ec7e7"
ATTACHMENT = '{"key": "{{.Node.Hostname}}"}'


def sidecar(image: str = "", sandbox: SandboxSettings | None = None, **labels: str) -> Sidecar:
    """Return the sidecar of a kernel whose container has these labels."""
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
        launch_id="5",
        launch_token="of the launch",
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
    return plan_sidecar(
        request,
        script_env,
        Observation("c0ffee", kernel),
        labels,
        ATTACHMENT,
        ResponseEndpoint("10.0.0.1:8877", "key"),
        settings=Settings(
            docker=DockerSettings(sidecar_image=image), sandbox=sandbox or SandboxSettings()
        ),
        network="kernels",
    )


@pytest.mark.parametrize("cluster", [{}, {CLUSTER_LABEL: "mine"}], ids=["site's", "ours"])
def test_labels_are_those_that_the_kernel_is_found_by(cluster: dict[str, str]) -> None:
    """A site's own labels are not copied; a label that the kernel lacks, the sidecar lacks."""
    own = {"app": "enterprise-gateway", "component": "kernel", "kernel_id": KERNEL_ID, **cluster}
    assert sidecar(**own, site="acme").labels == {**own, SIDECAR_LABEL: "c0ffee"}


def test_token_is_the_one_that_the_kernels_labels_stand_for() -> None:
    """A launch script may or may not label launches."""
    assert sidecar().environment["EG_AGENT_TOKEN"] == TOKEN
    assert sidecar(**{LAUNCH_LABEL: ""}).environment["EG_AGENT_TOKEN"] == TOKEN
    labelled = sidecar(**{LAUNCH_LABEL: "5"})
    assert labelled.environment["EG_AGENT_TOKEN"] == "of the launch"


def test_environment_is_what_an_agent_needs() -> None:
    """No variables of the kernel or of the launch script."""
    assert sidecar().environment == {
        "EG_AGENT_ATTACH": ATTACHMENT,
        "EG_AGENT_SETTINGS": "{}",
        "EG_AGENT_TOKEN": TOKEN,
        "KERNEL_ID": KERNEL_ID,
        "KERNEL_LAUNCH_TIMEOUT": "30",
        "KERNEL_USERNAME": "ann",
        "PUBLIC_KEY": "key",
        "RESPONSE_ADDRESS": "10.0.0.1:8877",
    }
    assert TOKEN not in repr(sidecar())


def test_image_is_the_gateways_unless_another_is_set() -> None:
    """In either kind of workload."""
    assert container_config(sidecar())["Image"] == DEFAULT_SIDECAR_IMAGE
    spec = service_spec(sidecar("registry:5000/own"))
    assert spec["TaskTemplate"]["ContainerSpec"]["Image"] == "registry:5000/own"


def test_container_has_nothing_that_it_does_not_need() -> None:
    """It needs to read its environment, to listen, and to write the kernel's log to a disk."""
    config = container_config(sidecar())
    host = config["HostConfig"]
    assert config["User"] == "1000:100"
    assert host == {
        "NetworkMode": "kernels",
        "SecurityOpt": ["no-new-privileges"],
        "CapDrop": ["ALL"],
        "ReadonlyRootfs": True,
        "Mounts": [{"Type": "volume", "Target": "/tmp"}],
        "Memory": 1 << 30,
        "MemorySwap": 1 << 30,
        "PidsLimit": 64,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
    }
    assert TOKEN not in json.dumps([config["Entrypoint"], config["Cmd"], config["Labels"]])


def test_service_is_never_replaced_and_its_values_are_no_templates() -> None:
    """A launcher may report any text."""
    spec = service_spec(sidecar())
    template = spec["TaskTemplate"]
    assert spec["EndpointSpec"] == {"Mode": "dnsrr"}
    assert template["RestartPolicy"] == {"Condition": "none"}
    assert template["Networks"] == [{"Target": "kernels"}]
    assert template["ContainerSpec"]["Labels"] == spec["Labels"]
    assert f"EG_AGENT_ATTACH={ATTACHMENT}" not in template["ContainerSpec"]["Env"]
    assert any('{{"{{"}}.Node' in entry for entry in template["ContainerSpec"]["Env"])


def test_service_is_limited_as_a_container_is() -> None:
    """In Swarm's words."""
    host = container_config(sidecar())["HostConfig"]
    template = service_spec(sidecar())["TaskTemplate"]
    limits = {"MemoryBytes": host["Memory"], "Pids": host["PidsLimit"]}
    assert template["Resources"] == {"Limits": limits}
    assert template["ContainerSpec"]["ReadOnly"] == host["ReadonlyRootfs"]
    assert template["ContainerSpec"]["Mounts"] == host["Mounts"]
    log = host["LogConfig"]
    assert template["LogDriver"] == {"Name": log["Type"], "Options": log["Config"]}


@pytest.mark.parametrize(
    ("driver", "log"),
    [
        ("", None),
        ("journald", {"Type": "journald", "Config": {}}),
        ("local", {"Type": "local", "Config": {"max-size": "1m", "max-file": "2"}}),
    ],
)
def test_output_goes_where_that_of_kernels_goes(driver: str, log: object) -> None:
    """By the operator's settings; "" is the engine's own driver, with its limits."""
    sandbox = SandboxSettings(
        container_log_driver=driver, container_log_max_size="1m", container_log_max_files=2
    )
    made = sidecar(sandbox=sandbox)
    assert container_config(made)["HostConfig"].get("LogConfig") == log
    assert ("LogDriver" in service_spec(made)["TaskTemplate"]) == (log is not None)
