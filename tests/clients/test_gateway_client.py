"""jupyter_server's gateway client: `jupyter server --gateway-url`, seen from its front end."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.clients.channels import Channels
from harness.clients.gateway_client import GatewayClient
from harness.clients.notebook_server import NotebookServer
from harness.clients.snippets import read_snippet
from harness.gateways.gateway import Gateway
from harness.waiting import wait_until

from jupyter_wire.messages import Codec

pytestmark = [pytest.mark.client, pytest.mark.kernel]

BINARY_COMM = """
from comm import create_comm
comm = create_comm(target_name="probe", data={"state": "open"}, buffers=[bytes(range(256))])
comm.send({"state": "sent"}, buffers=[b"\\xff\\x00" * 5])
"""
ECHO_COMM = """
def open_comm(comm, message):
    @comm.on_msg
    def echo(message):
        comm.send({}, buffers=[bytes(each) for each in message["buffers"]])
get_ipython().kernel.comm_manager.register_target("echo", open_comm)
"""
BUFFERS = (b"\x00\x01\xff\xfe", b"", b"\x80" * 70_000)


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
    """Messages with buffers arrive without them, with a notice under the cell; nothing hangs."""
    kernel_id = start_kernel(server, kernel_name)
    channels = server.connect(kernel_id)
    try:
        execution = channels.execute(BINARY_COMM)
        assert execution.status == "ok"
        comms = execution.of_type("comm_open") + execution.of_type("comm_msg")
        assert [message.content["data"]["state"] for message in comms] == ["open", "sent"]
        assert not any(message.buffers for message in comms)
        assert channels.execute("6*7").result == "42"
        notices = [
            message
            for message in channels.received
            if message.type == "stream" and message.content["name"] == "stderr"
        ]
        assert [notice.parent_id for notice in notices] == [execution.request_id]
        assert "docs/clients.md" in notices[0].content["text"]
    finally:
        channels.close()
        server.request("DELETE", f"/api/kernels/{kernel_id}")


def test_server_passes_binary_data_as_documented(own_gateway: Gateway, tmp_path: Path) -> None:
    """With the connection class of docs/clients.md, and still after the gateway was killed."""
    server = NotebookServer(own_gateway, tmp_path / "server")
    server.write_config(read_snippet("python", "binary-server"))
    try:
        server.start("server")
        kernel_id = start_kernel(server, "python3")
        channels = server.connect(kernel_id, Codec.V1)
        channels.execute(ECHO_COMM)
        channels.send("comm_open", {"comm_id": "1", "target_name": "echo", "data": {}})
        assert echoed(channels) == BUFFERS
        cell = channels.start_execution(
            "import time\nfor n in range(50): print(n); time.sleep(0.1)"
        )
        channels.receive_until(lambda message: message.type == "stream")
        own_gateway.kill()
        own_gateway.start()
        expected = "".join(f"{number}\n" for number in range(50))
        assert channels.finish_execution(cell).stdout == expected
        assert echoed(channels) == BUFFERS
        assert len(channels.execute("'x' * 12_000_000").result) == 12_000_002
        old = server.connect(kernel_id, Codec.LEGACY)
        assert old.execute(BINARY_COMM).status == "ok"
        old.close()
        channels.close()
    finally:
        server.close()


def echoed(channels: Channels) -> tuple[bytes, ...]:
    """Send buffers to the comm `1`; return what comes back."""
    channels.send("comm_msg", {"comm_id": "1", "data": {}}, buffers=BUFFERS)
    return channels.receive_until(lambda message: message.type == "comm_msg").buffers


def test_server_reconnects_after_the_gateway_was_killed(
    own_gateway: Gateway, kernel_name: str, tmp_path: Path
) -> None:
    """`kill -9` of the gateway under a printing cell: the front end gets every line of it."""
    server = NotebookServer(own_gateway, tmp_path / "server")
    try:
        server.start("server")
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


def test_any_user_name_and_http_basic_work(gateway: Gateway, tmp_path: Path) -> None:
    """Letters and spaces, which the server sends as they are; Basic, in place of its token."""
    server = NotebookServer(gateway, tmp_path / "server")
    server.variables = {
        "KERNEL_USERNAME": "josé garcía",
        "JUPYTER_GATEWAY_HTTP_USER": "guest",
        "JUPYTER_GATEWAY_HTTP_PWD": gateway.token,
    }
    try:
        server.start("server")
        assert "python3" in server.request("GET", "/api/kernelspecs").json()["kernelspecs"]
        assert server.request("GET", "/api/kernelspecs/python3").status_code == 200
        kernel_id = start_kernel(server, "python3")
        channels = server.connect(kernel_id)
        try:
            asked = "import os; os.environ['KERNEL_USERNAME']"
            assert channels.execute(asked).result == "'josé garcía'"
        finally:
            channels.close()
            server.request("DELETE", f"/api/kernels/{kernel_id}")
    finally:
        server.close()


@pytest.mark.parametrize("is_basic", [False, True], ids=["token", "basic"])
def test_server_with_the_token_of_a_user_runs_that_users_kernels(
    tmp_path: Path, *, is_basic: bool
) -> None:
    """Whatever name the server states; the gateway has no shared token."""
    path = tmp_path / "tokens.json"
    env = {
        "EG_AUTH_TOKEN": "",
        "EG_USER_TOKENS_FILE": str(path),
        "EG_ALLOWED_KERNELS": "python3",
    }
    gateway = Gateway(tmp_path / "gateway", env=env)
    token = gateway.run_command("tokens", "add", "ann").stdout.strip()
    user = GatewayClient(gateway.url, token=token, username=gateway.username)
    server = NotebookServer(user, tmp_path / "server")
    server.variables["KERNEL_USERNAME"] = "bob"
    if is_basic:
        server.variables["JUPYTER_GATEWAY_HTTP_USER"] = "any"
        server.variables["JUPYTER_GATEWAY_HTTP_PWD"] = token
    try:
        gateway.start()
        server.start("server")
        kernel_id = start_kernel(server, "python3")
        channels = server.connect(kernel_id)
        try:
            asked = "import os; os.environ['KERNEL_USERNAME']"
            assert channels.execute(asked).result == "'ann'"
        finally:
            channels.close()
            server.request("DELETE", f"/api/kernels/{kernel_id}")
    finally:
        server.close()
        user.disconnect()
        gateway.close()


def is_listening(port: int) -> bool:
    """Whether connections are taken; the log says so a moment before."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_refusal_of_basic_tells_the_operator_why(gateway: Gateway, tmp_path: Path) -> None:
    """With Enterprise Gateway's example of a password the token never arrives."""
    server = NotebookServer(gateway, tmp_path / "server")
    server.variables = {
        "JUPYTER_GATEWAY_HTTP_USER": "guest",
        "JUPYTER_GATEWAY_HTTP_PWD": "guest-password",
    }
    server.answers = lambda: is_listening(server.port)  # type: ignore[method-assign] # it is never healthy
    try:
        server.start("server")
        refused = server.request("GET", "/api/kernelspecs")
        assert refused.status_code == 401
        wait_until(lambda: "JUPYTER_GATEWAY_HTTP_USER" in refused.text + server.read_log())
    finally:
        server.close()
