"""An agent that speaks TLS, and gateways that speak with none but the kernel's."""

import socket
import ssl
from collections.abc import AsyncIterator

import aiohttp
import pytest
from harness.agents.agent import Agent
from harness.agents.messages import texts
from harness.waiting import eventually

from enterprise_gateway.errors import GatewayError
from enterprise_gateway.services.kernels.agents.agent import Agent as AgentClient
from enterprise_gateway.services.kernels.planning.agent_credentials import (
    derive_certificate,
    derive_public_key,
)
from enterprise_gateway.services.processproxies.contract import AgentEndpoint

SECRET = b"s" * 32
LAUNCH_ID = "tls-1"
HOST = "127.0.0.1"

pytestmark = pytest.mark.kernel


class TlsAgent(Agent):
    """An agent with a certificate; requests of the tests trust any."""

    def __init__(self) -> None:
        with socket.create_server((HOST, 0)) as found:
            port = found.getsockname()[1]
        super().__init__(listen=f"tcp:{HOST}:{port}")
        certificate = derive_certificate(SECRET, self.kernel_id, LAUNCH_ID)
        self._env["EG_AGENT_CERTIFICATE"] = certificate

    def url(self) -> str:
        """See the base class."""
        return super().url().replace("http:", "https:")

    def session(self) -> aiohttp.ClientSession:
        """See the base class."""
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=False)
            headers = {"Authorization": f"Bearer {self.token}"}
            self._session = aiohttp.ClientSession(self.url(), connector=connector, headers=headers)
        return self._session


@pytest.fixture
async def agent() -> AsyncIterator[TlsAgent]:
    """An agent with ipykernel, ready."""
    async with TlsAgent() as made:
        await made.until_state("idle")
        yield made


def client_of(agent: Agent, launch_id: str = LAUNCH_ID) -> AgentClient:
    """Return a gateway's client that expects the agent of a launch."""
    key = derive_public_key(SECRET, agent.kernel_id, launch_id)
    port = int(agent.listen.rpartition(":")[2])
    return AgentClient(agent.kernel_id, AgentEndpoint(HOST, port, public_key=key), agent.token)


async def test_gateway_speaks_with_the_agent_whose_key_it_knows(agent: TlsAgent) -> None:
    """Requests and the event stream work as without TLS."""
    client = client_of(agent)
    assert (await client.state()).execution_state == "idle"
    async with client.events() as states:
        assert (await anext(states)).execution_state == "idle"
    client.close()


async def test_gateway_sends_nothing_to_another_agent(agent: TlsAgent) -> None:
    """The key is another launch's: the token is not sent."""
    client = client_of(agent, "tls-2")
    with pytest.raises(GatewayError, match="does not prove to be"):
        await client.state()
    client.close()


async def test_agent_speaks_nothing_but_tls(agent: TlsAgent) -> None:
    """A plain request, whose token others could read, gets no answer."""
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(agent.url().replace("https:", "http:") + "/v1/state")


async def test_agent_takes_no_old_tls(agent: TlsAgent) -> None:
    """TLS 1.2 and older are refused."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"{agent.url()}/v1/state", ssl=context)


async def test_kernel_finds_no_trace_of_the_key(agent: TlsAgent) -> None:
    """Neither its environment nor the file system have it."""
    client = await agent.connect("tls")
    code = (
        "import glob, os\n"
        "print([name for name in os.environ if name.startswith('EG_AGENT')],"
        " glob.glob(os.environ['TMPDIR'] + '/**/certificate*', recursive=True))"
    )
    messages = await client.execute(code)
    assert texts(messages) == "[] []\n"
    await client.cut()


async def test_large_output_arrives_whole(agent: TlsAgent) -> None:
    """Backpressure works through TLS: 64 MB in pieces, to a client that reads when it can."""
    client = await agent.connect("tls")
    messages = await client.execute("for i in range(64): print(str(i % 10) * 1_000_000)")
    assert len(texts(messages)) == 64 * 1_000_001
    await client.cut()


async def test_malformed_certificate_ends_the_start() -> None:
    """The agent says which variable it is, and not its value."""
    async with Agent(env={"EG_AGENT_CERTIFICATE": "c2VjcmV0"}) as agent:
        assert await agent.wait() == 2
        await eventually(lambda: "EG_AGENT_CERTIFICATE is malformed" in agent.log())
        assert "c2VjcmV0" not in agent.log()
