"""`kill -9` of the replica that streams an execution: another one continues it."""

import contextlib
import json
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from harness.clients.executions import check_order, messages, reply, stdout
from harness.clients.snippets import client_env, read_snippet
from harness.gateways.gateway import START_DEADLINE, Gateway
from harness.waiting import wait_until

pytestmark = [pytest.mark.client, pytest.mark.kernel]

LINES = 3000
CODE = (
    "import time\n"
    f"for number in range({LINES}):\n"
    "    print(number, flush=True)\n"
    "    time.sleep(0.002)"
)
PARTS = (
    "import time\n"
    "for part in range(4):\n"
    "    for number in range(part * 750, (part + 1) * 750):\n"
    "        print(number, flush=True)\n"
    "        time.sleep(0.002)\n"
    "    if part < 3: input()"
)
"""Prints as much, and waits before each further part for the client to go on."""


@pytest.fixture
def replicas(tmp_path: Path, short_delays: dict[str, str]) -> Iterator[list[Gateway]]:
    """Two running gateways that share their kernels, local ones too."""
    with tempfile.TemporaryDirectory(prefix="egt") as shared, contextlib.ExitStack() as stack:
        env = {
            **short_delays,
            "EG_CLUSTER_SECRET": secrets.token_hex(32),
            "JUPYTER_RUNTIME_DIR": f"{shared}/runtime",
            "TMPDIR": shared,
        }
        one = Gateway(tmp_path / "0", env=env)
        other = Gateway(tmp_path / "1", env=env, token=one.token, username=one.username)
        for gateway in (one, other):
            stack.callback(gateway.close)
            gateway.start()
        yield [one, other]


def read_and_kill(
    gateway: Gateway, answer: requests.Response, kill_after: int
) -> list[dict[str, Any]]:
    """Read an answer until a line was printed, kill its gateway, and return what came in all."""
    records: list[dict[str, Any]] = []
    is_killed = False
    assert answer.status_code == 200, answer.text
    with contextlib.suppress(requests.exceptions.ChunkedEncodingError, requests.ConnectionError):
        for line in answer.iter_lines(chunk_size=None):
            records.append(json.loads(line))
            lines = stdout(records[-1:]).split()
            if lines and int(lines[-1]) >= kill_after and not is_killed:
                gateway.kill()
                is_killed = True
    assert is_killed
    return records


def go_on(gateway: Gateway, execution: str) -> None:
    """Answer the code's prompt, once it has come to it."""

    def is_taken() -> bool:
        answer = gateway.request("POST", f"{execution}/input", json={"value": ""})
        return answer.status_code == 204

    wait_until(is_taken, what="the prompt")


def test_execution_is_continued_by_another_replica(
    replicas: list[Gateway], kernel_name: str
) -> None:
    """Over three kills nothing is lost or repeated, and the code runs once."""
    one, other = replicas
    kernel = f"/api/kernels/{one.start_kernel(kernel_name)}"
    key = {"Idempotency-Key": "once"}
    post = {"json": {"code": PARTS, "allow_stdin": True}, "headers": key, "stream": True}
    records = read_and_kill(one, one.request("POST", f"{kernel}/execute", **post), 300)
    execution = f"{kernel}/executions/{records[0]['msg_id']}"

    for number, (serving, killed) in enumerate(((other, one), (one, other)), 1):
        answer = serving.request("GET", f"{execution}?after={records[-1]['n']}", stream=True)
        killed.start_process()
        go_on(serving, execution)
        records += messages(read_and_kill(serving, answer, number * 750 + 300))
        wait_until(killed.answers, deadline=START_DEADLINE, what="the killed replica")
    go_on(other, execution)
    answer = other.request("GET", f"{execution}?after={records[-1]['n']}", stream=True)
    records += messages(json.loads(line) for line in answer.iter_lines(chunk_size=None))

    check_order(records)
    assert stdout(records) == "".join(f"{number}\n" for number in range(LINES))
    assert reply(records)["status"] == "ok"
    again = other.request("POST", f"{kernel}/execute", **post)
    assert [json.loads(line) for line in again.iter_lines()][1:] == records[1:]
    assert len(other.get(f"{kernel}/executions")) == 1


def test_documented_program_goes_on_through_the_next_gateway(
    own_gateway: Gateway, kernel_name: str, tmp_path: Path
) -> None:
    """The example of docs/clients.md prints each line once."""
    program = tmp_path / "program.py"
    example = read_snippet("python", "execute").replace("python_docker", kernel_name)
    code = r'"for i in range(3): print(i)\n6 * 7"'
    assert code in example
    program.write_text(example.replace(code, repr(CODE)).replace('end=""', 'end="", flush=True'))
    env = {
        **client_env(own_gateway, tmp_path),
        "JUPYTER_GATEWAY_URL": own_gateway.url,
        "JUPYTER_GATEWAY_AUTH_TOKEN": own_gateway.token,
    }
    with subprocess.Popen(
        [sys.executable, program], env=env, cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        printed = [running.stdout.readline() for _ in range(300)]
        own_gateway.kill()
        own_gateway.start()
        printed += running.stdout.readlines()
    assert running.returncode == 0
    assert "".join(printed) == "".join(f"{number}\n" for number in range(LINES))
    own_gateway.wait_until_no_kernels()
