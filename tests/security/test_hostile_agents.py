"""Kernel agents that break every rule, against the real process: no other kernel may notice.

An agent is any program that listens where a kernel's container should: a user's own image,
or code that took the agent's place.
"""

import contextlib
import itertools
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from harness.agents.hostile_agent import BROKEN, SILENT, TOLERATED, WAYS
from harness.gateways.gateway import ROOT, Gateway
from harness.waiting import wait_until

from enterprise_gateway.services.kernels.agents.state import format_time
from enterprise_gateway.services.processproxies.local.processes import ProcessIdentity
from enterprise_gateway.services.processproxies.local.records import LocalRecord, LocalRecords
from enterprise_gateway.services.processproxies.workloads.names import (
    escape_username,
    workload_name,
)

ATTACK_SECONDS = 1.0
MAX_DELAY_SECONDS = 5.0
"""What others may wait on a loaded machine; it was no less than 20 s before agents had limits."""
MAX_ANSWER_BYTES = 50 * 1024 * 1024
MAX_GROWTH_BYTES = 25 * 1024 * 1024
PATH, OTHER_PATH = "/home/victim/a.ipynb", "/home/victim/b.ipynb"


class Canary:
    """Listens where only a client that follows redirects comes."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/latest/meta-data/"

    def was_asked(self) -> bool:
        """Say whether a client has connected."""
        try:
            self._listener.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()


class Site:
    """A gateway whose local kernels may have agents that break the contract."""

    def __init__(self, gateway: Gateway, folder: Path) -> None:
        self.gateway = gateway
        self.canary = Canary()
        (folder_of_cluster,) = (gateway.home / "runtime/enterprise_gateway").iterdir()
        self._records = LocalRecords(folder_of_cluster, Path(tempfile.gettempdir()))
        self._records.prepare()
        self._sockets = folder
        self._count = itertools.count()

    @contextlib.contextmanager
    def kernel(self, way: str) -> Iterator[str]:
        """Have a kernel with an agent that breaks the contract so; yields its id."""
        gateway, kernel_id = self.gateway, str(uuid.uuid4())
        path = self._sockets / f"{next(self._count)}"
        agent = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "harness.agents.hostile_agent",
                path,
                kernel_id,
                way,
                self.canary.url,
            ],
            env={**gateway.env, "PYTHONPATH": str(ROOT / "tests"), "KERNEL_USERNAME": "thief"},
            stdout=subprocess.PIPE,
        )
        try:
            assert agent.stdout is not None
            assert agent.stdout.readline() == b"listening\n"
            identity = ProcessIdentity.of(agent.pid)
            assert identity is not None
            self._records.write(
                LocalRecord(
                    kernel_id=kernel_id,
                    name=workload_name("thief", kernel_id),
                    username=escape_username("thief"),
                    created=time.time(),
                    socket_path=str(path),
                    mark=uuid.uuid4().hex,
                    process=identity,
                )
            )
            yield kernel_id
            assert gateway.request("DELETE", f"/api/kernels/{kernel_id}").status_code == 204
            assert agent.wait(60) is not None
        finally:
            agent.kill()
            agent.wait(60)
            agent.stdout.close()
            self._records.remove(kernel_id)

    def memory(self) -> int:
        """Return the resident memory of the gateway in bytes."""
        assert self.gateway.process is not None
        fields = Path(f"/proc/{self.gateway.process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def delays(self, seconds: float) -> list[float]:
        """Return how long the gateway takes to say that it is alive, over some time."""
        delays = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            begun = time.monotonic()
            assert self.gateway.request("GET", "/healthz").status_code == 200
            delays.append(time.monotonic() - begun)
        return delays


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A gateway that has seen an honest agent, so that all that it loads is loaded."""
    gateway = Gateway(tmp_path_factory.mktemp("gateway"))
    site = None
    try:
        gateway.start()
        site = Site(gateway, Path(gateway.env["TMPDIR"]))
        with site.kernel("honest") as kernel_id:
            use(gateway, kernel_id)
        yield site
    finally:
        if site is not None:
            site.canary.close()
        gateway.close()


@pytest.fixture(scope="module")
def victim(site: Site) -> Iterator[dict[str, Any]]:
    """The session of a well-behaved user."""
    with site.kernel("honest") as kernel_id:
        body = {"path": PATH, "type": "notebook", "kernel": {"id": kernel_id}}
        answer = site.gateway.request("POST", "/api/sessions", json=body)
        assert answer.status_code == 201, answer.text
        yield answer.json()


def ask(gateway: Gateway, method: str, path: str, **arguments: Any) -> None:
    """Make a request on a connection of its own; any answer will do, and some of a long one."""
    headers = {"Authorization": f"token {gateway.token}"}
    url = f"{gateway.url}{path}"
    with requests.request(
        method, url, headers=headers, timeout=90, stream=True, **arguments
    ) as answer:
        assert "Set-Cookie" not in answer.headers
        assert not answer.headers.get("Content-Type", "").startswith("text/html")
        size = 0
        with contextlib.suppress(requests.RequestException):
            for data in answer.iter_content(chunk_size=None):
                size += len(data)
                if size > MAX_ANSWER_BYTES:
                    return


def use(gateway: Gateway, kernel_id: str) -> None:
    """Ask for everything that makes the gateway talk to the agent; any answer will do."""
    session = {"path": f"/home/thief/{kernel_id}", "type": "notebook", "kernel": {"id": kernel_id}}
    path = f"/api/kernels/{kernel_id}"
    with ThreadPoolExecutor() as pool:
        for method, target, body in (
            ("GET", path, None),
            ("POST", f"{path}/interrupt", None),
            ("POST", "/api/sessions", session),
            ("POST", f"{path}/restart", None),
            ("POST", f"{path}/execute", {"code": "1"}),
        ):
            pool.submit(ask, gateway, method, target, json=body)


def is_shunned(gateway: Gateway, path: str) -> bool:
    """Say whether a kernel does not answer, as far as the gateway tells."""
    gateway.request("POST", f"{path}/interrupt")
    return gateway.request("GET", path).status_code == 503


def warnings_of(gateway: Gateway, kernel_id: str) -> list[str]:
    """Return what the log says of an agent that breaks the contract."""
    lines = gateway.read_log().splitlines()
    return [line for line in lines if kernel_id in line and "breaks the contract" in line]


@pytest.mark.parametrize("way", [way for way in WAYS if way != "honest"])
def test_hostile_agent_harms_no_other_kernel(site: Site, victim: dict[str, Any], way: str) -> None:
    """Others are answered as before, with the truth, and the gateway's memory stays as it was."""
    gateway, victim_id = site.gateway, victim["kernel"]["id"]
    usual, before = max(site.delays(ATTACK_SECONDS / 2)), site.memory()
    with site.kernel(way) as kernel_id:
        path = f"/api/kernels/{kernel_id}"
        user = threading.Thread(target=use, args=(gateway, kernel_id))
        user.start()
        delays = site.delays(ATTACK_SECONDS)
        kernels = gateway.list_kernels()
        assert kernels[victim_id]["execution_state"] == "idle"
        assert kernels[victim_id] == gateway.get(f"/api/kernels/{victim_id}")
        own = [each for each in gateway.get("/api/sessions") if each["path"] == PATH]
        assert [each["id"] for each in own] == [victim["id"]]
        assert gateway.get(f"/api/sessions/{victim['id']}")["kernel"]["id"] == victim_id
        body = {"path": PATH, "type": "notebook"}
        found = gateway.request("POST", "/api/sessions", json=body).json()
        assert (found["id"], found["kernel"]["id"]) == (victim["id"], victim_id)
        new = {"path": OTHER_PATH, "type": "notebook", "kernel": {"id": victim_id}}
        answer = gateway.request("POST", "/api/sessions", json=new)
        assert answer.json()["kernel"]["id"] == victim_id
        delays += site.delays(ATTACK_SECONDS)
        if way in BROKEN:
            wait_until(lambda: is_shunned(gateway, path), what="the end of trust")
            assert len(warnings_of(gateway, kernel_id)) == 1
        elif way in TOLERATED:
            assert gateway.get(path)["last_activity"] <= format_time(time.time())
            assert not warnings_of(gateway, kernel_id)
        else:
            assert way in SILENT
            assert gateway.request("GET", path).status_code == 503
        user.join()
        assert site.memory() - before < MAX_GROWTH_BYTES
    assert max(delays) < MAX_DELAY_SECONDS + 10 * usual
    assert not site.canary.was_asked()
    assert "Traceback" not in gateway.read_log()
