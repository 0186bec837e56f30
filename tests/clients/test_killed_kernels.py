"""Kernels that are killed together with their agents: each request ends, and clients say why."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness.clients.channels import Channels
from harness.clients.notebooks import write_notebook
from harness.clients.snippets import run_snippet
from harness.engines.leftovers import find_kernel_containers, kill_local_agent, kill_workload
from harness.gateways.gateway import Gateway
from harness.waiting import wait_until

from jupyter_wire.messages import Codec

pytestmark = [pytest.mark.client, pytest.mark.kernel]

ENDLESS = "import time\nprint('in the cell', flush=True)\nwhile True:\n    time.sleep(1)"
ENDED = "The kernel's workload ended: "
NOT_RUN = " This was not run."


def kill_container(kernel_id: str) -> None:
    """`docker kill`."""
    (container,) = find_kernel_containers(kernel_id)
    container.kill()


def remove_container(kernel_id: str) -> None:
    """`docker rm -f`."""
    (container,) = find_kernel_containers(kernel_id)
    container.remove(force=True)


def kill_paused_container(kernel_id: str) -> None:
    """`docker pause`, then `docker kill`: what was sent in between, the agent never reads."""
    (container,) = find_kernel_containers(kernel_id)
    container.pause()
    container.kill()


def await_cell(channels: Channels) -> None:
    """Receive until `ENDLESS` has printed."""
    channels.receive_until(lambda message: message.content.get("text") == "in the cell\n")


@pytest.mark.parametrize(
    ("kernel_name", "end"),
    [
        ("python3", kill_local_agent),
        *(
            pytest.param("python_docker", end, marks=pytest.mark.docker)
            for end in (kill_container, remove_container, kill_paused_container)
        ),
    ],
    ids=["local agent", "killed", "removed", "paused and killed"],
)
@pytest.mark.parametrize("codec", Codec)
def test_requests_fail_on_the_open_websocket(
    gateway: Gateway, kernel_name: str, end: Callable[[str], None], codec: Codec
) -> None:
    """Those that are open, the last of them sent a moment before, and later ones."""
    kernel_id = gateway.start_kernel(kernel_name, {"KERNEL_LAUNCH_TIMEOUT": "120"})
    channels = gateway.connect(kernel_id, codec=codec)
    try:
        open_ids = [channels.start_execution(ENDLESS)]
        await_cell(channels)
        open_ids.append(channels.start_execution("1"))
        end(kernel_id)
        for msg_id in open_ids:
            (error,) = channels.finish_execution(msg_id).of_type("error")
            assert error.content["ename"] == "KernelDied"
            assert error.content["evalue"].startswith(ENDED)
            assert NOT_RUN not in error.content["evalue"]
        late = channels.execute("1")
        assert late.of_type("error")[0].content["evalue"].endswith(NOT_RUN)
        info = channels.request("kernel_info_request").content
        assert info["language_info"]["name"] == "python"

        restart = gateway.request("POST", f"/api/kernels/{kernel_id}/restart", timeout=150)
        assert restart.status_code == 200, restart.text
        channels.receive_until_lost()
        channels = gateway.connect(kernel_id, codec=codec)
        assert channels.execute("6*7").result == "42"
    finally:
        channels.close()
        gateway.delete_kernel(kernel_id)


@pytest.mark.parametrize("runner", ["nbclient", "papermill"])
def test_run_of_a_notebook_fails_with_the_reason(
    gateway: Gateway, kernel_name: str, tmp_path: Path, runner: str
) -> None:
    """At the cell that ran; papermill's notebook has it."""
    write_notebook(
        tmp_path / "notebook.ipynb", "python3", ["1", ENDLESS, "print()"], tags={0: "parameters"}
    )

    def kill_in_cell() -> None:
        (kernel_id,) = wait_until(gateway.list_kernels, what="the runner's kernel")
        channels = gateway.connect(kernel_id, replay="running")
        await_cell(channels)
        kill_workload(kernel_id)
        channels.close()

    with ThreadPoolExecutor() as pool:
        killing = pool.submit(kill_in_cell)
        run = run_snippet(gateway, "python", runner, cwd=tmp_path, kernel_name=kernel_name)
        killing.result()
    assert run.returncode != 0
    assert f"KernelDied: {ENDED}" in run.stderr
    if runner == "papermill":
        assert f"KernelDied: {ENDED}" in (tmp_path / "executed.ipynb").read_text()
    gateway.wait_until_no_kernels()


@pytest.mark.parametrize("accept", ["application/x-ndjson", "text/event-stream"])
def test_stream_of_an_execution_ends_with_the_reason(
    gateway: Gateway, kernel_name: str, accept: str
) -> None:
    """As for any kernel that dies; a program that asks again is told, too."""
    kernel_id = gateway.start_kernel(kernel_name)
    kernel = f"/api/kernels/{kernel_id}"
    with gateway.request(
        "POST",
        f"{kernel}/execute",
        json={"code": ENDLESS},
        headers={"Accept": accept},
        stream=True,
    ) as answer:
        lines = (line.decode() for line in answer.iter_lines(chunk_size=None))
        data = (line.removeprefix("data: ") for line in lines if "{" in line)
        records = (json.loads(line) for line in data)
        msg_id = next(records)["msg_id"]
        next(record for record in records if record.get("msg_type") == "stream")
        kill_workload(kernel_id)
        error, reply = (record for record in records if record["event"] == "message")
    assert [error["msg_type"], reply["msg_type"]] == ["error", "execute_reply"]
    assert reply["content"]["status"] == "error"
    for record in (error, reply):
        assert record["parent_header"]["msg_id"] == msg_id
        assert record["content"]["evalue"].startswith(ENDED)
    again = gateway.request("GET", f"{kernel}/executions/{msg_id}?after=1")
    assert again.status_code == 409
    assert "the kernel's workload ended: " in again.json()["message"]
    gateway.delete_kernel(kernel_id)
