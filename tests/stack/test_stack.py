"""The stack as an operator deploys it: replicas, load balancer, the engine's socket, kernels."""

import json
import re
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest
import requests
from docker.types import EndpointSpec, Mount
from harness.clients.gateway_client import GatewayClient
from harness.engines.swarm import find_services, remove_services
from harness.gateways.stack import NAME, Stack
from harness.waiting import wait_until

from devtools.images import GATEWAY

NETWORK = "enterprise-gateway_enterprise-gateway"
ENGINE_VOLUME = f"{NAME}_engine"
SOCKET_FOLDER = "/run/enterprise-gateway"
CONTAINER_SPECS = "/usr/local/share/jupyter/kernels/.docker/share/jupyter"
"""What the gateway's image has of kernelspecs whose kernels are containers."""
SECRETS = {f"/run/secrets/{name}" for name in ("auth-token", "balancer-secret", "cluster-secret")}
SERVICE_PORT = 8891
CONTAINER_PORT = 8892
POLL_SECONDS = 0.1

LABELS = {
    "enterprise-gateway": "enterprise-gateway",
    "enterprise-gateway-proxy": "enterprise-gateway-proxy",
    "engine-proxy": "engine-proxy",
}
"""Services, and what their label `component` says."""

LOOK_AROUND = """
import json, os, socket, subprocess

def is_known(host):
    environment = {**os.environ, "RES_OPTIONS": "timeout:1 attempts:1"}
    return not subprocess.run(["getent", "hosts", host], env=environment).returncode

def answers(host, port):
    try:
        socket.create_connection((host, port), 2).close()
    except OSError:
        return False
    return True

paths = ["/var/run/docker.sock", "/run/enterprise-gateway"]
hosts = ["enterprise-gateway", "enterprise-gateway-proxy"]
print(json.dumps({
    "sockets": [path for path in paths if os.path.exists(path)],
    "names": [host for host in ("engine-proxy", "tasks.engine-proxy") if is_known(host)],
    "engines": [(host, port) for host in hosts for port in (2375, 2376) if answers(host, port)],
    "gateway": answers("enterprise-gateway", 8888),
    "reports": answers("enterprise-gateway", 8877),
}))
"""
"""What a kernel's user can find out about the engine."""

pytestmark = [pytest.mark.docker, pytest.mark.kernel]


@pytest.fixture
def kernel(stack: Stack) -> Iterator[str]:
    """The id of a kernel of the stack."""
    kernel_id = stack.start_kernel("python_docker")
    yield kernel_id
    stack.request("DELETE", f"/api/kernels/{kernel_id}")


def node_of(stack: Stack, kernel_id: str) -> str:
    """Return the id of the node on which a kernel's service runs."""
    with closing(stack.lab.manager.client()) as client:
        (name,) = (each for each in find_services(client, stack.username) if kernel_id in each)
        (task,) = client.services.get(name).tasks()
        return str(task["NodeID"])


def test_two_replicas_serve_through_the_load_balancer(stack: Stack) -> None:
    """Requests reach both; there is no cookie that would bind a client to one."""

    def servers() -> set[str]:
        answer = stack.request("GET", "/api/kernelspecs")
        assert answer.status_code == 200
        assert not answer.cookies
        served = stack.docker("service", "logs", "--raw", f"{NAME}_enterprise-gateway-proxy")
        requests = [line for line in served.splitlines() if line.endswith("GET /api/kernelspecs")]
        return {line.split()[1] for line in requests}

    # the balancer may have found one of them only, at first
    wait_until(lambda: servers() == {"gateway1", "gateway2"}, what="requests to both in the log")


def test_kernel_runs_on_any_node(stack: Stack) -> None:
    """Of as many kernels as nodes, one at least is on a node that is no manager."""
    kernels = [stack.start_kernel("python_docker") for _ in stack.lab.nodes]
    with closing(stack.lab.manager.client()) as client:
        manager = client.info()["Swarm"]["NodeID"]
    assert any(node_of(stack, kernel_id) != manager for kernel_id in kernels)
    for kernel_id in kernels:
        assert stack.connect(kernel_id).execute("6 * 7").result == "42"
        stack.delete_kernel(kernel_id)
    with closing(stack.lab.manager.client()) as client:
        wait_until(lambda: not find_services(client, stack.username), what="the services' end")


def test_no_node_asks_a_public_registry(stack: Stack) -> None:
    """Neither for the stack's images nor for those of kernels: their names say that none has them.

    A node asks where an image's name points to, in vain, and says so in its log.
    """
    logs = [node.engine.log for node in stack.lab.nodes]
    before = [log.stat().st_size for log in logs]
    stack.update()
    for _ in logs:
        stack.delete_kernel(stack.start_kernel("python_docker"))
    said = [log.read_bytes()[start:].decode() for log, start in zip(logs, before, strict=True)]
    asked = set(re.findall(r"https?://[^/]+/v2/", "".join(said)))
    assert asked == {"https://localhost/v2/", "http://localhost/v2/"}


def test_gateway_is_not_root_and_has_no_engine_socket(stack: Stack) -> None:
    """It has the socket of the proxy, no capabilities, and nothing but /tmp to write to."""
    for replica in stack.replicas():
        inspected = replica.inspect()
        assert replica.run("id", "-u").strip() == "1000"
        assert inspected["HostConfig"]["CapDrop"] == ["ALL"]
        assert inspected["HostConfig"]["ReadonlyRootfs"]
        assert inspected["HostConfig"]["Memory"] == 1 << 30
        mounts = {mount["Destination"]: mount for mount in inspected["Mounts"]}
        assert mounts.keys() <= {SOCKET_FOLDER, "/tmp", *SECRETS}
        assert mounts[SOCKET_FOLDER]["Name"] == ENGINE_VOLUME
        assert not mounts[SOCKET_FOLDER]["RW"]
        sockets = replica.run("sh", "-c", "find / -xdev -type s 2>/dev/null; find /run -type s")
        assert sockets.split() == [f"{SOCKET_FOLDER}/docker.sock"]


def test_token_is_in_no_environment(stack: Stack) -> None:
    """It is a secret of the Swarm: neither the service nor its containers show it."""
    shown = stack.docker("service", "inspect", f"{NAME}_enterprise-gateway")
    assert stack.token not in shown
    for replica in stack.replicas():
        assert stack.token not in json.dumps(replica.inspect())
        assert stack.token in replica.run("cat", "/run/secrets/auth-token")


def test_everything_is_labelled(stack: Stack) -> None:
    """Services, containers, network, volume and secret carry app and component."""
    with closing(stack.lab.manager.client()) as client:
        for name, component in LABELS.items():
            expected = {"app": "enterprise-gateway", "component": component}
            service = client.services.get(f"{NAME}_{name}")
            assert service.attrs["Spec"]["Labels"].items() >= expected.items()
            containers = client.containers.list(
                filters={"label": f"com.docker.swarm.service.name={NAME}_{name}"},
                ignore_removed=True,
            )
            assert containers
            for container in containers:
                assert container.labels.items() >= expected.items()
        others = [
            *client.networks.list(names=[NETWORK]),
            *client.networks.list(names=[f"{NAME}_gateways"]),
            *client.networks.list(names=[f"{NAME}_internal"]),
            *client.volumes.list(filters={"name": ENGINE_VOLUME}),
            *client.secrets.list(filters={"name": f"{NAME}_cluster-secret"}),
            *client.secrets.list(filters={"name": f"{NAME}_auth-token"}),
            *client.secrets.list(filters={"name": f"{NAME}_balancer-secret"}),
        ]
        labels = [each.attrs.get("Labels") or each.attrs["Spec"]["Labels"] for each in others]
    assert {each["app"] for each in labels} == {"enterprise-gateway"}
    assert [each["component"] for each in labels] == [
        "network",
        "gateway-network",
        "internal-network",
        "engine-proxy",
        "cluster-secret",
        "auth-token",
        "balancer-secret",
    ]


def test_kernel_has_no_way_to_the_engine(stack: Stack, kernel: str) -> None:
    """No socket, and no proxy in its network; of the gateway it reaches the response port only."""
    seen = json.loads(stack.connect(kernel).execute(LOOK_AROUND).stdout)
    assert seen == {"sockets": [], "names": [], "engines": [], "gateway": False, "reports": True}


def test_gateways_outlive_the_way_to_the_engine(stack: Stack, kernel: str) -> None:
    """While it is away, running kernels are served; afterwards all is as before."""
    channels = stack.connect(kernel)
    with closing(stack.lab.manager.client()) as client:
        (proxy,) = client.containers.list(
            filters={"label": "component=engine-proxy"}, ignore_removed=True
        )
        proxy.kill()
    wait_until(lambda: stack.request("GET", "/readyz").status_code == 503, what="the outage")
    assert channels.execute("6 * 7").result == "42"
    wait_until(stack.is_ready, what="the end of the outage")
    stack.delete_kernel(stack.start_kernel("python_docker"))


def test_update_refuses_no_client(stack: Stack, kernel: str) -> None:
    """While all replicas are replaced, every request is answered and the kernel goes on."""
    assert stack.connect(kernel).execute("answer = 42").status == "ok"
    with polling(stack, f"/api/kernels/{kernel}") as statuses:
        stack.update()
    assert set(statuses) == {200}
    assert stack.connect(kernel).execute("answer").result == "42"


def test_kernel_may_be_a_container_if_the_gateway_is_a_service(stack: Stack) -> None:
    """It is on the gateway's node then."""
    with gateway_service(stack) as gateway:
        kernel_id = gateway.start_kernel("python_docker")
        with closing(stack.lab.manager.client()) as client:
            containers = client.containers.list(ignore_removed=True)
        names = [container.name for container in containers]
        assert f"{gateway.username}-{kernel_id}" in names
        assert gateway.connect(kernel_id).execute("6 * 7").result == "42"
        gateway.delete_kernel(kernel_id)


def test_kernel_may_be_a_service_if_the_gateway_is_a_container(stack: Stack) -> None:
    """It is on any node then."""
    with gateway_container(stack) as gateway:
        kernel_id = gateway.start_kernel("python_docker")
        with closing(stack.lab.manager.client()) as client:
            assert find_services(client, gateway.username)
        assert gateway.connect(kernel_id).execute("6 * 7").result == "42"
        gateway.delete_kernel(kernel_id)


@contextmanager
def polling(client: GatewayClient, path: str) -> Iterator[list[int]]:
    """Ask for a path all the time; yields the status codes, which grow."""
    statuses: list[int] = []
    stop = threading.Event()

    def poll() -> None:
        while not stop.wait(POLL_SECONDS):
            # a connection for each, as from clients that know nothing of one another
            headers = {"Authorization": f"token {client.token}"}
            statuses.append(
                requests.get(client.url + path, headers=headers, timeout=90).status_code
            )

    with ThreadPoolExecutor(1) as pool:
        polls = pool.submit(poll)
        try:
            yield statuses
        finally:
            stop.set()
        polls.result()


@contextmanager
def gateway_service(stack: Stack) -> Iterator[GatewayClient]:
    """Have another gateway, as a service of one replica whose kernels are containers."""
    gateway = another(stack, SERVICE_PORT)
    ports = {SERVICE_PORT: (8888, "tcp", "host")}
    with closing(stack.lab.manager.client()) as client:
        service = client.services.create(
            GATEWAY.tag,
            name="egt-gateway",
            env=[*environment(gateway), f"JUPYTER_PATH={CONTAINER_SPECS}"],
            constraints=["node.role == manager"],
            networks=[NETWORK],
            mounts=[Mount(SOCKET_FOLDER, ENGINE_VOLUME, read_only=True)],
            endpoint_spec=EndpointSpec(mode="dnsrr", ports=ports),
        )
        try:
            wait_until(lambda: answers(gateway), deadline=60, what="the gateway in a service")
            yield gateway
        finally:
            gateway.disconnect()
            for container in client.containers.list(ignore_removed=True):
                if container.name.startswith(gateway.username):
                    container.remove(force=True)
            service.remove()


@contextmanager
def gateway_container(stack: Stack) -> Iterator[GatewayClient]:
    """Have another gateway, in a container that belongs to no service."""
    gateway = another(stack, CONTAINER_PORT)
    with closing(stack.lab.manager.client()) as client:
        container = client.containers.run(
            GATEWAY.tag,
            environment=environment(gateway),
            network=NETWORK,
            ports={8888: CONTAINER_PORT},
            volumes={ENGINE_VOLUME: {"bind": SOCKET_FOLDER, "mode": "ro"}},
            detach=True,
        )
        try:
            wait_until(lambda: answers(gateway), deadline=60, what="the gateway in a container")
            yield gateway
        finally:
            gateway.disconnect()
            remove_services(stack.lab, gateway.username)
            container.remove(force=True)


def another(stack: Stack, port: int) -> GatewayClient:
    """Return a client of a gateway that is not of the stack, on the manager."""
    return GatewayClient(
        f"http://{stack.lab.manager.ip}:{port}",
        token=secrets.token_hex(16),
        username=f"t{secrets.token_hex(4)}",
    )


def environment(gateway: GatewayClient) -> list[str]:
    """Return the environment of a gateway that uses the stack's network and way to the engine."""
    return [
        f"DOCKER_HOST=unix://{SOCKET_FOLDER}/docker.sock",
        f"EG_DOCKER_NETWORK={NETWORK}",
        f"EG_CLUSTER_SECRET={secrets.token_hex(32)}",
        f"EG_AUTH_TOKEN={gateway.token}",
    ]


def answers(gateway: GatewayClient) -> bool:
    """Whether the gateway is ready."""
    try:
        return gateway.request("GET", "/readyz", timeout=5).status_code == 200
    except requests.RequestException:
        return False
