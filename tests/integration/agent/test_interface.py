"""The agent's HTTP interface, its event stream, its process and its frames."""

import asyncio
import base64
import contextlib
import json
import re
import secrets
import signal
import socket
import stat
import struct
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from harness.agents.agent import Agent
from harness.agents.messages import texts
from harness.engines.leftovers import find_processes
from harness.gateways.gateway import find_free_port
from harness.waiting import eventually

pytestmark = pytest.mark.kernel

PRINT_CONNECTION_FILE = (
    "import ipykernel, json, os\n"
    "path = ipykernel.get_connection_file()\n"
    "print(json.dumps({**json.load(open(path)), 'mode': os.stat(path).st_mode & 0o777}))"
)
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


async def test_state_document_is_complete(agent: Agent) -> None:
    """Every key of the contract is there, with times as clients parse them."""
    document = await agent.state()
    assert document == {
        "version": 1,
        "kernel_id": agent.kernel_id,
        "kernel_name": "",
        "username": "ann",
        "language": "",
        "execution_state": "idle",
        "last_activity": document["last_activity"],
        "started": document["started"],
        "connections": 0,
        "websockets": 0,
        "streams": 0,
        "claimed": False,
        "pooled": False,
        "spare": False,
        "restarts": 0,
        "reason": None,
        "requests": [],
        "kernel_info": document["kernel_info"],
        "annotations": {"revision": 0, "document": {}},
        "start": document["start"],
        "usage": document["usage"],
        "ended_by": "",
        "notice": "",
    }
    assert TIMESTAMP.fullmatch(document["last_activity"])
    assert TIMESTAMP.fullmatch(document["started"])
    assert document["kernel_info"]["language_info"]["name"] == "python"


async def test_state_tells_how_long_the_latest_start_took(agent: Agent) -> None:
    """What the agent saw of it; all of it once a gateway has told; after a restart, that."""
    seen = (await agent.state())["start"]
    assert list(seen["steps"]) == ["agent", "kernel"]
    assert sum(seen["steps"].values()) == pytest.approx(seen["seconds"], abs=0.01)
    assert min(seen["steps"].values()) > 0
    whole = {"seconds": 2.5, "steps": {"create": 0.5, "kernel": 2.0}}
    assert (await agent.request("POST", "/v1/claim", {"start": whole}))[0] == 204
    assert (await agent.request("POST", "/v1/claim"))[0] == 204
    assert (await agent.state())["start"] == whole
    _, restarted = await agent.request("POST", "/v1/restart")
    assert list(restarted["start"]["steps"]) == ["end", "kernel"]
    assert (await agent.request("POST", "/v1/claim", {"start": whole}))[0] == 204
    assert (await agent.state())["start"] == restarted["start"]


async def test_state_tells_how_long_an_automatic_restart_took(agent: Agent) -> None:
    """From the death of the former process on."""
    client = await agent.connect("s")
    await client.run("import os; os._exit(3)")
    await eventually(lambda: has_restarted(agent))
    assert list((await agent.state())["start"]["steps"]) == ["end", "kernel"]


async def has_restarted(agent: Agent) -> bool:
    """Say whether the kernel was restarted, and is ready."""
    document = await agent.state()
    return bool(document["restarts"]) and document["execution_state"] == "idle"


def wait_for(file: Path) -> str:
    """Return code that waits for a file."""
    return f"import os, time\nwhile not os.path.exists({str(file)!r}): time.sleep(0.02)\n"


async def test_activity_follows_the_users_requests_only(agent: Agent, tmp_path: Path) -> None:
    """A cell makes the kernel busy and moves `last_activity`; kernel_info does neither."""
    client = await agent.connect("s")
    before = (await agent.state())["last_activity"]
    await client.finish(await client.send("kernel_info_request"))
    assert (await agent.state())["last_activity"] == before
    msg_id = await client.run(wait_for(tmp_path / "go"))
    await agent.until_state("busy")
    await client.finish(await client.send("kernel_info_request", channel="control"))
    assert (await agent.state())["execution_state"] == "busy"
    (tmp_path / "go").touch()
    await client.finish(msg_id)
    await agent.until_state("idle")
    assert (await agent.state())["last_activity"] > before


async def read_events(agent: Agent) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the documents of the event stream to its end."""
    async with agent.session().get("/v1/events") as response:
        assert response.content_type == "application/x-ndjson"
        async for line in response.content:
            if line.strip():
                yield json.loads(line)


async def test_events_tell_every_change_and_the_end(agent: Agent, tmp_path: Path) -> None:
    """The stream begins with the state, follows it, and ends with `dead`."""
    documents: list[dict[str, Any]] = []

    async def collect() -> None:
        async for document in read_events(agent):
            documents.append(document)  # noqa: PERF401  # seen while it goes on

    reading = asyncio.create_task(collect())
    await eventually(lambda: bool(documents))
    client = await agent.connect("s")
    msg_id = await client.run(wait_for(tmp_path / "go"))
    await eventually(lambda: documents[-1]["execution_state"] == "busy")
    assert documents[-1]["connections"] == 1
    (tmp_path / "go").touch()
    await client.finish(msg_id)
    await agent.request("PUT", "/v1/annotations", {"a": 1}, headers={"If-Match": '"0"'})
    await eventually(lambda: documents[-1]["annotations"]["document"] == {"a": 1})
    await client.socket.close()
    assert (await agent.request("POST", "/v1/shutdown"))[0] == 204
    async with asyncio.timeout(60):
        await reading
    states = [document["execution_state"] for document in documents]
    assert states[0] == "idle"
    assert states[-1] == "dead"
    assert len(documents) < 12


async def test_events_tell_of_each_request(agent: Agent) -> None:
    """Also of one that is queued: a gateway answers it if the agent dies."""
    client = await agent.connect("s")
    running = await client.run("import time\nwhile True: time.sleep(0.1)")
    await agent.until_state("busy")
    events = read_events(agent)
    async with asyncio.timeout(20):
        assert ids_of(await anext(events)) == [running]
        queued = await client.run("pass")
        while ids_of(await anext(events)) != [running, queued]:
            pass
        await agent.request("POST", "/v1/interrupt")
        while ids_of(await anext(events)):
            pass
    await events.aclose()


def ids_of(document: dict[str, Any]) -> list[str]:
    """Return the ids of the requests in a state document."""
    return [request["header"]["msg_id"] for request in document["requests"]]


async def test_annotations_are_compare_and_set(agent: Agent) -> None:
    """A write needs the current revision; the loser gets the current document."""
    path = "/v1/annotations"
    assert (await agent.request("PUT", path, {"a": 1}))[0] == 428
    first = await agent.request("PUT", path, {"a": 1}, headers={"If-Match": '"0"'})
    assert first == (200, {"revision": 1, "document": {"a": 1}})
    second = await agent.request("PUT", path, {"a": 2}, headers={"If-Match": '"0"'})
    assert second == (412, {"revision": 1, "document": {"a": 1}})
    assert await agent.request("GET", path) == (200, {"revision": 1, "document": {"a": 1}})


async def test_log_is_the_tail_of_the_kernels_output(agent: Agent) -> None:
    """What the kernel writes to its descriptors is in the log, and in the agent's own output."""
    client = await agent.connect("s")
    await client.execute("import os; os.write(1, b'to out\\n'); os.write(2, b'to err \\xff\\n')")

    async def is_logged() -> bool:
        text = (await agent.request("GET", "/v1/log"))[1] or ""
        return "to err" in text and "to out\n" in text and "to out\n" in agent.log()

    await eventually(is_logged)
    assert await agent.request("GET", "/v1/log?bytes=3") in (
        (200, "ut\n"),
        (200, "�\n"),
        (200, " �\n"),
    )
    assert (await agent.request("GET", "/v1/log?bytes=x"))[0] == 400


async def test_signal_reaches_the_kernel(agent: Agent) -> None:
    """POST signal delivers; nonsense is 400."""
    client = await agent.connect("s")
    await client.execute(
        "import signal; signal.signal(signal.SIGUSR1, lambda *_: print('signalled', flush=True))"
    )
    assert (await agent.request("POST", "/v1/signal", {"signum": 10}))[0] == 204
    await client.execute("1")
    await eventually_prints(agent, client, "signalled")
    for bad in (None, "nonsense", 0, -1, 1000, True, [], {}):
        assert (await agent.request("POST", "/v1/signal", {"signum": bad}))[0] == 400


async def test_real_time_signal_reaches_the_kernel(agent: Agent) -> None:
    """Those have numbers only."""
    client = await agent.connect("s")
    number = signal.SIGRTMIN + 3
    code = f"import signal; signal.signal({number}, lambda *_: print('real time', flush=True))"
    await client.execute(code)
    assert (await agent.request("POST", "/v1/signal", {"signum": number}))[0] == 204
    await eventually_prints(agent, client, "real time")


async def eventually_prints(agent: Agent, client: Any, text: str) -> None:
    """Run empty cells until a text has been printed."""
    async with asyncio.timeout(60):
        while text not in texts(client.received):
            await client.execute("1")
    assert agent.process is not None


async def test_requests_are_checked(agent: Agent) -> None:
    """Token, path, method, size and form of a request are checked, each with its status."""
    wrong = {"Authorization": "Bearer wrong"}
    status, body = await agent.request("GET", "/v1/state", headers=wrong)
    assert status == 401
    assert set(body) == {"reason", "message"}
    status, _ = await agent.request("GET", "/v1/channels", headers=wrong)
    assert status == 401
    assert (await agent.request("GET", "/nothing"))[0] == 404
    assert (await agent.request("DELETE", "/v1/state"))[0] == 405
    assert (await agent.request("GET", "/v1/channels"))[0] == 400
    assert (await agent.request("POST", "/v1/signal", data=b"{" * 70_000))[0] == 413
    assert (await agent.request("POST", "/v1/signal", data=b"{"))[0] == 400
    assert (await agent.request("POST", "/v1/signal", data=b"[" * 60_000))[0] == 400
    assert (await agent.request("POST", "/v1/signal", [1]))[0] == 400
    assert (await agent.request("PUT", "/v1/culling", {"nonsense": 1}))[0] == 400
    assert (await agent.request("PUT", "/v1/culling", {"cull_busy": 3}))[0] == 400
    assert (await agent.state())["execution_state"] == "idle"


async def test_tcp_and_ipv4_are_served_too() -> None:
    """With `tcp:` the agent listens on a port."""
    async with Agent(listen=f"tcp:127.0.0.1:{find_free_port()}") as agent:
        client = await agent.connect("s")
        assert texts(await client.execute("print('tcp')")) == "tcp\n"


class RawSocket:
    """A WebSocket of bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, first: int, payload: bytes, *, mask: bool = True, announced: int = -1) -> None:
        """Send a frame; `announced` replaces its length."""
        length = len(payload) if announced < 0 else announced
        bit = 0x80 if mask else 0
        if length < 126:
            header = bytes([first, bit | length])
        elif length < 65536:
            header = bytes([first, bit | 126]) + struct.pack("!H", length)
        else:
            header = bytes([first, bit | 127]) + struct.pack("!Q", length)
        self.writer.write(header + (b"\0" * 4 if mask else b"") + payload)

    async def close_code(self) -> int:
        """Return the code of the close frame that the agent sends."""
        async with asyncio.timeout(60):
            data = await self.reader.read()
        position = 0
        while position < len(data):
            first, length = data[position], data[position + 1]
            size = {126: 2, 127: 8}.get(length, 0)
            start = position + 2 + size
            length = int.from_bytes(data[position + 2 : start], "big") if size else length
            if first == 0x88:
                return int.from_bytes(data[start : start + 2], "big")
            position = start + length
        raise AssertionError("no close frame")


@contextlib.asynccontextmanager
async def raw_socket(agent: Agent) -> AsyncIterator[RawSocket]:
    """Open a WebSocket by hand."""
    reader, writer = await asyncio.open_unix_connection(agent.listen[5:])
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    writer.write(
        f"GET /v1/channels?session_id={secrets.token_hex(4)} HTTP/1.1\r\nHost: agent\r\n"
        f"Authorization: Bearer {agent.token}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    try:
        yield RawSocket(reader, writer)
    finally:
        writer.close()


async def test_malformed_frames_close_with_the_code_of_the_standard() -> None:
    """1002 for a broken frame, 1007 for text that is not UTF-8, 1009 for too much."""
    async with Agent(settings={"max_message_bytes": 100_000}) as agent:
        await agent.until_state("idle")
        witness = await agent.connect("witness")
        bad: list[tuple[int, dict[str, Any]]] = [
            (1002, {"first": 0x81, "payload": b"{}", "mask": False}),
            (1002, {"first": 0x83, "payload": b""}),
            (1002, {"first": 0xC1, "payload": b"{}"}),
            (1002, {"first": 0x80, "payload": b"{}"}),
            (1002, {"first": 0x09, "payload": b""}),
            (1002, {"first": 0x89, "payload": b"x" * 126}),
            (1002, {"first": 0x88, "payload": b"x"}),
            (1002, {"first": 0x88, "payload": struct.pack("!H", 1005)}),
            (1007, {"first": 0x81, "payload": b"{\xff}"}),
            (1007, {"first": 0x88, "payload": struct.pack("!H", 1000) + b"\xff"}),
            (1009, {"first": 0x82, "payload": b"", "announced": 100_001}),
            (1009, {"first": 0x81, "payload": b"", "announced": 2**62}),
            (1000, {"first": 0x88, "payload": b""}),
            (4001, {"first": 0x88, "payload": struct.pack("!H", 4001)}),
        ]
        for code, frame in bad:
            async with raw_socket(agent) as raw:
                raw.send(**frame)
                assert await raw.close_code() == code, (code, frame)
        async with raw_socket(agent) as raw:
            raw.send(0x02, b"x" * 60_000)
            raw.send(0x80, b"", announced=60_000)
            assert await raw.close_code() == 1009
        assert texts(await witness.execute("print('well')")) == "well\n"


async def test_fragments_and_bytes_one_by_one_make_a_message(agent: Agent) -> None:
    """A message in fragments, with a ping between, sent byte by byte, is understood."""
    header = {"msg_id": "m", "msg_type": "kernel_info_request", "session": "raw"}
    full = {**header, "username": "t", "version": "5.4", "date": "2026-01-01T00:00:00Z"}
    text = json.dumps({"header": full, "channel": "shell", "metadata": {"ä": "ü"}}).encode()
    async with raw_socket(agent) as raw:
        sent = bytearray()
        raw.writer = _Recorder(sent)  # type: ignore[assignment]  # only `write` is used
        raw.send(0x01, text[:40])
        raw.send(0x89, b"ping")
        raw.send(0x80, text[40:])
        async with raw_socket(agent) as real:
            for index in range(len(sent)):
                real.writer.write(bytes(sent[index : index + 1]))
                await real.writer.drain()
            async with asyncio.timeout(60):
                data = b""
                while b"kernel_info_reply" not in data:
                    data += await real.reader.read(65536)
            assert b"\x8a\x04ping" in data


class _Recorder:
    """Keeps what is written."""

    def __init__(self, target: bytearray) -> None:
        self._target = target

    def write(self, data: bytes) -> None:
        """Keep it."""
        self._target.extend(data)

    def close(self) -> None:
        """Nothing to close."""


async def test_slow_request_is_cut_off(agent: Agent) -> None:
    """A connection that never completes its request does not stay, and delays no other."""
    reader, writer = await asyncio.open_unix_connection(agent.listen[5:])
    writer.write(b"GET /v1/state HTTP/1.1\r\nHost: ")
    assert (await agent.state())["execution_state"] == "idle"
    async with asyncio.timeout(60):
        assert await reader.read() == b""
    writer.close()


async def test_garbage_gets_400(agent: Agent) -> None:
    """Bytes that are no HTTP get an error, then the end."""
    for garbage in (b"\0\1\2\3\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a" * 100_000):
        reader, writer = await asyncio.open_unix_connection(agent.listen[5:])
        writer.write(garbage)
        async with asyncio.timeout(60):
            with contextlib.suppress(ConnectionError):
                answer = await reader.read()
                assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431", b"HTTP/1.1 401")
        writer.close()


DROPPED = "-sys_ptrace,-sys_admin,-perfmon"
UNPRIVILEGED = ("setpriv", f"--bounding-set={DROPPED}", f"--inh-caps={DROPPED}")
"""As in a container, root may neither trace nor administer (capabilities(7))."""


async def test_kernel_does_not_see_what_is_the_agents() -> None:
    """Code in the kernel finds the token neither in its environment nor in the agent's memory."""
    code = (
        "import os\n"
        "names = sorted(n for n in os.environ if n.startswith('EG_AGENT')"
        " or n in ('RESPONSE_ADDRESS', 'PUBLIC_KEY', 'PORT_RANGE'))\n"
        "print(names, os.environ['KERNEL_ID'])\n"
        "for name in ('environ', 'mem', 'maps'):\n"
        "    try: print(open(f'/proc/{os.getppid()}/{name}', 'rb').read(10))\n"
        "    except PermissionError: print(name, 'denied')"
    )
    env = {"PORT_RANGE": "0..0", "RESPONSE_ADDRESS": "", "PUBLIC_KEY": "x"}
    async with Agent(env=env, prefix=UNPRIVILEGED) as agent:
        client = await agent.connect("s")
        assert texts(await client.execute(code)).splitlines() == [
            f"[] {agent.kernel_id}",
            "environ denied",
            "mem denied",
            "maps denied",
        ]


PEEK = """
for name in environ mem; do
    cat /proc/$PPID/$name >/dev/null 2>&1 && echo "$name can be read"
    (: >>/proc/$PPID/$name) 2>/dev/null && echo "$name can be opened for writing"
done
echo "peeked at $PPID"
exit 3
"""


@pytest.mark.parametrize("attempt", range(3))
async def test_kernel_sees_nothing_of_the_agents_from_its_first_line_on(attempt: int) -> None:
    """Not even code that runs before the kernel's own, as of a mounted environment."""
    argv = ["sh", "-c", PEEK, "{connection_file}"]
    async with Agent(argv=argv, prefix=UNPRIVILEGED) as agent:
        assert await agent.wait() == 1
        assert f"peeked at {agent.pid}" in agent.log(), attempt
        assert " can be " not in agent.log()


async def test_connection_file_is_private_and_socket_too(agent: Agent) -> None:
    """Connection file and unix socket can be used by their owner only; ports are on loopback."""
    client = await agent.connect("s")
    document = json.loads(texts(await client.execute(PRINT_CONNECTION_FILE)))
    assert document["mode"] == 0o600
    assert mode_of(agent.listen[5:]) == 0o600
    assert document["ip"] == "127.0.0.1"


def mode_of(path: str) -> int:
    """Return the permissions of a file."""
    return stat.S_IMODE(Path(path).stat().st_mode)


async def test_ports_come_from_the_range() -> None:
    """With `PORT_RANGE` the kernel's ports are taken from it."""
    async with Agent(env={"PORT_RANGE": "39100..39199"}) as agent:
        client = await agent.connect("s")
        document = json.loads(texts(await client.execute(PRINT_CONNECTION_FILE)))
        ports = [value for name, value in document.items() if name.endswith("_port")]
        assert len(set(ports)) == 5
        assert all(39100 <= port <= 39199 for port in ports)


async def test_taken_address_is_an_error_before_any_kernel() -> None:
    """An agent that cannot listen says so and exits with 2; nothing is left behind."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        async with Agent(listen=f"tcp:127.0.0.1:{taken.getsockname()[1]}") as agent:
            assert await agent.wait() == 2
            assert "Address already in use" in agent.log()


async def test_missing_token_is_an_error() -> None:
    """Without a token nothing starts."""
    async with Agent(env={"EG_AGENT_TOKEN": ""}) as agent:
        assert await agent.wait() == 2
        assert "EG_AGENT_TOKEN" in agent.log()


@pytest.fixture
def broken_packages(tmp_path: Path) -> Path:
    """Return a folder for PYTHONPATH with a package that the agent needs and cannot import."""
    (tmp_path / "h11.py").write_text("raise ImportError('h11 is broken')")
    return tmp_path


async def test_agent_that_fails_says_so_in_one_line(broken_packages: Path) -> None:
    """Users are shown the end of what it printed: a sentence. Its kernel does not outlive it."""
    async with Agent(argv=("sleep", "1000"), env={"PYTHONPATH": str(broken_packages)}) as agent:
        assert await agent.wait() == 70
        (line,) = agent.log().splitlines()
        assert line.startswith(
            "kernel_agent: the agent failed with ImportError: h11 is broken (at "
        )
        assert "__main__.py:" in line
        await eventually(lambda: not find_processes(f"KERNEL_ID={agent.kernel_id}"))


async def test_files_are_in_the_folder_that_the_gateway_names(tmp_path: Path) -> None:
    """EG_AGENT_FOLDER: a private folder there has the connection file, and goes with the agent."""
    async with Agent(env={"EG_AGENT_FOLDER": str(tmp_path)}) as agent:
        await agent.until_state("idle")
        assert files_below(tmp_path) == {"kernel.json": 0o700}
        assert (await agent.request("POST", "/v1/shutdown"))[0] == 204
        await agent.wait()
        assert is_empty(tmp_path)


def is_empty(folder: Path) -> bool:
    """Whether nothing is in a folder."""
    return not any(folder.iterdir())


def files_below(folder: Path) -> dict[str, int]:
    """Return the files in the folders of a folder, each with the mode of the one that it is in."""
    return {
        path.name: stat.S_IMODE(below.stat().st_mode)
        for below in folder.iterdir()
        for path in below.iterdir()
    }


async def test_log_holds_no_secret(agent: Agent) -> None:
    """Neither the token nor the kernel's key appears in what the agent prints."""
    client = await agent.connect("s")
    document = json.loads(texts(await client.execute(PRINT_CONNECTION_FILE)))
    await agent.request("POST", "/v1/restart")
    await client.socket.close()
    await agent.request("POST", "/v1/shutdown")
    await agent.wait()
    assert agent.token not in agent.log()
    assert document["key"] not in agent.log()
