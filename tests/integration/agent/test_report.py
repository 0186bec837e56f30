"""The one report to the gateway: ready, failed, and what the answer means."""

import asyncio
import contextlib
import json
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from harness.agents.agent import Agent
from harness.agents.attached import AttachedKernel
from harness.agents.messages import texts
from harness.waiting import eventually

from enterprise_gateway.services.processproxies.responses.certificate import make_certificate

pytestmark = pytest.mark.kernel


class Identity:
    """The key and certificate of a gateway."""

    def __init__(self, folder: Path) -> None:
        made = make_certificate()
        path = folder / f"{id(self)}.pem"
        path.write_text(made["pem"])
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(path)
        self.public_key = made["public_key"]


class Gateway:
    """The peer at RESPONSE_ADDRESS."""

    def __init__(self, answer: bytes) -> None:
        self.reports: list[dict[str, Any]] = []
        self.attempts = 0
        self.answer = answer
        self.env: dict[str, str] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one report."""
        self.attempts += 1
        line = await reader.readline()
        if line:
            self.reports.append(json.loads(line))
            writer.write(self.answer)
        writer.close()


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> list[Identity]:
    """Two key pairs."""
    folder = tmp_path_factory.mktemp("keys")
    return [Identity(folder), Identity(folder)]


@contextlib.asynccontextmanager
async def gateway(
    identity: Identity, answer: bytes = b'{"status": "ok"}\n', *, expected: Identity | None = None
) -> AsyncIterator[Gateway]:
    """Run a gateway with an identity; agents are told to expect `expected`, or the same."""
    peer = Gateway(answer)
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0, ssl=identity.context)
    port = server.sockets[0].getsockname()[1]
    peer.env = {
        "RESPONSE_ADDRESS": f"127.0.0.1:{port}",
        "PUBLIC_KEY": (expected or identity).public_key,
    }
    async with server:
        yield peer


async def test_ready_report_tells_where_and_what(identities: list[Identity]) -> None:
    """When the kernel is usable the gateway gets token, address and kernel_info, once."""
    async with gateway(identities[0]) as peer, Agent(env=peer.env) as agent:
        await eventually(lambda: peer.reports)
        (report,) = peer.reports
        assert report["version"] == 1
        assert report["kernel_id"] == agent.kernel_id
        assert report["token"] == agent.token
        assert report["status"] == "ready"
        assert report["listen"] == agent.listen
        assert report["kernel_info"]["language_info"]["name"] == "python"
        assert list(report["start"]["steps"]) == ["agent", "kernel", "report"]
        client = await agent.connect("s")
        assert texts(await client.execute("print(1)")) == "1\n"
        await agent.request("POST", "/v1/restart")
        assert len(peer.reports) == 1


async def test_rejected_report_ends_everything(identities: list[Identity]) -> None:
    """No gateway waits for the kernel: the agent ends it and exits with 0."""
    async with (
        gateway(identities[0], b'{"status": "rejected"}\n') as peer,
        Agent(env=peer.env) as agent,
    ):
        assert await agent.wait() == 0


@pytest.mark.parametrize("answer", [b"", b"nonsense\n", b'{"status": "maybe"}\n', b"[]\n", b"{}\n"])
async def test_unanswered_report_ends_everything(identities: list[Identity], answer: bytes) -> None:
    """No valid answer in time: the agent tries again, then ends: no gateway knows it."""
    async with (
        gateway(identities[0], answer) as peer,
        Agent(env=peer.env, settings={"report_timeout": 3}) as agent,
    ):
        assert await agent.wait() == 0
        assert peer.attempts >= 2


async def test_unanswered_report_is_no_end_for_a_kernel_that_is_known(
    identities: list[Identity],
) -> None:
    """A client that connects knows the kernel."""
    async with (
        gateway(identities[0], b"") as peer,
        Agent(env=peer.env, settings={"report_timeout": 3}) as agent,
    ):
        client = await agent.connect("s")
        await client.execute("1")
        await eventually(lambda: "report to the gateway: unanswered" in agent.log())
        assert texts(await client.execute("print('known')")) == "known\n"


async def test_unclaimed_kernel_ends_in_order(identities: list[Identity]) -> None:
    """No client came: neither that it is watched, nor what gateways do by themselves, is one."""
    async with (
        gateway(identities[0]) as peer,
        Agent(env=peer.env, settings={"claim_timeout": 6}) as agent,
    ):
        await agent.until_state("idle")
        async with agent.session().get("/v1/events") as events:
            assert (await agent.state())["claimed"] is False
            await agent.request("GET", "/v1/annotations")
            await agent.request("PUT", "/v1/annotations", {}, headers={"If-Match": '"0"'})
            await agent.request("PUT", "/v1/culling", {"cull_interval": 10})
            await agent.request("GET", "/v1/log")
            assert (await agent.state())["claimed"] is False
            last = [json.loads(line) async for line in events.content if line.strip()][-1]
        assert await agent.wait() == 0
        assert (last["execution_state"], last["reason"]) == ("dead", None)
        assert agent.log().count("no client claimed it within 6 s") == 1


async def test_kernel_that_no_user_takes_from_its_pool_ends_in_order(
    identities: list[Identity],
) -> None:
    """No gateway may look after the pool any more."""
    async with (
        gateway(identities[0]) as peer,
        Agent(env=peer.env, settings={"pool_ttl": 6}) as agent,
    ):
        await agent.until_state("idle")
        async with agent.session().get("/v1/events") as events:
            assert (await agent.state())["pooled"] is True
            last = [json.loads(line) async for line in events.content if line.strip()][-1]
        assert await agent.wait() == 0
        assert (last["execution_state"], last["reason"]) == ("dead", None)
        assert (last["ended_by"], last["pooled"]) == ("agent", True)


async def test_kernel_that_a_user_has_taken_outlives_its_time_in_the_pool(
    identities: list[Identity],
) -> None:
    """It is the user's, for as long as the user wants."""
    async with (
        gateway(identities[0]) as peer,
        Agent(env=peer.env, settings={"pool_ttl": 6}) as agent,
    ):
        await agent.until_state("idle")
        assert (await agent.request("POST", "/v1/take", {"username": "bob"}))[0] == 200
        with pytest.raises(TimeoutError):
            await agent.wait(deadline=7)
        assert (await agent.state())["username"] == "bob"


async def test_unclaimed_kernel_beside_its_agent_ends_too(identities: list[Identity]) -> None:
    """A sidecar ends the kernel of the other container, and then its launcher."""
    settings = {"claim_timeout": 1, "shutdown_wait_time": 60.0}
    async with (
        AttachedKernel() as kernel,
        gateway(identities[0]) as peer,
        Agent(attach=kernel.attachment, env=peer.env, settings=settings) as agent,
    ):
        assert await agent.wait() == 0
        assert kernel.process is not None
        assert await asyncio.wait_for(kernel.process.wait(), 60) == 0
        await eventually(lambda: {"shutdown": 1} in kernel.requests)


@pytest.mark.parametrize("request_", ["channels", "claim", "interrupt", "restart"])
async def test_claimed_kernel_goes_on(identities: list[Identity], request_: str) -> None:
    """Whatever a client asks of a kernel claims it, for good."""
    async with (
        gateway(identities[0]) as peer,
        Agent(env=peer.env, settings={"claim_timeout": 5}) as agent,
    ):
        await agent.until_state("idle")
        if request_ == "channels":
            await (await agent.connect("s")).cut()
        else:
            for _ in range(2):
                status, _body = await agent.request("POST", f"/v1/{request_}")
                assert status in {200, 204}
        assert (await agent.state())["claimed"] is True
        # Longer than an unclaimed one lives, as the test above shows.
        with pytest.raises(TimeoutError):
            await agent.wait(deadline=7)
        client = await agent.connect("t")
        assert texts(await client.execute("print('on')")) == "on\n"


async def test_kernel_of_a_gateway_that_claims_nothing_goes_on(identities: list[Identity]) -> None:
    """A gateway of the version before does not send `claim_timeout`."""
    async with gateway(identities[0]) as peer, Agent(env=peer.env) as agent:
        await eventually(lambda: "report to the gateway: ok" in agent.log())
        assert (await agent.state())["claimed"] is False
        with pytest.raises(TimeoutError):
            await agent.wait(deadline=2)


async def test_peer_with_another_key_learns_nothing(identities: list[Identity]) -> None:
    """Who does not hold PUBLIC_KEY gets no report."""
    async with (
        gateway(identities[0], expected=identities[1]) as peer,
        Agent(env=peer.env, settings={"report_timeout": 3}) as agent,
    ):
        assert await agent.wait() == 0
        assert peer.attempts >= 1
        assert peer.reports == []


async def test_absent_gateway_is_no_crash(identities: list[Identity]) -> None:
    """No gateway listens at RESPONSE_ADDRESS: as unanswered."""
    env = {"RESPONSE_ADDRESS": "127.0.0.1:9", "PUBLIC_KEY": identities[0].public_key}
    async with Agent(env=env, settings={"report_timeout": 0.5}) as agent:
        assert await agent.wait() == 0


FAILURES = {
    "exits": (
        [sys.executable, "-c", "import sys; sys.exit('no such module')"],
        "exited with code 1",
    ),
    "is killed": (["sh", "-c", "kill -ABRT $$"], "killed by SIGABRT"),
    "is missing": (["/nonexistent/python"], "cannot be started"),
    "never answers": (["sleep", "100"], "did not answer kernel_info in 2 s"),
}


@pytest.mark.parametrize("kind", list(FAILURES))
async def test_failed_launch_is_reported_with_its_reason(
    identities: list[Identity], kind: str
) -> None:
    """A kernel that does not come up: the report says why, the agent exits with 1."""
    argv, expected = FAILURES[kind]
    settings = {"launch_timeout": 2 if kind == "never answers" else 60}
    async with (
        gateway(identities[0]) as peer,
        Agent(argv=argv, env=peer.env, settings=settings) as agent,
    ):
        assert await agent.wait() == 1
        (report,) = peer.reports
        assert report["status"] == "failed"
        assert report["token"] == agent.token
        reason = report["reason"]
        assert set(reason) == {"message", "exit_code", "signal", "out_of_memory", "stderr"}
        assert expected in reason["message"]
        assert ("no such module" in reason["stderr"]) is (kind == "exits")
        was_spawned = kind != "is missing"
        assert list(report["start"]["steps"]) == ["agent", "kernel"][: 1 + was_spawned]
