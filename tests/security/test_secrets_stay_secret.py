"""Tokens, keys, the cluster secret and users' values stay out of logs, argv, labels and errors."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import docker
import pytest
from harness.engines.leftovers import find_containers, find_processes
from harness.gateways.gateway import Gateway

from enterprise_gateway.app.secret import load_or_create_secret
from enterprise_gateway.services.kernels.planning.agent_credentials import derive_agent_token
from jupyter_wire.messages import Codec

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

USER_VALUE = "user-value-6f1d5c0e"
MISSING_IMAGE = "enterprise-gateway/no-such-image:0"


class ArgvRecorder:
    """Collects the command lines of all processes, until stopped."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            for folder in Path("/proc").iterdir():
                if folder.name.isdecimal():
                    try:
                        self.seen.add((folder / "cmdline").read_bytes())
                    except OSError:  # ended meanwhile
                        continue


@pytest.fixture
def chatty_gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway that logs all it can."""
    own = Gateway(tmp_path / "gateway", options=["--debug"])
    try:
        own.start()
        yield own
    finally:
        own.close()


def read_environment(process_id: int) -> dict[str, str]:
    """Return the environment that a process was started with, {} if it has ended."""
    try:
        items = Path(f"/proc/{process_id}/environ").read_bytes().decode().split("\0")
    except OSError:
        return {}
    return dict(item.split("=", 1) for item in items if "=" in item)


def find_agent_tokens(gateway: Gateway) -> set[str]:
    """Return the tokens of the gateway's running agents.

    No file in /proc has that of a local one, which was forked.
    """
    environments = map(read_environment, find_processes(gateway.kernel_marker))
    found = {each["EG_AGENT_TOKEN"] for each in environments if "EG_AGENT_TOKEN" in each}
    (secret_file,) = gateway.home.rglob("cluster_secret")
    secret = load_or_create_secret(secret_file.parent)
    for path in gateway.home.rglob("*.kernel"):
        record = json.loads(path.read_text())
        found.add(derive_agent_token(secret, record["kernel_id"], record["launch_id"]))
    return found


def live_a_life(gateway: Gateway, kernel_name: str) -> set[str]:
    """Do with a kernel all that a client can; returns the secrets that came into being."""
    kernel_id = gateway.start_kernel(kernel_name, {"KERNEL_VALUE": USER_VALUE})
    path = f"/api/kernels/{kernel_id}"
    channels = gateway.connect(kernel_id)
    value = channels.execute("import os; os.environ['KERNEL_VALUE'] == '" + USER_VALUE + "'")
    assert value.result == "True"
    visible = ["EG_AGENT_TOKEN", "RESPONSE_ADDRESS", "PUBLIC_KEY"]
    leaked = channels.execute(f"[name for name in {visible} if name in os.environ]")
    assert leaked.result == "[]"
    connection_file = channels.execute(
        "from ipykernel.connect import get_connection_info; print(get_connection_info())"
    )
    secrets = {str(json.loads(connection_file.stdout)["key"]), *find_agent_tokens(gateway)}
    channels.close()
    gateway.connect(kernel_id, codec=Codec.LEGACY).close()
    for request in ("interrupt", "restart"):
        assert gateway.request("POST", f"{path}/{request}").ok
    session = {"path": "a.ipynb", "type": "notebook", "name": "", "kernel": {"id": kernel_id}}
    assert gateway.request("POST", "/api/sessions", json=session).ok
    assert gateway.request("GET", f"{path}?token={gateway.token}").ok
    assert gateway.request("GET", f"/t/{gateway.token}{path}").ok
    return secrets


def provoke_errors(gateway: Gateway) -> list[str]:
    """Make requests that fail in all stages of a launch, and more; returns the bodies."""
    value = {"KERNEL_VALUE": USER_VALUE, "KERNEL_USERNAME": gateway.username}
    bodies = [
        {"name": "python_docker", "env": {**value, "KERNEL_IMAGE": MISSING_IMAGE}},
        {"name": "python_docker", "env": {**value, "KERNEL_BAD": f"{USER_VALUE}\n`$"}},
        {"name": "python_docker", "env": {**value, "KERNEL_UID": "0"}},
        {"name": "python_docker", "env": {**value, "KERNEL_UID": "no number"}},
        {"name": "python3", "env": {**value, "KERNEL_ID": "no uuid"}},
        {"name": "python3", "env": {**value, "KERNEL_LAUNCH_TIMEOUT": USER_VALUE}},
        {"name": "python3", "env": {**value, "KERNEL_WORKING_DIR": f"/nowhere/{USER_VALUE}"}},
        {"name": "python3", "env": {**value, "PATH": USER_VALUE}},
        {"name": "no-such-kernel", "env": value},
        {"name": "python3", "env": {**value, "KERNEL_VALUE": {"nested": USER_VALUE}}},
    ]
    answers = [gateway.request("POST", "/api/kernels", json=body) for body in bodies]
    failures = [answer for answer in answers if not answer.ok]
    assert len(failures) >= len(bodies) - 2  # a working directory and a PATH may be put aside
    wrong = {"Authorization": f"token {gateway.token[:-1]}"}
    failures += [
        gateway.request("GET", "/api/kernels", headers=wrong),
        gateway.request("GET", f"/t/{gateway.token[:-1]}/api/kernels", headers=wrong),
        gateway.request("GET", f"/t/{gateway.token}/api/nothing"),
        gateway.request("GET", f"/api/nothing?token={gateway.token}"),
    ]
    assert not any(answer.ok for answer in failures)
    return [f"{answer.headers} {answer.text}" for answer in failures]


def describe_containers(gateway: Gateway) -> str:
    """Return what `docker inspect` shows of the kernels, but for the environment it has to show."""
    client = docker.from_env()
    try:
        found = []
        for container in find_containers(gateway.username):
            attributes = client.api.inspect_container(container.id)
            attributes["Config"].pop("Env")
            found.append(json.dumps(attributes))
        return "\n".join(found)
    finally:
        client.close()


def test_no_secret_shows_anywhere(chatty_gateway: Gateway) -> None:
    """Nothing secret is in the DEBUG log, an argv, `docker inspect`, `docker logs` or an error."""
    gateway = chatty_gateway
    with ArgvRecorder() as recorder:
        secrets = live_a_life(gateway, "python3") | live_a_life(gateway, "python_docker")
        errors = provoke_errors(gateway)
        inspected = describe_containers(gateway)
        printed = "".join(
            container.logs().decode() for container in find_containers(gateway.username)
        )
    assert inspected
    (cluster_secret,) = (path.read_text() for path in gateway.home.rglob("cluster_secret"))
    secrets |= {gateway.token, cluster_secret.strip()}
    assert len(secrets) == 6, "two connection keys, two agent tokens, two of the gateway"

    places = {
        "log": gateway.read_log(),
        "argv": b"\n".join(recorder.seen).decode(errors="replace"),
        "docker inspect": inspected,
        "docker logs": printed,
        "errors": "\n".join(errors),
    }
    assert "DEBUG" in places["log"] or "[D " in places["log"]
    assert "ipykernel" in places["argv"]
    for place, text in places.items():
        for secret in secrets | {USER_VALUE}:
            shown = [line for line in text.splitlines() if secret in line]
            assert not shown, f"{place} shows {secret}: {shown[0][:300]}"
    assert "Traceback" not in places["errors"]
    assert "Traceback" not in places["log"]


def test_files_are_private(chatty_gateway: Gateway) -> None:
    """The cluster secret, and all of a local kernel's files, are for the gateway's user only."""
    gateway = chatty_gateway
    kernel_id = gateway.start_kernel("python3")
    files = [
        path
        for path in gateway.home.rglob("*")
        if path.name == "cluster_secret" or kernel_id in str(path.relative_to(gateway.home))
    ]
    assert len(files) > 1
    for path in files:
        closed = [path, *path.parents[: len(path.relative_to(gateway.home).parts) - 1]]
        assert any(each.stat().st_mode & 0o077 == 0 for each in closed), path
