"""Pools of containers, which several gateways share."""

import contextlib
import json
import re
import secrets
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import docker
import pytest
import requests
from docker.errors import APIError
from harness.engines.leftovers import find_kernel_containers, kill_workload, list_containers
from harness.gateways.gateway import Gateway
from harness.waiting import wait_until

from devtools.images import KERNEL
from enterprise_gateway.app.secret import derive_secret
from enterprise_gateway.services.processproxies.contract import POOL_USERNAME
from enterprise_gateway.services.processproxies.workloads.containers import CLUSTER_LABEL
from enterprise_gateway.settings import Settings

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

NAME = "python_docker"
SIZE = 3
LARGE_SIZE = 20
STARTS = 100
CLIENTS = 12
"""So many ask at the same time."""
CLAIM_SECONDS = 20
FILLED_SECONDS = 240.0
IMAGE = "localhost/egt-pool"
SHOW = "import os; print(os.environ['KERNEL_USERNAME'], os.environ.get('KERNEL_PROJECT'))"

R_NAME = "R_docker"
SHOW_R = 'cat(Sys.getenv("KERNEL_USERNAME"), getwd(), Sys.getenv("GREETING"), sep = "|")'
TRACES_R = (
    "cat(ls(all.names = TRUE), ls(baseenv(), all.names = TRUE), search(), loadedNamespaces())\n"
    "cat(geterrmessage(), exists('.Last.value'))"
)
HISTORY = {"hist_access_type": "tail", "n": 10, "output": False, "raw": True}


class Cluster:
    """Gateways that share a pool."""

    def __init__(self, folder: Path, count: int, size: int, name: str = NAME) -> None:
        secret = secrets.token_hex(32)
        env = {
            "EG_CLUSTER_SECRET": secret,
            "EG_POOL_SIZES": f"{name}={size}",
            "EG_CLIENT_ENVS": "OMP_NUM_THREADS,LD_LIBRARY_PATH,GREETING",
            "EG_MIRROR_WORKING_DIRS": "True",
        }
        self._name = name
        self._size = size
        self.gateways = [Gateway(folder / "0", env=env)]
        first = self.gateways[0]
        for number in range(1, count):
            self.gateways.append(
                Gateway(folder / str(number), env=env, token=first.token, username=first.username)
            )
        for gateway in self.gateways:
            self.edit_kernelspec(gateway, pool_env=["KERNEL_PROJECT"], claim_timeout=CLAIM_SECONDS)
        settings = Settings(cluster_secret=derive_secret(secret, "the test"))
        self._label = f"{CLUSTER_LABEL}={settings.cluster_id}"

    def edit_kernelspec(self, gateway: Gateway, **config: object) -> None:
        """Change the config of the pool's kernelspec."""
        path = gateway.home / "share/jupyter/kernels" / self._name / "kernel.json"
        spec = json.loads(path.read_text())
        spec["metadata"]["process_proxy"]["config"].update(config)
        path.write_text(json.dumps(spec))

    def start(self) -> None:
        """Start the gateways, and wait until each knows a full pool."""
        for gateway in self.gateways:
            gateway.start()
        self.wait_until_full()

    def wait_until_full(self) -> None:
        """Wait until the pool has its size, for each gateway that runs."""

        def is_full() -> bool:
            return all(ready(gateway, self._name) == self._size for gateway in self.running)

        wait_until(is_full, deadline=FILLED_SECONDS, what="a full pool")

    @property
    def running(self) -> list[Gateway]:
        """The gateways whose processes run."""
        return [one for one in self.gateways if one.process and one.process.poll() is None]

    def containers(self) -> list[str]:
        """Return the names of all containers of kernels."""
        return [str(container.name) for container in list_containers(self._label)]

    def waiting(self) -> list[str]:
        """Return the ids of the containers that wait in the pool."""
        return [
            container.labels["kernel_id"]
            for container in list_containers(self._label)
            if str(container.name).startswith(POOL_USERNAME)
        ]

    def close(self) -> None:
        """Remove everything."""
        for gateway in self.gateways:
            gateway.close()
        for container in list_containers(self._label):
            with contextlib.suppress(APIError):  # its removal is under way
                container.remove(force=True)


def ready(gateway: Gateway, name: str) -> float:
    """Return how many kernels are ready in the pool, as a gateway sees it."""
    metrics = gateway.request("GET", "/metrics").text
    listed = name.lower()
    found = re.search(rf'^eg_pool_ready{{kernel_name="{listed}"}} (\S+)', metrics, re.MULTILINE)
    return float(found[1]) if found else -1


def start(gateway: Gateway, user: str, name: str = NAME, **env: str) -> requests.Response:
    """Start a kernel of the pool's kernelspec."""
    body = {"name": name, "env": {"KERNEL_USERNAME": user, **env}}
    return gateway.request("POST", "/api/kernels", json=body)


def is_warm(answer: requests.Response) -> bool:
    """Say whether a start took a kernel from the pool."""
    return set(answer.json()["start"]["steps"]) == {"admission", "pool"}


@pytest.fixture
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Running gateways with a full pool."""
    made = Cluster(tmp_path, *request.param)
    try:
        made.start()
        yield made
    except TimeoutError:
        sys.stdout.write(made.gateways[0].read_log())
        raise
    finally:
        made.close()


@pytest.mark.parametrize("cluster", [(2, SIZE)], indirect=True)
def test_kernel_is_its_users_for_every_gateway(cluster: Cluster) -> None:
    """Its container has the user's name; a gateway that did not take it starts it again as it was.

    Limits of users count it.
    """
    one, other = cluster.gateways
    answer = start(one, one.username, KERNEL_PROJECT="moon")
    assert (answer.status_code, is_warm(answer)) == (201, True), answer.text
    kernel_id = answer.json()["id"]
    (container,) = find_kernel_containers(kernel_id)
    assert container.name == f"{one.username}-{kernel_id}"
    wait_until(lambda: other.list_kernels().keys() == {kernel_id}, what="the other's list")
    with closing(other.connect(kernel_id)) as channels:
        assert channels.execute(SHOW).stdout == f"{one.username} moon\n"
    cluster.wait_until_full()
    one.kill()
    kill_workload(kernel_id)
    wait_until(lambda: other.list_kernels()[kernel_id]["execution_state"] == "dead", what="death")
    assert other.request("POST", f"/api/kernels/{kernel_id}/restart").status_code == 200
    with closing(other.connect(kernel_id)) as channels:
        assert channels.execute(SHOW).stdout == f"{one.username} moon\n"


@pytest.mark.parametrize("cluster", [(3, LARGE_SIZE)], indirect=True)
def test_each_kernel_has_one_user(cluster: Cluster) -> None:
    """Whichever gateways race for it, while the pool is refilled and one of them is killed.

    None is lost or left: each client gets a kernel of its own, and only a full pool stays.
    """
    gateways = cluster.gateways
    prefix = gateways[0].username

    def use(number: int) -> str:
        """Start a kernel as a client does behind a balancer, look whose it is, and end it."""
        if number == STARTS // 2:
            gateways[2].kill()
        user = f"{prefix}u{number}"
        try:
            answer = start(gateways[number % 3], user)
        except requests.ConnectionError:
            answer = start(gateways[number % 2], user)
        assert answer.status_code == 201, answer.text
        kernel_id = str(answer.json()["id"])
        with closing(gateways[(number + 1) % 2].connect(kernel_id)) as channels:
            assert channels.execute(SHOW).stdout == f"{user} None\n"
        other = gateways[number % 2]
        wait_until(lambda: kernel_id in other.list_kernels(), what="the kernel in the list")
        assert gateways[0].request("DELETE", f"/api/kernels/{kernel_id}").status_code == 204
        return kernel_id

    with ThreadPoolExecutor(CLIENTS) as pool:
        kernels = list(pool.map(use, range(STARTS)))
    assert max(Counter(kernels).values()) == 1
    cluster.wait_until_full()
    wait_until(
        lambda: len(cluster.waiting()) == len(cluster.containers()) == LARGE_SIZE,
        deadline=FILLED_SECONDS,
        what="a full pool and nothing else",
    )
    assert gateways[0].list_kernels() == {}


@pytest.mark.parametrize("cluster", [(1, SIZE)], indirect=True)
def test_container_is_taken_with_variables_of_the_start(cluster: Cluster) -> None:
    """Its process is replaced, so that loader and libraries find them."""
    (gateway,) = cluster.gateways
    for name in ("OMP_NUM_THREADS", "LD_LIBRARY_PATH"):
        answer = start(gateway, gateway.username, **{name: "7"})
        assert (answer.status_code, is_warm(answer)) == (201, True), answer.text
        with closing(gateway.connect(answer.json()["id"])) as channels:
            assert channels.execute(f"import os; print(os.environ['{name}'])").stdout == "7\n"


@pytest.mark.parametrize("cluster", [(1, 1, R_NAME)], indirect=True)
def test_r_kernel_is_taken_without_a_trace(cluster: Cluster) -> None:
    """With the user's environment and folder; else it is like one of no pool."""
    (gateway,) = cluster.gateways
    greeting = 'it\'s "fine" \\ ☃ $HOME'
    asked = {"GREETING": greeting, "KERNEL_WORKING_DIR": "/var/tmp"}
    seen = []
    for of_no_pool in ({}, {"KERNEL_ELSE": "1"}):
        answer = start(gateway, gateway.username, R_NAME, **asked, **of_no_pool)
        assert (answer.status_code, is_warm(answer)) == (201, not of_no_pool), answer.text
        with closing(gateway.connect(answer.json()["id"])) as channels:
            shown = channels.execute(SHOW_R)
            assert shown.stdout == f"{gateway.username}|/var/tmp|{greeting}"
            traces = channels.execute(TRACES_R)
            history = channels.request("history_request", HISTORY)
        seen.append((traces.stdout, traces.of_type("execute_input")[0].content, history.content))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("cluster", [(1, SIZE)], indirect=True)
def test_pool_follows_its_image(cluster: Cluster) -> None:
    """What the name stands for now; users' kernels of the former image stay."""
    (gateway,) = cluster.gateways
    engine = docker.from_env()
    kernel = engine.images.get(KERNEL.tag)
    kernel.tag(IMAGE, "1")
    try:
        cluster.edit_kernelspec(gateway, image_name=f"{IMAGE}:1")
        before = set(cluster.waiting())
        wait_until(
            lambda: len(set(cluster.waiting()) - before) == SIZE,
            deadline=FILLED_SECONDS,
            what="pool",
        )
        cluster.wait_until_full()
        taken = start(gateway, gateway.username).json()["id"]
        former = set(cluster.waiting())
        container = engine.containers.create(KERNEL.tag)
        container.commit(IMAGE, "1", changes='LABEL changed="yes"')
        container.remove()
        wait_until(
            lambda: len(cluster.waiting()) == SIZE and not former & set(cluster.waiting()),
            deadline=FILLED_SECONDS,
            what="a pool of the new image",
        )
        assert gateway.list_kernels().keys() == {taken}
    finally:
        gateway.close()
        cluster.close()
        engine.images.remove(f"{IMAGE}:1", force=True)
        engine.close()
