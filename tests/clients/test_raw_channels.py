"""The WebSocket as clients of both codecs see it, several of them at once, on one kernel."""

import pytest
from harness.clients.channels import Channels, Execution
from harness.gateways.gateway import Gateway

from jupyter_wire.messages import Codec
from kernel_agent.launch.home import unix_name

pytestmark = [pytest.mark.client, pytest.mark.kernel]

ECHO_COMM = """
def open_comm(comm, message):
    @comm.on_msg
    def echo(message):
        buffers = [bytes(each) for each in message["buffers"]]
        comm.send({"echo": message["content"]["data"]}, buffers=buffers)
get_ipython().kernel.comm_manager.register_target("echo", open_comm)
"""
BUFFERS = (b"\x00\x01\xff\xfe", b"", b"\x80" * 70_000)


@pytest.mark.parametrize("codec", Codec)
def test_execution_yields_result_output_and_states(
    gateway: Gateway, kernel: str, codec: Codec
) -> None:
    """`1+1` gives busy, input, result, idle and a reply; a print its text; a failure its error."""
    channels = gateway.connect(kernel, codec=codec)
    try:
        assert channels.request("kernel_info_request").content["language_info"]["name"] == "python"
        execution = channels.execute("1+1")
        assert (execution.status, execution.result) == ("ok", "2")
        types = [message.type for message in execution.messages if message.channel == "iopub"]
        assert types == ["status", "execute_input", "execute_result", "status"]
        assert channels.execute("print('é' * 3)").stdout == "ééé\n"
        failure = channels.execute("1/0")
        assert failure.status == "error"
        assert failure.of_type("error")[0].content["ename"] == "ZeroDivisionError"
    finally:
        channels.close()


def test_codecs_share_a_kernel(gateway: Gateway, kernel: str) -> None:
    """What one client runs all others see, each in its codec; only who asked gets a reply."""
    clients = [
        gateway.connect(kernel, codec=codec)
        for codec in (Codec.V1, Codec.LEGACY, Codec.V1, Codec.LEGACY)
    ]
    try:
        for asking in clients:
            request_id = asking.start_execution("x = 20 + 1\nprint('seen by all')\nx * 2")
            assert asking.finish_execution(request_id).result == "42"
            for watching in clients:
                if watching is asking:
                    continue
                seen = watch_execution(watching, request_id)
                assert seen.stdout == "seen by all\n"
                assert seen.result == "42"
                assert not seen.of_type("execute_reply")
    finally:
        for client in clients:
            client.close()


def watch_execution(channels: Channels, request_id: str) -> Execution:
    """Receive another client's execution until its idle status."""
    execution = Execution(request_id)
    while True:
        message = channels.receive()
        execution.add(message)
        if message.parent_id == request_id and message.content.get("execution_state") == "idle":
            return execution


@pytest.mark.parametrize("codec", Codec)
def test_binary_buffers_pass_both_ways(gateway: Gateway, kernel: str, codec: Codec) -> None:
    """A comm echoes binary buffers byte for byte, an empty and a 70 kB one among them."""
    channels = gateway.connect(kernel, codec=codec)
    watching = gateway.connect(kernel, codec=Codec.LEGACY if codec is Codec.V1 else Codec.V1)
    try:
        assert channels.execute(ECHO_COMM).status == "ok"
        comm = {"comm_id": "c1", "target_name": "echo", "data": {}}
        channels.send("comm_open", comm)
        channels.send("comm_msg", {"comm_id": "c1", "data": {"n": 1}}, buffers=BUFFERS)
        for client in (channels, watching):
            echo = client.receive_until(lambda message: message.type == "comm_msg")
            assert echo.content["data"] == {"echo": {"n": 1}}
            assert echo.buffers == BUFFERS
    finally:
        channels.close()
        watching.close()


def test_input_is_asked_of_one_client_only(gateway: Gateway, kernel: str) -> None:
    """`input()` prompts only the client that runs the cell."""
    asking = gateway.connect(kernel)
    watching = gateway.connect(kernel, codec=Codec.LEGACY)
    try:
        request_id = asking.start_execution("name = input('who? ')\nprint(name)", allow_stdin=True)
        prompt = asking.receive_until(lambda message: message.type == "input_request")
        assert (prompt.channel, prompt.content["prompt"]) == ("stdin", "who? ")
        asking.send("input_reply", {"value": "Ada"}, channel="stdin", parent_header=prompt.header)
        assert asking.finish_execution(request_id).stdout == "Ada\n"
        assert not watch_execution(watching, request_id).of_type("input_request")
    finally:
        asking.close()
        watching.close()


def test_interrupt_and_restart_reach_connected_clients(gateway: Gateway, kernel: str) -> None:
    """An interrupt ends an endless cell, a restart forgets variables; the WebSocket stays open."""
    channels = gateway.connect(kernel)
    try:
        request_id = channels.start_execution("x = 1\nprint('on')\nwhile True: pass")
        channels.receive_until(lambda message: message.type == "stream")
        assert gateway.request("POST", f"/api/kernels/{kernel}/interrupt").status_code == 204
        interrupted = channels.finish_execution(request_id)
        assert interrupted.of_type("error")[0].content["ename"] == "KeyboardInterrupt"

        restart = gateway.request("POST", f"/api/kernels/{kernel}/restart")
        assert restart.status_code == 200
        assert restart.json()["id"] == kernel
        assert channels.execute("x").of_type("error")[0].content["ename"] == "NameError"
        states = [message.content.get("execution_state") for message in channels.received]
        assert "restarting" not in states, "front ends take it for a crash"
    finally:
        channels.close()


def test_kernel_that_dies_is_restarted_and_says_so(gateway: Gateway, kernel: str) -> None:
    """A kernel that kills itself comes back; its clients are told and go on as they were."""
    channels = gateway.connect(kernel)
    try:
        channels.start_execution("import os\nos._exit(7)")
        channels.receive_until(
            lambda message: message.content.get("execution_state") == "restarting"
        )
        assert channels.execute("6*7").result == "42"
    finally:
        channels.close()


def test_shutdown_request_ends_the_kernel(gateway: Gateway, kernel_name: str) -> None:
    """A client that sends shutdown_request gets its reply, and the kernel is gone for good: 404."""
    kernel_id = gateway.start_kernel(kernel_name)
    channels = gateway.connect(kernel_id)
    try:
        channels.request("shutdown_request", {"restart": False}, channel="control")
        gateway.wait_until_gone(kernel_id)
    finally:
        channels.close()


@pytest.mark.parametrize(
    "env", [{}, {"KERNEL_UID": "4242"}, {"KERNEL_UID": "4242", "KERNEL_GID": "77"}]
)
def test_user_has_a_name_whatever_its_id(gateway: Gateway, env: dict[str, str]) -> None:
    """To Python, to the C library, and to a program that does not get its environment."""
    kernel_id = gateway.start_kernel("python_docker", env)
    channels = gateway.connect(kernel_id)
    try:
        execution = channels.execute(
            "import getpass, os, pwd, subprocess\n"
            "found = pwd.getpwuid(os.getuid())\n"
            "whoami = subprocess.run('whoami', capture_output=True, text=True).stdout.strip()\n"
            "print(os.getuid(), getpass.getuser(), found.pw_name, whoami)\n"
            "print(found.pw_dir == os.environ['HOME'])"
        )
        uid, *names, has_home = execution.stdout.split()
        assert uid == env.get("KERNEL_UID", "1000")
        assert set(names) == {unix_name(gateway.username) if env else "jovyan"}
        assert has_home == "True"
    finally:
        channels.close()
        gateway.delete_kernel(kernel_id)
