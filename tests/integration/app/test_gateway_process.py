"""The gateway as a process: start, output, end."""

import json
import re
import signal
import socket
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from harness.clients.gateway_client import REQUEST_TIMEOUT
from harness.engines.leftovers import find_processes
from harness.gateways.gateway import END_DEADLINE, START_DEADLINE, Gateway
from harness.waiting import wait_until

MakeGateway = Callable[..., Gateway]


def find_printed(gateway: Gateway, pattern: str) -> re.Match[str]:
    """Wait until the process has printed something."""
    match = wait_until(
        lambda: re.search(pattern, gateway.read_log()), deadline=START_DEADLINE, what=pattern
    )
    assert match is not None
    return match


def ask(url: str) -> int:
    """Return the status of a GET without the token."""
    return requests.get(url, timeout=REQUEST_TIMEOUT).status_code


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_process_cleanly(make_gateway: MakeGateway, signum: int) -> None:
    """SIGTERM and Ctrl-C end it with exit code 0 and no traceback."""
    gateway = make_gateway()
    gateway.start()
    assert gateway.process is not None
    gateway.process.send_signal(signum)
    assert gateway.process.wait(END_DEADLINE) == 0
    assert "Traceback" not in gateway.read_log()
    assert "kernels go on running" in gateway.read_log()


def test_hangup_is_ignored(make_gateway: MakeGateway) -> None:
    """A terminal that is closed does not end it."""
    gateway = make_gateway()
    gateway.start()
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGHUP)
    assert gateway.request("GET", "/api").ok
    assert gateway.stop() == 0


def test_idle_connection_does_not_delay_the_end(make_gateway: MakeGateway) -> None:
    """Clients with open connections are not waited for."""
    gateway = make_gateway()
    gateway.start()
    assert gateway.process is not None
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        connection.sendall(b"GET /api HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(END_DEADLINE) == 0


HELD_KERNEL = """
import os, sys, time
while not os.path.exists({file!r}):
    time.sleep(0.02)
from ipykernel import kernelapp
kernelapp.launch_new_instance(argv=["-f", sys.argv[1]])
"""


def stop_during_launch(
    gateway: Gateway, then: Callable[[Path], object]
) -> "Future[requests.Response]":
    """Ask for a kernel, stop the gateway while it is launched, and return the answer.

    `then` is called with the path of the file that the kernel waits for, when the gateway takes no
    more requests.
    """
    folder = gateway.home / "share/jupyter/kernels/held"
    folder.mkdir(parents=True)
    go = folder / "go"
    argv = ["python", "-c", HELD_KERNEL.format(file=str(go)), "{connection_file}"]
    spec = {"argv": argv, "display_name": "held", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    body = {"name": "held", "env": {"KERNEL_USERNAME": gateway.username}}
    with ThreadPoolExecutor(1) as pool:
        start = pool.submit(gateway.request, "POST", "/api/kernels", json=body)
        wait_until(lambda: find_processes(gateway.kernel_marker), what="the kernel's process")
        gateway.send_signal(signal.SIGTERM)
        wait_until(lambda: is_closed(gateway), what="the end of listening")
        then(go)
    return start


def is_closed(gateway: Gateway) -> bool:
    """Say whether nothing listens any more."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", gateway.port)) != 0


def test_launch_in_progress_is_finished(make_gateway: MakeGateway) -> None:
    """A gateway that stops still answers a pending launch; the next gateway has the kernel."""
    gateway = make_gateway()
    gateway.start()
    answer = stop_during_launch(gateway, Path.touch).result()
    assert answer.status_code == 201
    assert answer.headers["Connection"] == "close"
    assert gateway.process is not None
    assert gateway.process.wait(END_DEADLINE) == 0
    gateway.start()
    wait_until(gateway.list_kernels, what="the kernel")
    assert list(gateway.list_kernels()) == [answer.json()["id"]]


def test_second_signal_ends_what_is_in_progress(make_gateway: MakeGateway) -> None:
    """A second signal ends the launch, and nothing is left of the kernel."""
    gateway = make_gateway()
    gateway.start()
    stopped = stop_during_launch(gateway, lambda _: gateway.send_signal(signal.SIGTERM))
    assert isinstance(stopped.exception(), requests.ConnectionError)
    assert gateway.process is not None
    assert gateway.process.wait(END_DEADLINE) == 0
    wait_until(lambda: not find_processes(gateway.kernel_marker), what="the end of the kernel")


def test_derived_token_is_printed_and_works(make_gateway: MakeGateway) -> None:
    """A generated token is in the printed URL, which can be pasted, and not in the log."""
    gateway = make_gateway(unset="EG_AUTH_TOKEN")
    gateway.http.headers.clear()
    gateway.start()
    pattern = r"Generated token; connect to (http\S+/)\?token=(\w{32,})"
    url, token = find_printed(gateway, pattern).groups()
    assert ask(f"{url}api/kernels?token={token}") == 200
    assert ask(f"{url}api/kernels") == 401
    lines = [line for line in gateway.read_log().splitlines() if token in line]
    assert len(lines) == 1


def test_token_of_the_operator_is_not_printed(make_gateway: MakeGateway) -> None:
    """The operator's own token is not printed."""
    gateway = make_gateway()
    gateway.start()
    gateway.request("GET", f"/api/kernels?token={gateway.token}")
    gateway.stop()
    assert gateway.token not in gateway.read_log()


def test_empty_token_opens_the_gateway_with_a_warning(make_gateway: MakeGateway) -> None:
    """Switching authentication off is possible, and said."""
    gateway = make_gateway({"EG_AUTH_TOKEN": ""})
    gateway.start()
    assert ask(f"{gateway.url}/api/kernels") == 200
    assert "Authentication is off" in gateway.read_log()


@pytest.mark.parametrize(
    ("origin", "credentials", "is_warned"),
    [("*", "true", True), ("*", "", False), ("https://lab.example", "true", False)],
)
def test_credentials_for_every_origin_are_warned_of(
    make_gateway: MakeGateway, origin: str, credentials: str, *, is_warned: bool
) -> None:
    """Browsers refuse that combination (WHATWG Fetch, section 3.2.5), whatever the token."""
    gateway = make_gateway({"EG_ALLOW_ORIGIN": origin, "EG_ALLOW_CREDENTIALS": credentials})
    gateway.start()
    warned = [line for line in gateway.read_log().splitlines() if "allow_credentials" in line]
    assert [line[:2] for line in warned] == (["[W"] if is_warned else [])


def test_taken_port_is_passed_over(make_gateway: MakeGateway) -> None:
    """The next ports are tried, and the log says which one it became."""
    gateway = make_gateway({"EG_PORT_RETRIES": "20"})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", gateway.port))
        taken.listen()
        gateway.start_process()
        pattern = r"available at http://127\.0\.0\.1:(\d+)/"
        port = int(find_printed(gateway, pattern)[1])
        assert port != gateway.port
        assert ask(f"http://127.0.0.1:{port}/api") == 200
    assert f"Port {gateway.port} is not available" in gateway.read_log()


def test_no_free_port_ends_the_start(make_gateway: MakeGateway) -> None:
    """Without retries a taken port is the end, with one line."""
    gateway = make_gateway()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", gateway.port))
        taken.listen()
        done = gateway.run_command()
    assert done.returncode == 1
    assert f"No port is free: tried {gateway.port}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--certfile=/does/not/exist"], "TLS files"),
        (["--EnterpriseGatewayApp.authorizer_class=no.such.Class"], "no.such.Class"),
        (["--EnterpriseGatewayApp.cluster_secret_file=/does/not/exist"], "cluster secret"),
        (["--ip=203.0.113.1"], "Cannot listen on 203.0.113.1"),
        (["--port=70000"], "port"),
    ],
)
def test_wrong_option_ends_the_start_with_its_name(
    make_gateway: MakeGateway, arguments: list[str], message: str
) -> None:
    """The operator reads a message, not a traceback."""
    done = make_gateway().run_command(*arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_log_can_be_json(make_gateway: MakeGateway) -> None:
    """Every line of the log is an object."""
    gateway = make_gateway({"EG_LOG_JSON": "True"})
    gateway.start()
    gateway.stop()
    lines = [json.loads(line) for line in gateway.read_log().splitlines()]
    assert {"INFO"} <= {line["level"] for line in lines}
    assert any("is available at" in line["message"] for line in lines)


def test_everything_is_below_the_base_url(make_gateway: MakeGateway) -> None:
    """The whole gateway moves, and says so in its URL."""
    gateway = make_gateway({"EG_BASE_URL": "team/a"})
    gateway.start_process()
    base = f"{gateway.url}/team/a"
    wait_until(lambda: f"available at {base}/" in gateway.read_log(), deadline=START_DEADLINE)
    assert gateway.http.get(f"{base}/api/kernels", timeout=REQUEST_TIMEOUT).status_code == 200
    assert (
        gateway.http.get(f"{gateway.url}/api/kernels", timeout=REQUEST_TIMEOUT).status_code == 404
    )


AUTHORIZER = """
from jupyter_server.auth import Authorizer
from traitlets import Unicode

class ReadOnly(Authorizer):
    verb = Unicode("read").tag(config=True)

    def is_authorized(self, handler, user, action, resource):
        return action == self.verb
"""


def test_authorizer_of_jupyter_server_guards_the_gateway(make_gateway: MakeGateway) -> None:
    """An authorizer written for jupyter_server works, its own options included."""
    gateway = make_gateway({"EG_AUTHORIZER_CLASS": "read_only.ReadOnly"})
    gateway.env["PYTHONPATH"] = str(gateway.home)
    (gateway.home / "read_only.py").write_text(AUTHORIZER)
    gateway.start()
    assert gateway.request("GET", "/api/kernels").status_code == 200
    refused = gateway.request("POST", "/api/kernels", json={"name": "python3"})
    assert refused.status_code == 403
    assert "not authorized to write on resource: kernels" in refused.json()["message"]
    gateway.stop()
    (gateway.home / "config").mkdir(exist_ok=True)
    config = gateway.home / "config" / "jupyter_enterprise_gateway_config.py"
    config.write_text("c.ReadOnly.verb = 'nothing'\n")
    gateway.start()
    assert gateway.request("GET", "/api/kernels").status_code == 403
