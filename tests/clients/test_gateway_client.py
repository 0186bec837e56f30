"""jupyter_server's gateway client: `jupyter server --gateway-url`, seen from its front end."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.gateway import Gateway
from harness.notebook_server import NotebookServer
from harness.waiting import wait_until

pytestmark = [pytest.mark.client, pytest.mark.kernel]

BINARY_COMM = """
from comm import create_comm
comm = create_comm(target_name="probe", data={"state": "open"}, buffers=[bytes(range(256))])
comm.send({"state": "sent"}, buffers=[b"\\xff\\x00" * 5])
"""


@pytest.fixture(scope="module")
def server(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotebookServer]:
    """A Jupyter server in front of the shared gateway."""
    server = NotebookServer(gateway, tmp_path_factory.mktemp("server"))
    try:
        server.start("server")
        yield server
    finally:
        server.close()


def start_kernel(server: NotebookServer, kernel_name: str) -> str:
    """Start a kernel through the Jupyter server; returns its id."""
    response = server.request("POST", "/api/kernels", json={"name": kernel_name})
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


def test_kernelspecs_and_logos_come_from_the_gateway(server: NotebookServer) -> None:
    """The server's kernelspecs are the gateway's, and their logos load through it."""
    document = server.request("GET", "/api/kernelspecs").json()
    assert {"python3", "python_docker"} <= set(document["kernelspecs"])
    assert document["default"] in document["kernelspecs"]
    resources = document["kernelspecs"]["python_docker"]["resources"]
    logo = server.request("GET", resources["logo-64x64"])
    assert logo.status_code == 200
    assert logo.content.startswith(b"\x89PNG")


def test_kernel_lives_its_whole_life(server: NotebookServer, kernel_name: str) -> None:
    """Start, list, execute, interrupt, restart and shut down through the Jupyter server."""
    kernel_id = start_kernel(server, kernel_name)
    listed = {model["id"]: model for model in server.request("GET", "/api/kernels").json()}
    assert listed[kernel_id]["name"] == kernel_name
    channels = server.connect(kernel_id)
    try:
        assert channels.execute("1+1").result == "2"

        request_id = channels.start_execution("x = 1\nprint('on')\nwhile True: pass")
        channels.receive_until(lambda message: message.type == "stream")
        assert server.request("POST", f"/api/kernels/{kernel_id}/interrupt").status_code == 204
        interrupted = channels.finish_execution(request_id)
        assert interrupted.of_type("error")[0].content["ename"] == "KeyboardInterrupt"

        restart = server.request("POST", f"/api/kernels/{kernel_id}/restart")
        assert restart.status_code == 200
        assert channels.execute("x").of_type("error")[0].content["ename"] == "NameError"
    finally:
        channels.close()
    assert server.request("DELETE", f"/api/kernels/{kernel_id}").status_code == 204
    assert server.request("GET", f"/api/kernels/{kernel_id}").status_code == 404
    server.gateway.wait_until_gone(kernel_id)


def test_binary_buffers_do_not_hang_the_server(server: NotebookServer, kernel_name: str) -> None:
    """A message with buffers arrives without them, with one warning; nothing hangs."""
    kernel_id = start_kernel(server, kernel_name)
    channels = server.connect(kernel_id)
    try:
        execution = channels.execute(BINARY_COMM)
        assert execution.status == "ok"
        comms = execution.of_type("comm_open") + execution.of_type("comm_msg")
        assert [message.content["data"]["state"] for message in comms] == ["open", "sent"]
        assert not any(message.buffers for message in comms)
        assert channels.execute("6*7").result == "42"
        warnings = [
            message.content["text"]
            for message in channels.received
            if message.type == "stream" and message.content["name"] == "stderr"
        ]
        assert len(warnings) == 1, warnings
        assert "buffer" in warnings[0].lower()
    finally:
        channels.close()
        server.request("DELETE", f"/api/kernels/{kernel_id}")


def test_server_reconnects_after_the_gateway_was_killed(
    own_gateway: Gateway, kernel_name: str, tmp_path: Path
) -> None:
    """`kill -9` of the gateway under a printing cell: the front end gets every line of it."""
    server = NotebookServer(own_gateway, tmp_path / "server")
    server.start("server")
    try:
        kernel_id = start_kernel(server, kernel_name)
        channels = server.connect(kernel_id)
        code = "import time\nfor n in range(300):\n    print(n, flush=True)\n    time.sleep(0.02)"
        request_id = channels.start_execution(code)
        channels.receive_until(lambda message: message.type == "stream")
        own_gateway.kill()
        own_gateway.start()
        execution = channels.finish_execution(request_id)
        assert execution.status == "ok"
        assert execution.stdout == "".join(f"{number}\n" for number in range(300))
        assert channels.execute("6*7").result == "42"
        channels.close()
        listed = wait_until(lambda: server.request("GET", "/api/kernels").json())
        assert [model["id"] for model in listed] == [kernel_id]
        assert server.request("DELETE", f"/api/kernels/{kernel_id}").status_code == 204
    finally:
        server.close()
