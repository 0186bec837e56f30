"""What a kernel prints while its client is away, and a replica dies, waits in the kernel's log."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness.clients.cells import publish_megabytes
from harness.clients.channels import Channels, Execution, join_streams
from harness.clients.notebook_server import NotebookServer
from harness.clients.snippets import client_env, read_exports
from harness.gateways.gateway import Gateway
from harness.kernels.kernelspecs import add_setting
from harness.waiting import wait_until

from jupyter_wire.messages import Codec, Message

pytestmark = [pytest.mark.client, pytest.mark.kernel]

LINES = 1000
PAUSE = 0.01
PRINTING = f"""\
import time
for number in range({LINES}):
    print(number, flush=True)
    time.sleep({PAUSE})
'done'"""
PRINTED = "".join(f"{number}\n" for number in range(LINES))

KERNEL_CLIENT = """\
import asyncio, json, sys
from jupyter_client.session import Session
from jupyter_server.gateway.managers import GatewayKernelClient

async def connect(kernel_id, session):
    client = GatewayKernelClient(kernel_id, session=session)
    await client.start_channels()
    return client

async def main(kernel_id, code):
    session = Session()
    texts = {}

    async def read(client, is_last):
        while True:
            message = await client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") == request:
                if message["msg_type"] == "stream":
                    texts[message["header"]["msg_id"]] = message["content"]["text"]
                if is_last(message):
                    return

    client = await connect(kernel_id, session)
    request = client.execute(code)
    await read(client, lambda message: "20\\n" in message["content"].get("text", ""))
    client.stop_channels()
    print("away", flush=True)
    sys.stdin.readline()
    client = await connect(kernel_id, session)
    client.kernel_info()
    await read(client, lambda message: message["content"].get("execution_state") == "idle")
    reply = {"parent_header": {}}
    while reply["parent_header"].get("msg_id") != request:
        reply = await client.get_shell_msg(timeout=60)
    client.stop_channels()
    json.dump([reply["content"]["status"], "".join(texts.values())], sys.stdout)

asyncio.run(main(*sys.argv[1:]))
"""
"""The kernel client of nbclient and papermill loses its connection, and another one goes on."""


OLD_JUPYTER_SERVER = """\
from jupyter_server.gateway.connections import GatewayWebSocketConnection

class OldConnection(GatewayWebSocketConnection):
    session_id = ""

c.ServerApp.kernel_websocket_connection_class = OldConnection
"""
"""Before 2.14.2 it named no session to the gateway."""


@pytest.fixture
def replicas(tmp_path: Path, short_delays: dict[str, str]) -> Iterator[tuple[Gateway, Gateway]]:
    """Two gateways with the same kernels, local ones too, of which only the first runs."""
    shared = {
        **short_delays,
        "EG_CLUSTER_SECRET": "what-both-replicas-share",
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
    }
    with ExitStack() as stack:
        first = Gateway(tmp_path / "first", env=shared)
        stack.callback(first.close)
        second = Gateway(
            tmp_path / "second", env=shared, token=first.token, username=first.username
        )
        stack.callback(second.close)
        first.start()
        yield first, second


def has_printed_some(message: Message) -> bool:
    """Whether a line with a number from 20 on is in a message."""
    lines = message.content["text"].split() if message.type == "stream" else []
    return bool(lines) and int(lines[-1]) >= 20


def wait_until_idle(gateway: Gateway, kernel_id: str) -> None:
    """Wait for the end of the cell that the kernel runs."""
    wait_until(
        lambda: gateway.list_kernels()[kernel_id]["execution_state"] == "idle",
        deadline=240,
        what="the end of the cell",
    )


def lose(gateway: Gateway, client: Channels) -> None:
    """Have the client go away with all that it has acknowledged, then kill its replica."""
    client.socket.abort()
    client.receive_until_lost()
    gateway.kill()


def check(received: list[Message], request_id: str) -> None:
    """Check that a cell with `PRINTING` is there from its first message to its last."""
    execution = Execution(request_id)
    for message in received:
        execution.add(message)
    assert execution.stdout == PRINTED
    assert execution.result == "'done'"
    iopub = [message for message in execution.messages if message.channel == "iopub"]
    assert iopub[0].content["execution_state"] == "busy"
    assert iopub[-1].content["execution_state"] == "idle"
    assert execution.status == "ok"


def test_everything_waits_for_the_client_at_another_replica(
    replicas: tuple[Gateway, Gateway], kernel_name: str
) -> None:
    """The cell ends while the client is away and its replica is dead: no line lacks."""
    first, second = replicas
    kernel_id = first.start_kernel(kernel_name)
    client = first.connect(kernel_id)
    request_id = client.start_execution(PRINTING)
    client.receive_until(has_printed_some)
    lose(first, client)
    second.start()
    wait_until_idle(second, kernel_id)
    again = second.connect(kernel_id, session_id=client.session_id)
    again.finish_execution(request_id)
    check(join_streams(client.received, again.received), request_id)


@pytest.mark.parametrize("codec", Codec)
def test_client_without_session_id_is_known_by_its_messages(
    replicas: tuple[Gateway, Gateway], codec: Codec
) -> None:
    """Its first request with the same `header.session` gets it what it missed, reply included."""
    first, second = replicas
    kernel_id = first.start_kernel("python3")
    client = first.connect(kernel_id, is_anonymous=True, codec=codec)
    request_id = client.start_execution(PRINTING)
    client.receive_until(has_printed_some)
    lose(first, client)
    second.start()
    wait_until_idle(second, kernel_id)
    again = second.connect(kernel_id, session_id=client.session_id, is_anonymous=True, codec=codec)
    again.send("kernel_info_request")
    again.finish_execution(request_id)
    check(client.received + again.received, request_id)


def test_front_end_of_an_old_jupyter_server_misses_nothing(
    own_gateway: Gateway, tmp_path: Path
) -> None:
    """It connects again by itself; the next request from the front end brings what lacks.

    Until then the new connection is a stranger's, so later lines may come before.
    """
    server = NotebookServer(own_gateway, tmp_path / "server")
    server.write_config(OLD_JUPYTER_SERVER)
    try:
        server.start("server")
        response = server.request("POST", "/api/kernels", json={"name": "python3"})
        kernel_id = response.json()["id"]
        front_end = server.connect(kernel_id)
        request_id = front_end.start_execution(PRINTING)
        front_end.receive_until(has_printed_some)
        own_gateway.kill()
        own_gateway.start()
        wait_until(
            lambda: own_gateway.list_kernels()[kernel_id]["connections"],
            what="the server's next connection",
        )
        reply = front_end.request("kernel_info_request")
        assert reply.content["status"] == "ok"
        lines = front_end.finish_execution(request_id).stdout.splitlines()
        assert sorted(lines, key=int) == PRINTED.splitlines()
        front_end.close()
    finally:
        server.close()


def test_kernel_client_of_notebook_runners_misses_nothing(
    own_gateway: Gateway, tmp_path: Path
) -> None:
    """It names no session either; the one that goes on after a crash uses its `header.session`."""
    kernel_id = own_gateway.start_kernel("python3")
    (tmp_path / "client.py").write_text(KERNEL_CLIENT)
    exports = read_exports(own_gateway, "environment", "nbclient-environment")
    # What a client has received and not yet looked at when it ends is acknowledged, and lost.
    wait = f"import os\nwhile not os.path.exists('{tmp_path}/away'): time.sleep(0.05)\n"
    first, rest = "print(*range(21), sep='\\n', flush=True)\n", PRINTING.replace("(", "(21, ", 1)
    command = [sys.executable, "client.py", kernel_id, f"import time\n{first}{wait}{rest}"]
    with subprocess.Popen(
        ["bash", "-euc", f'{exports}exec "$@"', "sh", *command],
        cwd=tmp_path,
        env=client_env(own_gateway, tmp_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as runner:
        assert runner.stdout is not None
        assert runner.stdout.readline() == "away\n"
        (tmp_path / "away").touch()
        own_gateway.kill()
        own_gateway.start()
        wait_until_idle(own_gateway, kernel_id)
        output, _ = runner.communicate("\n", timeout=120)
    assert json.loads(output) == ["ok", PRINTED]


@pytest.mark.docker
def test_container_with_little_memory_keeps_what_no_client_reads(own_gateway: Gateway) -> None:
    """100 MB beside a kernel in 160 MiB: it lives, and the client gets all of it afterwards."""
    kernels = own_gateway.home / "share/jupyter/kernels"
    shutil.copytree(kernels / "python_docker", kernels / "small")
    script = kernels / "small/scripts/launch_docker.py"
    script.write_text(add_setting(script.read_text(), "mem_limit", "'160m'"))
    kernel_id = own_gateway.start_kernel("small")
    client = own_gateway.connect(kernel_id)
    client.execute("mine = 'kept'")
    request_id = client.start_execution(publish_megabytes(100))
    client.receive_until(lambda message: message.content.get("execution_state") == "busy")
    lose(own_gateway, client)
    own_gateway.start()
    wait_until_idle(own_gateway, kernel_id)
    again = own_gateway.connect(kernel_id, session_id=client.session_id)
    again.finish_execution(request_id)
    execution = Execution(request_id)
    for message in client.received + again.received:
        execution.add(message)
    assert [int(line[:3]) for line in execution.stdout.splitlines()] == list(range(100))
    assert again.execute("mine").result == "'kept'"
    again.close()
