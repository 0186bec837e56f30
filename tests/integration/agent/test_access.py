"""The agent holds clients to their shares and credentials, without a gateway in between."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from harness.agents.agent import DEADLINE, Agent, Client
from harness.waiting import eventually

from jupyter_wire.messages import Codec, Message, encode, execute_content, make_header

pytestmark = pytest.mark.kernel

SHARES = [{"id": "r", "access": "read"}, {"id": "w", "access": "write"}]


async def share(agent: Agent, revision: int, shares: list[dict[str, str]]) -> None:
    """Write these shares, as a gateway does."""
    status, _ = await agent.request(
        "PUT", "/v1/annotations", {"shares": shares}, headers={"If-Match": f'"{revision}"'}
    )
    assert status == 200


async def dial(agent: Agent, path: str, query: str) -> Client:
    """Open a WebSocket as the load balancer does for a client."""
    socket = await agent.session().ws_connect(f"{path}?session_id=s&{query}", max_msg_size=0)
    return Client(socket, Codec.LEGACY, "h")


async def close_code(client: Client) -> int:
    """Return the code with which a WebSocket is closed."""
    client.socket._autoping = False  # a pong could meet the end of the connection
    async with asyncio.timeout(DEADLINE):
        while True:
            message = await client.socket.receive()
            if message.type is aiohttp.WSMsgType.CLOSE:
                return int(message.data)


async def test_share_is_needed_and_closes_what_it_opened(agent: Agent) -> None:
    """At once, in the same process that takes the annotations: nothing slips in between."""
    await eventually(agent.is_listening)
    for query in ("", "grant=r"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await dial(agent, "/v1/shared/channels", query)
        assert refused.value.status == (403 if query else 400)
    await share(agent, 0, SHARES)
    reader = await dial(agent, "/v1/shared/channels", "user=rita&grant=r")
    writer = await dial(agent, "/v1/shared/channels", "user=walt&grant=w")
    owner = await dial(agent, "/v1/channels", "user=ann&credential=c")
    seen = await writer.execute("print('hello')")
    assert [m.content["text"] for m in seen if m.type == "stream"] == ["hello\n"]
    await reader.until(lambda m: m.type == "stream")
    replies = await reader.finish(await reader.run("1"))
    assert [m.content["ename"] for m in replies if m.type == "execute_reply"] == ["ReadOnly"]
    await share(agent, 1, SHARES[1:])
    assert await close_code(reader) == 1008
    assert [m.type for m in await writer.execute("2") if m.type == "execute_result"]
    await share(agent, 2, [])
    assert await close_code(writer) == 1008
    await owner.execute("3")
    for client in (reader, writer, owner):
        await client.socket.close()


async def test_viewer_follows_an_execution_without_prompts_and_results(agent: Agent) -> None:
    """Over HTTP as on a WebSocket: the output, and nothing that only who asked is told."""
    await eventually(agent.is_listening)
    await share(agent, 0, SHARES)
    owner = await dial(agent, "/v1/channels", "user=ann")
    code = "print('hello'); secret = input('password of ann?')"
    content = execute_content(code, allow_stdin=True) | {"user_expressions": {"mine": "secret"}}
    msg_id = await owner.send("execute_request", content)
    prompt = (await owner.until(lambda m: m.type == "input_request"))[-1]
    await owner.send(
        "input_reply", {"value": "xyzzy"}, channel="stdin", parent_header=prompt.header
    )
    await owner.finish(msg_id)

    async def follow(query: str) -> list[dict[str, Any]]:
        path = f"/v1/executions/{msg_id}?{query}"
        async with agent.session().get(path) as response:
            return [json.loads(line) async for line in response.content]

    everything = await follow("user=ann")
    kinds = {record["msg_type"] for record in everything if "msg_type" in record}
    assert {"input_request", "stream", "execute_reply"} <= kinds
    assert "xyzzy" in str(everything)
    assert str(await follow("user=walt&grant=w")) == str(everything)
    seen = await follow("user=rita&grant=r")
    assert "password" not in str(seen).replace(code, "")
    assert "xyzzy" not in str(seen)
    assert [r["content"]["text"] for r in seen if r.get("msg_type") == "stream"] == ["hello\n"]
    assert seen[-1]["msg_type"] == "execute_reply"
    assert seen[-1]["content"] == {"status": "ok", "execution_count": 1}
    await owner.socket.close()


async def test_revoked_credential_is_closed_and_refused(agent: Agent) -> None:
    """Those of the same user with another credential stay."""
    await eventually(agent.is_listening)
    revoked = await dial(agent, "/v1/channels", "user=ann&credential=c1")
    async with agent.session().post(
        "/v1/execute?user=ann&credential=c1", json={"code": "import time; time.sleep(30)"}
    ) as response:
        assert b"execution" in await response.content.readline()
        assert (await agent.request("POST", "/v1/revoke", {"credentials": ["c1"]}))[0] == 204
        assert await close_code(revoked) == 1008
        async with asyncio.timeout(DEADLINE):
            records = (await response.content.read()).splitlines()
        assert b'"revoked"' in records[-1]
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await dial(agent, "/v1/channels", "user=ann&credential=c1")
    assert refused.value.status == 403
    other = await dial(agent, "/v1/channels", "user=ann&credential=c2")
    assert (await agent.request("POST", "/v1/interrupt"))[0] == 204
    for client in (revoked, other):
        await client.socket.close()


async def test_viewer_that_does_not_read_costs_no_memory(agent: Agent) -> None:
    """Answers to what it sends are dropped while it takes none."""
    await eventually(agent.is_listening)
    await share(agent, 0, SHARES)
    reader = await dial(agent, "/v1/shared/channels", "user=rita&grant=r")
    reader.transport().pause_reading()
    before = resident_bytes(agent)
    for _ in range(20_000):
        await reader.send("execute_request", {"code": "x" * 1000})
    assert (await agent.request("GET", "/v1/state"))[0] == 200
    assert resident_bytes(agent) - before < 16 * 1024 * 1024
    await reader.cut()


async def test_user_who_repeats_ids_gets_nothing_of_another(agent: Agent, tmp_path: Path) -> None:
    """Neither the prompt nor the reply, and the kernel does not run the second request."""
    await eventually(agent.is_listening)
    go = tmp_path / "go"
    owner = await dial(agent, "/v1/channels", "user=ann")
    other = await dial(agent, "/v1/channels", "user=bob")
    code = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)\ninput()"
    msg_id = await owner.run(code, allow_stdin=True)
    await owner.until(lambda m: m.type == "execute_input")
    header = {**make_header("execute_request", owner.header_session, "bob"), "msg_id": msg_id}
    repeated = Message("shell", header, {}, {}, execute_content("print('second')"), ())
    await other.socket.send_str(str(encode(repeated, Codec.LEGACY)))
    await other.finish(await other.send("kernel_info_request", channel="control"))
    go.touch()
    prompt = (await owner.until(lambda m: m.type == "input_request"))[-1]
    await owner.send("input_reply", {"value": "x"}, channel="stdin", parent_header=prompt.header)
    replies = await owner.finish(msg_id)
    assert [m.content["status"] for m in replies if m.type == "execute_reply"] == ["ok"]
    await other.execute("1")
    of_owner = [m for m in other.received if m.parent_id == msg_id]
    assert {m.channel for m in of_owner} == {"iopub"}
    assert "stream" not in {m.type for m in of_owner}
    for client in (owner, other):
        await client.socket.close()


async def test_viewer_does_not_keep_a_kernel_from_being_culled() -> None:
    """It counts as a connection, and the idle kernel ends all the same."""
    async with Agent() as agent:
        await agent.until_state("idle")
        await share(agent, 0, SHARES)
        reader = await dial(agent, "/v1/shared/channels", "user=rita&grant=r")
        assert (await agent.state())["connections"] == 1
        settings = {"cull_idle_timeout": 1.0, "cull_interval": 0.1}
        assert (await agent.request("PUT", "/v1/culling", settings))[0] == 204
        assert await close_code(reader) == 1001
        assert await agent.wait() == 0
        await reader.socket.close()


def resident_bytes(agent: Agent) -> int:
    """Return the memory that the agent's process has."""
    return int(Path(f"/proc/{agent.pid}/statm").read_text().split()[1]) * 4096
