"""Executions over HTTP through a gateway, with real ipykernels as local processes."""

import asyncio
import io
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from harness.clients.executions import Stream, check_order, reply, stdout
from harness.engines.fake_engine import FakeEngine
from harness.gateways.service import TOKEN, UNKNOWN_ID, Service, is_state, serve_settings
from harness.waiting import eventually

from enterprise_gateway.settings import LiveSettings
from enterprise_gateway.web import server

pytestmark = pytest.mark.kernel

LINES = 100
PRINTED = "".join(f"{number}\n" for number in range(LINES))


def print_until(file: Path) -> str:
    """Return code that prints `PRINTED`, line by line, and the second half once there is a file."""
    return (
        "import os, time\n"
        f"for number in range({LINES}):\n"
        "    print(number, flush=True)\n"
        "    time.sleep(0.01)\n"
        f"    while number == {LINES // 2} and not os.path.exists({str(file)!r}):\n"
        "        time.sleep(0.01)"
    )


@asynccontextmanager
async def execute(
    service: Service, kernel_id: str, code: str, key: str = "", **body: Any
) -> AsyncIterator[Stream]:
    """Begin an execution, or continue that of a key."""
    headers = {"Idempotency-Key": key} if key else {}
    path = f"/api/kernels/{kernel_id}/execute"
    async with service.http.post(path, json={"code": code, **body}, headers=headers) as response:
        yield Stream(response)


@asynccontextmanager
async def follow(
    service: Service, kernel_id: str, msg_id: str, after: int
) -> AsyncIterator[Stream]:
    """Continue an execution."""
    path = f"/api/kernels/{kernel_id}/executions/{msg_id}?after={after}"
    async with service.http.get(path) as response:
        yield Stream(response)


async def test_execution_is_streamed_listed_and_continued_by_another_gateway(
    real_service: Service, live: LiveSettings, tmp_path: Path
) -> None:
    """Nothing is lost or repeated, and an idempotency key counts there too."""
    kernel_id = await real_service.start_kernel()
    code = print_until(tmp_path / "continued")
    async with serve_settings(live) as other:
        async with execute(real_service, kernel_id, code, "k") as stream:
            assert stream.response.content_type == "application/x-ndjson"
            await stream.until(msg_type="stream")
        got = list(stream.records)
        (one,) = await other.get(f"/api/kernels/{kernel_id}/executions")
        assert (one["msg_id"], one["state"]) == (stream.msg_id, "running")
        await eventually(lambda: is_state(other, kernel_id, "busy"))
        async with follow(other, kernel_id, stream.msg_id, stream.position) as rest:
            (tmp_path / "continued").touch()
            got += (await rest.read())[1:]
        check_order(got)
        assert stdout(got) == PRINTED
        assert reply(got)["status"] == "ok"
        async with execute(other, kernel_id, code, "k") as again:
            assert (await again.read())[1:] == got[1:]
        async with execute(other, kernel_id, "other", "k") as refused:
            assert refused.response.status == 422


async def test_connection_and_gateway_are_usable_after_a_stream(real_service: Service) -> None:
    """HTTP keep-alive; a stream is no connection of the kernel's."""
    kernel_id = await real_service.start_kernel()
    reader, writer = await asyncio.open_connection("127.0.0.1", real_service.port)
    for _ in range(3):
        writer.write(
            f"POST /api/kernels/{kernel_id}/execute HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: token {TOKEN}\r\nContent-Length: 13\r\n\r\n"
            '{"code": "5"}'.encode()
        )
        answer = await reader.readuntil(b"\r\n0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b'"execute_reply"' in answer
    async with execute(real_service, kernel_id, "import time\ntime.sleep(1)") as stream:
        await stream.until(content={"execution_state": "busy"})
        assert (await real_service.get(f"/api/kernels/{kernel_id}"))["connections"] == 0
    writer.close()


async def test_prompt_is_answered_through_another_gateway(
    real_service: Service, live: LiveSettings
) -> None:
    """204, once."""
    kernel_id = await real_service.start_kernel()
    async with execute(real_service, kernel_id, "print(input())", allow_stdin=True) as stream:
        await stream.until(msg_type="input_request")
        path = f"/api/kernels/{kernel_id}/executions/{stream.msg_id}/input"
        async with serve_settings(live) as other:
            assert (await other.ask("POST", path, json={"value": "Ada"})).status == 204
        assert stdout(await stream.read()) == "Ada\n"
        assert (await real_service.ask("POST", path, json={"value": "Ada"})).status == 409


async def test_stream_of_a_kernel_that_ends_ends_with_the_reason(real_service: Service) -> None:
    """Whether the kernel dies, is restarted or deleted, or its agent is killed."""
    kernel_id = await real_service.start_kernel()
    async with execute(real_service, kernel_id, "import os\nos.abort()") as stream:
        assert "was killed by SIGABRT" in reply(await stream.read())["evalue"]

    async with execute(real_service, kernel_id, "import time\ntime.sleep(60)") as stream:
        await stream.until(content={"execution_state": "busy"})
        restart = real_service.ask("POST", f"/api/kernels/{kernel_id}/restart")
        answer, records = await asyncio.gather(restart, stream.read())
        assert answer.status == 200
        assert reply(records)["status"] == "error"

    async with execute(real_service, kernel_id, "import os\nprint(os.getppid())") as stream:
        agent_pid = int(stdout(await stream.read()))
    async with execute(real_service, kernel_id, "import time\ntime.sleep(60)") as stream:
        await stream.until(content={"execution_state": "busy"})
        os.kill(agent_pid, signal.SIGKILL)
        records = await stream.read()
    assert reply(records)["ename"] == "KernelDied"
    assert "SIGKILL" in reply(records)["evalue"]
    async with execute(real_service, kernel_id, "1") as refused:
        assert refused.response.status == 409
        assert "SIGKILL" in (await refused.response.json())["message"]

    other = await real_service.start_kernel()
    async with execute(real_service, other, "import time\ntime.sleep(60)") as stream:
        await stream.until(content={"execution_state": "busy"})
        delete = real_service.ask("DELETE", f"/api/kernels/{other}")
        answer, records = await asyncio.gather(delete, stream.read())
        assert answer.status == 204
        assert reply(records)["status"] == "error"


async def test_stopping_gateway_cuts_streams_so_that_they_are_continued(
    real_service: Service, live: LiveSettings, tmp_path: Path
) -> None:
    """The client sees that the answer is not whole."""
    kernel_id = await real_service.start_kernel()
    async with AsyncExitStack() as stopped:
        port = await stopped.enter_async_context(server.serve(server.build(live), live))
        path = f"http://127.0.0.1:{port}/api/kernels/{kernel_id}/execute"
        body = {"code": print_until(tmp_path / "cut")}
        async with real_service.http.post(path, json=body) as response:
            stream = Stream(response)
            await stream.until(msg_type="stream")
            stopping = asyncio.create_task(stopped.pop_all().aclose())
            with pytest.raises(aiohttp.ClientPayloadError):
                await stream.read()
        await stopping
    (tmp_path / "cut").touch()
    got = stream.records
    async with follow(real_service, kernel_id, stream.msg_id, stream.position) as rest:
        got += (await rest.read())[1:]
    check_order(got)
    assert stdout(got) == PRINTED


async def test_refusals_reach_the_client(real_service: Service) -> None:
    """The agent's status and message, and the gateway's own."""
    kernel_id = await real_service.start_kernel()
    kernel = f"/api/kernels/{kernel_id}"

    async def ask(method: str, path: str, **options: Any) -> tuple[int, str]:
        answer = await real_service.ask(method, path, **options)
        return answer.status, answer.message

    assert await ask("POST", f"{kernel}/execute") == (400, "code is missing")
    assert await ask("POST", f"{kernel}/execute", data=b"{") == (400, "the body is not JSON")
    accept = {"Accept": "text/html;q=0.5"}
    body = {"code": "1"}
    assert (await ask("POST", f"{kernel}/execute", json=body, headers=accept))[0] == 406
    key = {"Idempotency-Key": "é"}
    assert (await ask("POST", f"{kernel}/execute", json=body, headers=key))[0] == 400
    assert (await ask("GET", f"{kernel}/executions/a%2Fb%3Fc%0d%0a"))[0] == 404
    assert (await ask("GET", f"{kernel}/executions/../../state"))[0] == 404
    assert (await ask("POST", f"{kernel}/executions/unknown/input", json={"value": "x"}))[0] == 404
    assert (await ask("POST", f"/api/kernels/{UNKNOWN_ID}/execute", json=body))[0] == 404
    too_large = io.BytesIO(b"x" * (real_service.live.current.server.max_body_bytes + 1))
    status, message = await ask("POST", f"{kernel}/execute", data=too_large)
    assert (status, "max_body_bytes" in message) == (413, True)
    assert await real_service.get(f"{kernel}/executions") == []


async def test_client_that_is_gone_is_forgotten(real_service: Service, tmp_path: Path) -> None:
    """Its connection to the agent is closed, and the cell goes on."""
    kernel_id = await real_service.start_kernel()
    async with execute(real_service, kernel_id, print_until(tmp_path / "gone")) as stream:
        await stream.until(msg_type="stream")
        stream.response.close()
    (tmp_path / "gone").touch()

    async def has_ended() -> bool:
        (one,) = await real_service.get(f"/api/kernels/{kernel_id}/executions")
        return bool(one["ended"])

    await eventually(has_ended)
    async with follow(real_service, kernel_id, stream.msg_id, 0) as again:
        assert stdout(await again.read()) == PRINTED


async def test_agent_that_does_not_answer_is_unavailable(
    service: Service, engine: FakeEngine
) -> None:
    """503 with Retry-After, never 404; an agent that knows no executions is 501."""
    kernel_id = await service.start_kernel()
    path = f"/api/kernels/{kernel_id}/execute"
    answer = await service.ask("POST", path, json={"code": "1"})
    assert answer.status == 501, answer.raw
    await engine.agents[kernel_id].stop()
    answer = await service.ask("POST", path, json={"code": "1"})
    assert answer.status == 503
    assert "Retry-After" in answer.headers
