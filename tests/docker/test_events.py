"""Events of kernels in containers: what a container has used, by its control group."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.gateways.gateway import Gateway

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

CPU_SECONDS = 1.0
MEMORY_BYTES = 100_000_000
WORK = f"""
import time
held = b"x" * {MEMORY_BYTES}
begun = time.process_time()
while time.process_time() - begun < {CPU_SECONDS}:
    pass
"""


@pytest.fixture
def telling_gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway that writes its events to a file."""
    gateway = Gateway(tmp_path / "gateway", env={"EG_EVENT_LOG": str(tmp_path / "events.jsonl")})
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.close()


def test_container_is_told_with_what_it_has_used(telling_gateway: Gateway, tmp_path: Path) -> None:
    """By its owner, who is that of its name."""
    gateway = telling_gateway
    kernel_id = gateway.start_kernel("python_docker")
    assert gateway.connect(kernel_id).execute(WORK).status == "ok"
    gateway.delete_kernel(kernel_id)
    assert gateway.stop() == 0
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [event["kind"] for event in events] == ["requested", "ready", "ended"]
    ended = events[-1]
    assert (ended["owner"], ended["kernel_id"]) == (gateway.username, kernel_id)
    assert ended["launch"] == events[1]["launch"]
    assert CPU_SECONDS <= ended["usage"]["cpu_seconds"] <= 60
    assert ended["usage"]["memory_peak_bytes"] >= MEMORY_BYTES
    assert 0 < ended["usage"]["seconds"] < 600
    summed = gateway.run_command("usage", "--json", str(tmp_path / "events.jsonl"))
    (user,) = json.loads(summed.stdout)
    assert (user["user"], user["workloads"]) == (gateway.username, 1)
