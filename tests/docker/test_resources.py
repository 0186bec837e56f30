"""What kernels in containers may take, and what users are told when it is not enough."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import docker
import pytest
from harness.clients.channels import Execution
from harness.engines.leftovers import find_containers, find_kernel_containers
from harness.gateways.gateway import Gateway
from harness.kernels.kernelspecs import derive_kernelspec
from harness.waiting import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

MIB = 1024**2
ALLOCATE = "x = [bytearray(b'x' * 1_000_000) for _ in range(2000)]"
IN_CHILD = f"""
import subprocess, sys
ended = subprocess.run([sys.executable, "-c", {ALLOCATE!r}])
print(ended.returncode)
"""
FORK_BOMB = """
import os, time
while True:
    try:
        os.fork()
    except BlockingIOError:
        time.sleep(0.01)
"""
FILL_SHARED_MEMORY = """
import mmap, os
file = os.open("/dev/shm/filled", os.O_RDWR | os.O_CREAT)
size = 400 << 20
os.ftruncate(file, size)
memory = mmap.mmap(file, size)
memory[:] = b"x" * size
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose operator has set limits."""
    env = {
        "EG_ALLOWED_IMAGES": "",
        "EG_KERNEL_SIZES": "small: memory=300m cpus=1 shm_size=100m",
        "EG_MAX_RESOURCES": "cpus=1.5 memory=1g gpus=0",
    }
    made = Gateway(tmp_path_factory.mktemp("gateway"), env=env)
    kernels = made.home / "share/jupyter/kernels"
    config = {"resources": {"pids": 64, "ulimits": {"nofile": 2048, "core": 0}}, "size": "small"}
    derive_kernelspec(kernels, "python_docker", "few_pids", config=config)
    try:
        made.start()
        yield made
    finally:
        made.close()


def start(gateway: Gateway, name: str = "python_docker", **env: str) -> str:
    """Start a kernel; return its id."""
    return gateway.start_kernel(name, env)


def host_config(kernel_id: str) -> dict[str, Any]:
    """Return the limits of a kernel's container, as the engine has them."""
    (container,) = find_kernel_containers(kernel_id)
    config: dict[str, Any] = container.attrs["HostConfig"]
    return config


def stderr_of(execution: Execution) -> str:
    """Return what a cell printed to stderr."""
    streams = [each.content for each in execution.of_type("stream")]
    return "".join(each["text"] for each in streams if each["name"] == "stderr")


def test_engine_is_asked_for_what_was_planned(gateway: Gateway) -> None:
    """By request, size and kernelspec; labels tell it to all gateways."""
    kernel_id = start(gateway, KERNEL_CPUS="0.5", KERNEL_MEMORY_LIMIT="512Mi")
    found = host_config(kernel_id)
    assert (found["NanoCpus"], found["Memory"]) == (500_000_000, 512 * MIB)
    assert found["MemorySwap"] in (512 * MIB, -1, 0)  # 0 or -1: the engine's host counts no swap
    assert (found["PidsLimit"], found["ShmSize"]) == (4096, 256 * MIB)
    (container,) = find_kernel_containers(kernel_id)
    assert container.labels["enterprise-gateway.cpus"] == "0.5"
    assert container.labels["enterprise-gateway.memory"] == str(512 * MIB)

    found = host_config(start(gateway, "few_pids"))
    assert (found["NanoCpus"], found["Memory"]) == (1_000_000_000, 300 * MIB)
    assert (found["PidsLimit"], found["ShmSize"]) == (64, 100 * MIB)
    ulimits = {each["Name"]: (each["Soft"], each["Hard"]) for each in found["Ulimits"]}
    assert ulimits == {"nofile": (2048, 2048), "core": (0, 0)}


def test_cpus_are_shared_out(gateway: Gateway) -> None:
    """Four busy threads of a kernel with half a CPU get no more."""
    kernel_id = start(gateway, KERNEL_CPUS="0.5")
    burn = (
        "import os, time\nfor _ in range(3):\n    if not os.fork(): break\n"
        "end = time.monotonic() + 4\nwhile time.monotonic() < end: pass\n"
        "if os.getpid() != parent: os._exit(0)\n"
        "while True:\n    try: os.wait()\n    except ChildProcessError: break\n"
        "print(sum(os.times()[:4]) - before)"
    )
    with closing(gateway.connect(kernel_id)) as client:
        client.execute("import os; parent = os.getpid(); before = sum(os.times()[:4])")
        began = time.monotonic()
        used = float(client.execute(burn).stdout)
        assert used < 0.5 * (time.monotonic() - began) * 1.3


def test_kernel_that_takes_too_much_memory_is_told_the_limit(gateway: Gateway) -> None:
    """And is there again."""
    with closing(gateway.connect(start(gateway, KERNEL_SIZE="small"))) as client:
        error = client.execute(ALLOCATE).of_type("error")[0].content["evalue"]
        assert "was killed by SIGKILL (out of memory: the limit is 300 MiB)" in error
        assert client.execute("1 + 1").result == "2"


def test_process_that_takes_too_much_memory_is_told_in_its_cell(gateway: Gateway) -> None:
    """The kernel goes on, and so does the agent: neither was the one that was ended."""
    with closing(gateway.connect(start(gateway, KERNEL_SIZE="small"))) as client:
        client.execute("kept = 5")
        execution = client.execute(f"{IN_CHILD}\nimport time; time.sleep(4)")
        assert execution.stdout == "-9\n"
        assert "A process that the kernel had started was killed" in stderr_of(execution)
        assert "the memory limit is 300 MiB" in stderr_of(execution)
        assert client.execute("kept").result == "5"


def test_agent_survives_many_processes_that_want_memory(gateway: Gateway) -> None:
    """Each is ended before the agent, however small."""
    kernel_id = start(gateway, "few_pids")
    score = "int(open(f'/proc/{pid}/oom_score_adj').read())"
    with closing(gateway.connect(kernel_id)) as client:
        code = f"import os\n[{score} for pid in (1, os.getpid())]"
        assert client.execute(code).result == "[0, 100]"
        hogs = (
            "import subprocess, sys\nprocesses = [subprocess.Popen([sys.executable, '-c',"
            " 'x = [bytearray(b\"x\" * 100_000) for _ in range(600)]; input()'],"
            " stdin=subprocess.PIPE) for _ in range(20)]\n"
            "import time; time.sleep(8)\n"
            "print(sum(each.poll() == -9 for each in processes))"
        )
        execution = client.execute(hogs)
        reasons = [each.content["evalue"] for each in execution.of_type("error")]
        assert reasons or int(execution.stdout) > 0
        assert all("out of memory" in reason for reason in reasons)
    model = gateway.request("GET", f"/api/kernels/{kernel_id}").json()
    assert model["execution_state"] in ("idle", "restarting", "starting", "busy")
    (container,) = find_kernel_containers(kernel_id)
    assert container.status == "running"


def test_fork_bomb_is_told_and_ended_by_a_restart(gateway: Gateway) -> None:
    """Its processes fork whenever another one has ended; the gateway serves others meanwhile."""
    kernel_id = start(gateway, "few_pids")
    with closing(gateway.connect(kernel_id)) as client:
        client.start_execution(FORK_BOMB)
        notice = client.receive_until(lambda message: "may not" in message.content.get("text", ""))
        assert "may not have more than 64 of them" in notice.content["text"]
        assert gateway.request("GET", "/healthz").ok
        restarted = gateway.request("POST", f"/api/kernels/{kernel_id}/restart")
        assert restarted.status_code == 200, restarted.text
        assert client.execute("1 + 1").result == "2"
    gateway.delete_kernel(kernel_id)
    gateway.wait_until_gone(kernel_id)


def test_full_shared_memory_is_told_with_the_remedy(gateway: Gateway) -> None:
    """By default it is half of the memory, not Docker's 64 MB."""
    with closing(gateway.connect(start(gateway, KERNEL_MEMORY="1g"))) as client:
        client.execute(FILL_SHARED_MEMORY)
        assert client.execute("len(memory) >> 20").result == "400"
    with closing(gateway.connect(start(gateway, KERNEL_MEMORY="1g", KERNEL_SHM_SIZE="200m"))) as c:
        error = c.execute(FILL_SHARED_MEMORY).of_type("error")[0].content["evalue"]
        assert "SIGBUS" in error
        assert "of 200 MiB was probably full: KERNEL_SHM_SIZE" in error


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"KERNEL_MEMORY": "2g"}, ["2 GiB", "1 GiB", "EG_MAX_RESOURCES"]),
        ({"KERNEL_CPUS_LIMIT": "4"}, ["4 CPUs", "1.5 CPUs"]),
        ({"KERNEL_GPUS": "1"}, ["1 GPU", "0 GPUs"]),
        ({"KERNEL_IMAGE": "docker.io/evil/miner:1"}, ["docker.io/evil/miner:1", "EG_ALLOWED_IMAG"]),
    ],
)
def test_request_for_more_than_is_allowed_is_refused(
    gateway: Gateway, env: dict[str, str], words: list[str]
) -> None:
    """At once, with 403; the engine is asked for nothing."""
    before = len(find_containers(gateway.username))
    body = {"name": "python_docker", "env": {"KERNEL_USERNAME": gateway.username, **env}}
    answer = gateway.request("POST", "/api/kernels", json=body)
    assert answer.status_code == 403
    assert [word for word in words if word not in answer.json()["message"]] == []
    assert len(find_containers(gateway.username)) == before


def test_image_of_another_kernelspec_is_allowed(gateway: Gateway) -> None:
    """Without a setting the images of the kernelspecs are the ones there are."""
    with closing(docker.from_env()) as client:
        spec = json.loads((gateway.home / "share/jupyter/kernels/R_docker/kernel.json").read_text())
        image = spec["metadata"]["process_proxy"]["config"]["image_name"]
        assert client.images.get(image)
    kernel_id = gateway.start_kernel(
        "python_docker", {"KERNEL_IMAGE": image, "KERNEL_LANGUAGE": "r"}
    )
    (container,) = find_kernel_containers(kernel_id)
    assert container.attrs["Config"]["Image"] == image


def test_quota_is_exact_over_two_gateways(tmp_path: Path) -> None:
    """Of eight starts at once so many get a kernel as fit, whichever gateway they asked."""
    env = {
        "EG_CLUSTER_SECRET": "ab" * 32,
        "EG_DEFAULT_RESOURCES": "memory=300m",
        "EG_USER_QUOTAS": "*: memory=900m",
    }
    one = Gateway(tmp_path / "one", env=env)
    other = Gateway(tmp_path / "other", env=env, token=one.token, username=one.username)
    body = {"name": "python_docker", "env": {"KERNEL_USERNAME": one.username}}
    try:
        for gateway in (one, other):
            gateway.start()
        with ThreadPoolExecutor(8) as threads:
            starts = [
                threads.submit(gateway.request, "POST", "/api/kernels", json=body)
                for gateway in (one, other) * 4
            ]
            answers = [each.result() for each in starts]
        statuses = [answer.status_code for answer in answers]
        assert sorted(statuses) == [201] * 3 + [403] * 5, [answer.text for answer in answers]
        refused = next(answer for answer in answers if answer.status_code == 403)
        assert (
            f"The quota of user '{one.username}' is 900 MiB of memory" in refused.json()["message"]
        )
        wait_until(lambda: len(find_containers(one.username)) == 3)
        kernel_id = next(answer.json()["id"] for answer in answers if answer.status_code == 201)
        one.delete_kernel(kernel_id)
        assert other.request("POST", "/api/kernels", json=body).status_code == 201
    finally:
        other.close()
        one.close()
