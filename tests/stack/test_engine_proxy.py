"""What gets through to the Docker engine, and what does not."""

import asyncio
import json
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import aiodocker
import pytest
from harness.engines.engine_proxy import EngineProxy, RecordingEngine, recording_engine
from harness.waiting import wait_until

from devtools.images import KERNEL

NAME = "ann-2f3a"
POOLED = "enterprise-gateway-pool-01234567-89ab-cdef-0123-456789abcdef"
AGENT = "enterprise-gateway-agent-0123456789abcdef"

pytestmark = pytest.mark.docker

ALLOWED = [
    ("GET", "/_ping"),
    ("HEAD", "/_ping"),
    ("GET", "/version"),
    ("GET", "/v1.41/version"),
    ("GET", "/v1.41/containers/json?all=1&filters=%7B%22label%22%3A%5B%22a%3Db%22%5D%7D"),
    ("POST", f"/v1.41/containers/create?name={NAME}"),
    ("GET", f"/v1.41/containers/{NAME}/json"),
    ("POST", f"/v1.41/containers/{NAME}/start"),
    ("POST", f"/v1.41/containers/{NAME}/wait?condition=removed"),
    ("POST", f"/v1.41/containers/{NAME}/pause"),
    ("POST", f"/v1.41/containers/{NAME}/unpause"),
    ("POST", f"/v1.41/containers/{NAME}/attach?detachKeys=&logs=1&stdin=0&stdout=1&stream=1"),
    ("GET", f"/v1.41/containers/{NAME}/logs?stdout=1"),
    ("GET", f"/v1.41/containers/{NAME}/stats?stream=false&one-shot=true"),
    ("DELETE", f"/v1.41/containers/{NAME}?force=1&v=1"),
    ("GET", "/v1.41/networks/enterprise-gateway_enterprise-gateway"),
    ("GET", "/v1.41/images/enterprise-gateway/kernel-py:0.1.0/json"),
    ("GET", "/v1.41/images/registry.example.org:5000/team/a_b-c.d:V1/json"),
    ("GET", f"/v1.41/images/debian%40sha256:{'a' * 64}/json"),
    ("GET", f"/v1.41/images/sha256:{'a' * 64}/json"),
    ("POST", "/v1.41/images/create?tag=1.0&fromImage=registry.example.org%3A5000%2Fa%2Fb"),
    ("GET", "/v1.41/services?filters=%7B%7D"),
    ("POST", "/v1.41/services/create"),
    ("GET", f"/v1.41/services/{NAME}?insertDefaults=false"),
    ("GET", f"/v1.41/services/{NAME}/logs?stdout=1"),
    ("GET", "/v1.41/secrets/warehouse-ann"),
    ("DELETE", f"/v1.41/services/{NAME}"),
    ("GET", "/v1.41/tasks?filters=%7B%7D"),
    ("GET", "/v1.41/nodes"),
    ("GET", f"/v1.41/volumes/{AGENT}"),
    ("POST", f"/v1.41/containers/create?name={AGENT}"),
    ("HEAD", f"/v1.41/containers/{AGENT}/archive?path=/opt/enterprise-gateway/agent"),
    ("GET", f"/v1.41/containers/{AGENT}/archive?path=/opt/enterprise-gateway/agent"),
    ("HEAD", f"/v1.41/containers/{AGENT}/archive?path=%2Fopt%2Fenterprise-gateway%2Fagent"),
    ("PUT", f"/v1.41/containers/{AGENT}/archive?path=/opt/enterprise-gateway"),
    ("GET", f"/v1.41/configs/{AGENT}"),
    ("POST", "/v1.41/configs/create"),
    ("POST", f"/v1.41/containers/{POOLED}/rename?name={NAME}"),
    ("POST", f"/v1.41/services/{POOLED}/update?version=12"),
]
"""What the gateway and its launch scripts ask of an engine."""

REFUSED = [
    # into containers, and out of them
    ("POST", f"/v1.41/containers/{NAME}/exec"),
    ("POST", "/v1.41/exec/abc/start"),
    ("GET", f"/v1.41/containers/{NAME}/archive?path=/"),
    ("GET", f"/v1.41/containers/{NAME}/archive?path=/opt/enterprise-gateway/agent"),
    ("GET", f"/v1.41/containers/{AGENT}/archive?path=/etc/shadow"),
    ("PUT", f"/v1.41/containers/{NAME}/archive?path=/"),
    ("HEAD", f"/v1.41/containers/{NAME}/archive?path=/opt/enterprise-gateway/agent"),
    ("PUT", f"/v1.41/containers/{NAME}/archive?path=/opt/enterprise-gateway"),
    ("PUT", f"/v1.41/containers/{AGENT}/archive?path=/"),
    ("PUT", f"/v1.41/containers/{AGENT}/archive?path=/opt/enterprise-gateway/../.."),
    ("PUT", f"/v1.41/containers/{AGENT}/archive?path=/opt/enterprise-gateway&path=/"),
    ("PUT", f"/v1.41/containers/{AGENT}/archive?path=/&path=/opt/enterprise-gateway"),
    ("PUT", f"/v1.41/containers/{AGENT}/archive"),
    ("PUT", f"/v1.41/containers/{AGENT}x/archive?path=/opt/enterprise-gateway"),
    ("PUT", f"/v1.41/containers/x{AGENT}/archive?path=/opt/enterprise-gateway"),
    ("GET", f"/v1.41/containers/{NAME}/export"),
    ("GET", f"/v1.41/containers/{NAME}/attach/ws"),
    ("POST", f"/v1.41/containers/{NAME}/attach?stdin=1&stream=1"),
    ("POST", f"/v1.41/containers/{NAME}/attach?stdi%6E=1&stream=1"),
    ("POST", f"/v1.41/containers/{NAME}/update"),
    ("POST", f"/v1.41/containers/{NAME}/kill"),
    ("POST", f"/v1.41/containers/{NAME}/rename?name=x"),
    ("POST", f"/v1.41/containers/{POOLED}/rename?name="),
    ("POST", f"/v1.41/containers/{POOLED}/rename?name=x&name=/y"),
    ("POST", f"/v1.41/containers/x{POOLED}/rename?name=x"),
    ("POST", f"/v1.41/services/x{POOLED}/update?version=12"),
    ("POST", "/v1.41/containers/prune"),
    ("POST", "/v1.41/commit?container=x"),
    # the Swarm itself
    ("GET", "/v1.41/swarm"),
    ("GET", "/v1.41/swarm/unlockkey"),
    ("POST", "/v1.41/swarm/leave?force=true"),
    ("POST", "/v1.41/swarm/update?version=1"),
    ("POST", "/v1.41/swarm/init"),
    ("POST", f"/v1.41/nodes/{NAME}/update?version=1"),
    ("DELETE", f"/v1.41/nodes/{NAME}"),
    ("POST", f"/v1.41/services/{NAME}/update?version=1"),
    ("GET", "/v1.41/secrets"),
    ("POST", "/v1.41/secrets/create"),
    ("DELETE", "/v1.41/secrets/warehouse-ann"),
    ("POST", "/v1.41/secrets/warehouse-ann/update?version=1"),
    ("GET", "/v1.41/configs"),
    ("GET", f"/v1.41/configs/{NAME}"),
    ("POST", f"/v1.41/configs/{AGENT}/update?version=1"),
    ("DELETE", f"/v1.41/configs/{AGENT}"),
    # what is on the engine
    ("POST", "/v1.41/build"),
    ("POST", "/v1.41/images/load"),
    ("POST", "/v1.41/images/create?fromSrc=-"),
    ("POST", "/v1.41/images/create?fromImage=a&fromSr%63=-"),
    ("POST", "/v1.41/images/a/push"),
    ("POST", "/v1.41/images/a/tag?repo=b"),
    ("DELETE", "/v1.41/images/a"),
    ("GET", "/v1.41/images/json"),
    ("GET", "/v1.41/volumes"),
    ("GET", f"/v1.41/volumes/{NAME}"),
    ("POST", "/v1.41/volumes/create"),
    ("DELETE", f"/v1.41/volumes/{AGENT}"),
    ("POST", "/v1.41/networks/create"),
    ("POST", "/v1.41/networks/a/connect"),
    ("DELETE", "/v1.41/networks/a"),
    ("GET", "/v1.41/plugins"),
    ("POST", "/v1.41/plugins/pull?remote=a"),
    ("GET", "/v1.41/system/df"),
    ("POST", "/session"),
    ("POST", "/grpc"),
    # the right paths with wrong methods
    ("DELETE", "/v1.41/containers/json/json"),
    ("PUT", f"/v1.41/containers/{NAME}"),
    ("GET", "/v1.41/containers/create"),
    ("POST", "/v1.41/containers/json"),
    ("OPTIONS", "/v1.41/version"),
    ("BREW", "/v1.41/version"),
    # ways around the list
    ("POST", f"/v1.41//containers/{NAME}/exec"),
    ("GET", "//v1.41/swarm"),
    ("GET", "/v1.41/containers/../swarm"),
    ("GET", "/v1.41/containers/%2e%2e/swarm/json"),
    ("GET", "/v1.41/containers/../json"),
    ("GET", "/v1.41/images/../swarm/json"),
    ("GET", "/v1.41/images/a/../../swarm/json"),
    ("GET", "/v1.41/images/a//b/json"),
    ("GET", f"/v1.41/containers/{NAME}%2Fexec/json"),
    ("GET", f"/v1.41/containers/{NAME};x/json"),
    ("GET", "/v1.41/Containers/json"),
    ("GET", "/v1.41/v1.41/version"),
    ("GET", "/v2.41/version"),
    ("GET", "/v1.41.1/version"),
    ("GET", "/v/version"),
    ("GET", "/v1.41/version/"),
    ("GET", "http://localhost/v1.41/version"),
    ("GET", "http://localhost/v1.41/swarm"),
    ("GET", "/v1.41/version%00"),
    ("GET", "/v1.41/" + "a" * 20_000),
    ("GET", "/"),
    ("GET", "*"),
    ("CONNECT", "localhost:80"),
]
"""Calls that launching kernels does not need."""


@pytest.fixture(scope="module")
def engine() -> Iterator[RecordingEngine]:
    """An engine that only takes notes, and cannot be harmed."""
    with (
        tempfile.TemporaryDirectory(prefix="egt") as folder,
        recording_engine(Path(folder) / "docker.sock") as recording,
    ):
        yield recording


@pytest.fixture(scope="module")
def proxy(engine: RecordingEngine) -> Iterator[EngineProxy]:
    """The proxy in front of that engine."""
    with closing(EngineProxy(engine.socket)) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def real() -> Iterator[EngineProxy]:
    """The proxy in front of the machine's engine."""
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    with closing(EngineProxy(Path(host.removeprefix("unix://")))) as proxy:
        yield proxy


def send(proxy: EngineProxy, method: str, target: str, *headers: str) -> tuple[int, bytes]:
    """Return status and body of the answer to a request that is sent as it stands."""
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    answer = proxy.exchange("\r\n".join([*lines, "", ""]).encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@pytest.mark.parametrize(("method", "target"), ALLOWED)
def test_what_the_gateway_needs_gets_through(
    proxy: EngineProxy, engine: RecordingEngine, method: str, target: str
) -> None:
    """As it was sent."""
    status, _ = send(proxy, method, target)
    assert status == 200
    assert engine.requests[-1][:2] == (method, target)


@pytest.mark.parametrize(("method", "target"), REFUSED, ids=lambda text: text[:60])
def test_everything_else_is_refused(
    proxy: EngineProxy, engine: RecordingEngine, method: str, target: str
) -> None:
    """Nothing of it reaches the engine, and the answer has the form of the engine's errors."""
    before = len(engine.requests)
    status, body = send(proxy, method, target)
    assert status in (400, 403)
    if status == 403 and method != "HEAD":
        message = json.loads(body)["message"]
        assert message.startswith(f"The engine proxy of Enterprise Gateway does not allow {method}")
    assert len(engine.requests) == before


def test_long_query_gets_through(proxy: EngineProxy, engine: RecordingEngine) -> None:
    """The tasks of a thousand services are listed by their ids."""
    target = f"/v1.41/tasks?filters={'a' * 32_000}"
    assert send(proxy, "GET", target)[0] == 200
    assert engine.requests[-1][1] == target


def test_upgrade_carries_nothing_past_the_list(proxy: EngineProxy, engine: RecordingEngine) -> None:
    """HTTP/2 would: only attaching is an upgrade, to a plain stream of bytes."""
    upgrade = ("Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
    send(proxy, "GET", "/v1.41/version", *upgrade)
    headers = {name.lower(): value for name, value in engine.requests[-1][2].items()}
    assert not headers.keys() & {"upgrade", "http2-settings"}
    before = len(engine.requests)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    assert not proxy.exchange(preface).startswith(b"HTTP/1.1 2")
    assert len(engine.requests) == before


def test_event_stream_ends_with_its_reader(proxy: EngineProxy, engine: RecordingEngine) -> None:
    """A gateway that is killed leaves no stream open at the engine."""
    with socket.socket(socket.AF_UNIX) as reader:
        reader.connect(str(proxy.socket))
        reader.sendall(b"GET /v1.41/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: engine.followers == 1, what="the stream of events")
    wait_until(lambda: engine.followers == 0, what="the end of the stream")


def test_sdk_runs_a_container(real: EngineProxy) -> None:
    """As launch scripts do."""
    with closing(real.client()) as client:
        container = client.containers.run(
            KERNEL.tag,
            ["sleep", "100"],
            entrypoint=["env"],
            name=f"egt-{secrets.token_hex(4)}",
            detach=True,
        )
        try:
            assert client.containers.get(container.id).status in ("created", "running")
            assert client.images.get(KERNEL.tag).id
        finally:
            container.remove(force=True)


async def test_output_is_followed_as_it_comes(real: EngineProxy) -> None:
    """By a connection that is taken over from HTTP, until the container ends."""
    async with aiodocker.Docker(f"unix://{real.socket}") as client:
        container = await client.containers.create(
            {
                "Image": KERNEL.tag,
                "Entrypoint": ["sh", "-c", "for second in $(seq 100); do echo line; sleep 1; done"],
                "HostConfig": {"AutoRemove": True},
            },
            name=f"egt-{secrets.token_hex(4)}",
        )
        await container.start()
        async with asyncio.timeout(60):
            async with container.attach(stdout=True, stderr=True) as stream:
                first = await stream.read_out()
                second = await stream.read_out()
                await container.delete(force=True)
                while await stream.read_out() is not None:
                    pass
    assert [part.data for part in (first, second) if part] == [b"line\n", b"line\n"]
