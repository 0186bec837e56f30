"""Programs that execute code over HTTP: the examples of the page, with curl and requests."""

import json
from pathlib import Path

import pytest
from harness.clients.executions import stdout
from harness.clients.snippets import run_snippet
from harness.engines.leftovers import find_kernel_containers
from harness.gateways.gateway import Gateway

pytestmark = [pytest.mark.client, pytest.mark.kernel]


def test_documented_curl_prints_records(gateway: Gateway, kernel_name: str, tmp_path: Path) -> None:
    """It starts a kernel, executes, and deletes it."""
    run = run_snippet(gateway, "sh", "curl", cwd=tmp_path, kernel_name=kernel_name)
    assert run.returncode == 0, run.stderr
    records = [json.loads(line) for line in run.stdout.splitlines()]
    assert records[0]["event"] == "execution"
    assert records[-1]["content"]["status"] == "ok"
    assert stdout(records) == "42\n"
    gateway.wait_until_no_kernels()


def test_documented_program_prints_output(
    gateway: Gateway, kernel_name: str, tmp_path: Path
) -> None:
    """Thirty lines that survive cut connections."""
    run = run_snippet(gateway, "python", "execute", cwd=tmp_path, kernel_name=kernel_name)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "0\n1\n2\n42\n"
    gateway.wait_until_no_kernels()


@pytest.mark.docker
def test_killed_container_ends_the_stream_with_the_reason(gateway: Gateway) -> None:
    """Its agent is gone, so the gateway says it; and a program that asks again is told, too."""
    kernel_id = gateway.start_kernel("python_docker")
    kernel = f"/api/kernels/{kernel_id}"
    body = {"code": "import time\ntime.sleep(100)"}
    with gateway.request("POST", f"{kernel}/execute", json=body, stream=True) as answer:
        lines = answer.iter_lines(chunk_size=None)
        records = (json.loads(line) for line in lines)
        msg_id = next(records)["msg_id"]
        assert next(records)["content"] == {"execution_state": "busy"}
        (container,) = find_kernel_containers(kernel_id)
        container.kill()
        *_, last = records
    assert last["msg_type"] == "execute_reply"
    assert "exit code 137 (killed)" in last["content"]["evalue"]
    again = gateway.request("GET", f"{kernel}/executions/{msg_id}?after=1")
    assert again.status_code == 409
    assert "exit code 137 (killed)" in again.json()["message"]
    gateway.delete_kernel(kernel_id)
