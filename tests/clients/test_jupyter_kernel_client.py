"""jupyter-kernel-client: REST with a Bearer token, WebSocket with the token in the query."""

from pathlib import Path
from typing import Any

import pytest
from harness.clients.snippets import run_snippet
from harness.gateways.gateway import START_DEADLINE, Gateway
from jupyter_kernel_client import JupyterKernelClient

pytestmark = [pytest.mark.client, pytest.mark.kernel]


def test_documented_example_prints_the_answer(gateway: Gateway, tmp_path: Path) -> None:
    """The example of the page starts the default kernel, runs a line in it and shuts it down."""
    env = {"REQUEST_TIMEOUT": f"{START_DEADLINE:.0f}"}
    run = run_snippet(gateway, "python", "jupyter-kernel-client", cwd=tmp_path, env=env)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "42"
    gateway.wait_until_no_kernels()


def test_kernel_lives_its_whole_life(gateway: Gateway, kernel_name: str) -> None:
    """Start, list, execute, restart and stop."""
    client = JupyterKernelClient(
        server_url=gateway.url,
        token=gateway.token,
        username=gateway.username,
    )
    client.start(name=kernel_name, timeout=START_DEADLINE)
    try:
        kernel_id = client.id
        assert kernel_id in {model["id"] for model in client.list_kernels()}
        reply = client.execute("import time\nprint('on')\n6 * 7")
        assert reply["status"] == "ok"
        *printed, result = reply["outputs"]
        assert "".join(output["text"] for output in printed) == "on\n"
        assert result["data"]["text/plain"] == "42"
        assert client.execute("name = 'Ada'\nname")["outputs"][0]["data"]["text/plain"] == "'Ada'"

        client.restart(timeout=START_DEADLINE)
        assert client.execute("name")["outputs"][0]["ename"] == "NameError"
        assert client.is_alive()
    finally:
        client.stop()
    assert gateway.request("GET", f"/api/kernels/{kernel_id}").status_code == 404


def test_interrupt_ends_an_endless_cell(gateway: Gateway, kernel_name: str) -> None:
    """`interrupt()` ends `while True`, and the kernel goes on."""
    client = JupyterKernelClient(
        server_url=gateway.url, token=gateway.token, username=gateway.username
    )
    client.start(name=kernel_name, timeout=START_DEADLINE)
    try:
        interrupted = []

        def interrupt_once(message: dict[str, Any]) -> None:
            if not interrupted and message["header"]["msg_type"] == "stream":
                interrupted.append(True)
                client.interrupt()

        client._manager.client.execute_interactive(
            "print('on')\nwhile True: pass", output_hook=interrupt_once, timeout=60
        )
        assert interrupted
        assert client.execute("1 + 1")["outputs"][0]["data"]["text/plain"] == "2"
    finally:
        client.stop()


def test_binary_data_reaches_the_client(gateway: Gateway, kernel_name: str) -> None:
    """Buffers of a cell's messages arrive, and no notice that they are missing."""
    client = JupyterKernelClient(
        server_url=gateway.url, token=gateway.token, username=gateway.username
    )
    client.start(name=kernel_name, timeout=START_DEADLINE)
    try:
        messages: list[dict[str, Any]] = []
        client._manager.client.execute_interactive(
            "import comm\ncomm.create_comm(target_name='t', buffers=[bytes(range(256))])",
            output_hook=messages.append,
            timeout=60,
        )
        opened = [each for each in messages if each["header"]["msg_type"] == "comm_open"]
        assert [list(map(bytes, each["buffers"])) for each in opened] == [[bytes(range(256))]]
        assert not [each for each in messages if each["header"]["msg_type"] == "stream"]
    finally:
        client.stop()


def test_client_that_reconnects_gets_everything(own_gateway: Gateway) -> None:
    """With its `reconnect_interval`: every line, and the reply, though the gateway was killed."""
    client = JupyterKernelClient(
        server_url=own_gateway.url,
        token=own_gateway.token,
        username=own_gateway.username,
        client_kwargs={"reconnect_interval": 1},
    )
    client.start(name="python3", timeout=START_DEADLINE)
    try:
        texts: dict[str, str] = {}

        def kill_once(message: dict[str, Any]) -> None:
            if message["header"]["msg_type"] == "stream":
                if not texts:
                    own_gateway.kill()
                    own_gateway.start()
                texts[message["header"]["msg_id"]] = message["content"]["text"]

        reply = client._manager.client.execute_interactive(
            "import time\nfor n in range(50): print(n); time.sleep(0.1)",
            output_hook=kill_once,
            timeout=2 * START_DEADLINE,
        )
        assert reply["content"]["status"] == "ok"
        assert "".join(texts.values()) == "".join(f"{number}\n" for number in range(50))
    finally:
        client.stop()
