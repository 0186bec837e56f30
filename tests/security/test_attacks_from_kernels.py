"""Code in a kernel that attacks what it can reach: real containers, a real gateway, a neighbour."""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import docker
import pytest
from harness.clients.channels import Channels
from harness.gateways.gateway import Gateway, find_free_port
from harness.kernels import attacks
from harness.kernels.kernelspecs import add_setting
from harness.waiting import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

MAX_PROCESSES = 256
MEBIBYTE = 1024 * 1024
MEMORY_BYTES = 400 * MEBIBYTE
OUTPUT_LINES = 100_000
OUTPUT_SECONDS = 300.0
LOG_BYTES, SPILL_BYTES = 16 * MEBIBYTE, 50 * MEBIBYTE
MAX_AGENT_BYTES = LOG_BYTES + 80 * MEBIBYTE

ATTACKS = {
    "agent of a neighbour": (attacks.AGENT_OF_A_NEIGHBOUR, [401]),
    "ports of a neighbour": (attacks.PORTS_OF_A_NEIGHBOUR, [8898]),
    "API of the gateway": (attacks.API_OF_THE_GATEWAY, [401]),
    "reports of others": (attacks.REPORTS_OF_OTHERS, ["rejected"]),
    # an agent may not have had the answer to the first one; the second one changes nothing
    "own report again": (attacks.OWN_REPORT_AGAIN, ["ok"]),
    "engine": (attacks.ENGINE, []),
    "process 1": (attacks.PROCESS_ONE, []),
    "secrets of the agent": (attacks.SECRETS_OF_THE_AGENT, []),
    "metadata of the cloud": (attacks.METADATA_OF_THE_CLOUD, []),
    "kernel of the host": (attacks.KERNEL_OF_THE_HOST, []),
}
"""What is tried, and what it finds: the statuses, ports and things that are not refused."""


class Site(NamedTuple):
    """A gateway, a neighbour's client, and the attacker's kernel."""

    gateway: Gateway
    neighbour: Channels
    attacker: str
    preamble: str


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A gateway that kernels can reach, as in a stack, and limits as its operator sets them."""
    reports = find_free_port()
    gateway = Gateway(
        tmp_path_factory.mktemp("gateway"),
        env={
            "EG_IP": "0.0.0.0",
            "EG_RESPONSE_PORT": str(reports),
            "EG_LOG_MEMORY_BYTES": str(LOG_BYTES),
            "EG_LOG_SPILL_BYTES": str(SPILL_BYTES),
        },
    )
    script = gateway.home / "share/jupyter/kernels/python_docker/scripts/launch_docker.py"
    text = add_setting(script.read_text(), "mem_limit", str(MEMORY_BYTES))
    script.write_text(add_setting(text, "pids_limit", str(MAX_PROCESSES)))
    try:
        gateway.start()
        victim = gateway.start_kernel("python_docker")
        attacker = gateway.start_kernel("python_docker")
        neighbour, own = container_of(victim), container_of(attacker)
        names = {
            "NEIGHBOUR": address_of(neighbour),
            "NEIGHBOUR_ID": victim,
            "GATEWAY": own["NetworkSettings"]["Networks"]["bridge"]["Gateway"],
            "PORT": gateway.port,
            "REPORTS": reports,
            "TOKEN": environment_of(own)["EG_AGENT_TOKEN"],
        }
        preamble = "".join(f"{name} = {value!r}\n" for name, value in names.items())
        yield Site(gateway, gateway.connect(victim), attacker, preamble + attacks.TOOLS)
    finally:
        gateway.close()


@pytest.fixture(autouse=True)
def neighbour_is_unharmed(site: Site) -> Iterator[None]:
    """After the attack the neighbour has its variables, and the gateway has nothing to report."""
    site.neighbour.execute("kept = 42")
    yield
    assert site.neighbour.execute("kept").result == "42"
    assert site.gateway.request("GET", "/healthz").status_code == 200
    assert "Traceback" not in site.gateway.read_log()


def container_of(kernel_id: str) -> dict[str, Any]:
    """Return what the engine says of a kernel's container."""
    with closing(docker.DockerClient(os.environ.get("DOCKER_HOST"))) as engine:
        (container,) = engine.containers.list(filters={"label": f"kernel_id={kernel_id}"})
        return dict(container.attrs)


def address_of(container: dict[str, Any]) -> str:
    """Return the address of a container."""
    return str(container["NetworkSettings"]["Networks"]["bridge"]["IPAddress"])


def environment_of(container: dict[str, Any]) -> dict[str, str]:
    """Return the environment of a container."""
    return dict(entry.split("=", 1) for entry in container["Config"]["Env"])


def attack(site: Site, code: str) -> Any:
    """Run an attack in the attacker's kernel; return what it found."""
    execution = site.gateway.connect(site.attacker).execute(site.preamble + code)
    assert execution.status == "ok", execution
    return json.loads(execution.stdout)


@pytest.mark.parametrize("name", ATTACKS)
def test_kernel_finds_nothing_of_others(site: Site, name: str) -> None:
    """Also one whose code has become its own agent."""
    code, expected = ATTACKS[name]
    path = f"/api/kernels/{site.attacker}"
    before = site.gateway.get(path)
    assert attack(site, code) == expected
    wait_until(lambda: site.gateway.get(path)["execution_state"] == "idle", what="the end")
    after = site.gateway.get(path)
    assert {**after, "last_activity": "", "connections": 0} == {
        **before,
        "last_activity": "",
        "connections": 0,
    }


def test_agent_is_process_1_whatever_the_engine_does_by_default(site: Site) -> None:
    """Behind Docker's init, its token would be in /proc/1/environ."""
    assert container_of(site.attacker)["HostConfig"]["Init"] is False


def test_processes_without_end_are_their_kernels_own(site: Site) -> None:
    """The container's limit ends them; the kernel can still be restarted."""
    assert attack(site, attacks.PROCESSES) < MAX_PROCESSES
    answer = site.gateway.request("POST", f"/api/kernels/{site.attacker}/restart")
    assert answer.status_code == 200, answer.text
    assert site.gateway.connect(site.attacker).execute("6 * 7").result == "42"


def test_memory_without_end_is_told_as_such(site: Site) -> None:
    """The kernel dies, and not its agent, which says why and starts it again."""
    before = container_of(site.attacker)["State"]["StartedAt"]
    execution = site.gateway.connect(site.attacker).execute(site.preamble + attacks.MEMORY)
    assert execution.status == "error"
    path = f"/api/kernels/{site.attacker}"
    wait_until(lambda: site.gateway.get(path)["execution_state"] == "idle", what="the restart")
    assert "memory" in site.gateway.get(path)["reason"]
    assert container_of(site.attacker)["State"]["StartedAt"] == before


def test_output_without_end_is_kept_within_the_limits(site: Site) -> None:
    """A gigabyte that no client reads: the agent keeps what the settings allow, and lives.

    What it has not read yet waits in the kernel, which may run out of memory.
    """
    path = f"/api/kernels/{site.attacker}"
    assert site.gateway.request("POST", f"{path}/restart").status_code == 200
    before = container_of(site.attacker)["State"]
    code = attacks.OUTPUT.format(lines=OUTPUT_LINES)
    answer = site.gateway.request("POST", f"{path}/execute", json={"code": code}, stream=True)
    assert answer.status_code == 200
    msg_id = json.loads(next(answer.iter_lines()))["msg_id"]
    answer.close()

    def has_ended() -> bool:
        assert resident_bytes(before["Pid"]) < MAX_AGENT_BYTES
        assert site.neighbour.execute("6 * 7").result == "42"
        known = site.gateway.get(f"{path}/executions")
        return any(each["msg_id"] == msg_id and each["ended"] for each in known)

    wait_until(has_ended, deadline=OUTPUT_SECONDS, what="the end of the output")
    wait_until(lambda: site.gateway.get(path)["execution_state"] == "idle", what="the kernel")
    assert site.gateway.connect(site.attacker).execute("6 * 7").result == "42"
    after = container_of(site.attacker)["State"]
    assert (after["Pid"], after["StartedAt"]) == (before["Pid"], before["StartedAt"])


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
