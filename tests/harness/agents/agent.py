"""A real kernel agent as a child process, and raw clients of its interface."""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp

from harness.waiting import eventually
from jupyter_wire.messages import (
    V1_SUBPROTOCOL,
    Codec,
    Message,
    decode_legacy,
    decode_v1,
    encode,
    execute_content,
    make_header,
)

ROOT = Path(__file__).parents[3]
IPYKERNEL = (sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}")
FLOOD_KERNEL = (sys.executable, str(ROOT / "benchmarks" / "flood_kernel.py"), "{connection_file}")
DEADLINE = 120.0


class Client:
    """One WebSocket to the agent. Everything that arrives is kept, in order, in `received`."""

    def __init__(
        self, socket: aiohttp.ClientWebSocketResponse, codec: Codec, header_session: str
    ) -> None:
        self.socket = socket
        self.codec = codec
        self.header_session = header_session
        self.received: list[Message] = []
        self.frames: list[aiohttp.WSMessage] = []

    async def send(
        self,
        msg_type: str,
        content: Mapping[str, Any] | None = None,
        *,
        channel: str = "shell",
        buffers: Sequence[bytes] = (),
        parent_header: Mapping[str, Any] | None = None,
        subshell_id: str = "",
    ) -> str:
        """Send one message; return its id."""
        header = make_header(msg_type, self.header_session, "test")
        if subshell_id:
            header["subshell_id"] = subshell_id
        parent = dict(parent_header or {})
        message = Message(channel, header, parent, {}, dict(content or {}), tuple(buffers))
        data = encode(message, self.codec)
        if isinstance(data, str):
            await self.socket.send_str(data)
        else:
            await self.socket.send_bytes(data)
        return message.id

    async def run(self, code: str, *, allow_stdin: bool = False, subshell_id: str = "") -> str:
        """Send an execute_request; return its id."""
        content = execute_content(code, allow_stdin=allow_stdin)
        return await self.send("execute_request", content, subshell_id=subshell_id)

    async def receive(self, *, deadline: float = DEADLINE) -> Message:
        """Return the next message.

        Raises:
            ConnectionError: the WebSocket was closed; `socket.close_code` says how.
        """
        frame = await self.socket.receive(deadline)
        self.frames.append(frame)
        if frame.type is aiohttp.WSMsgType.TEXT:
            message = decode_legacy(frame.data)
        elif frame.type is aiohttp.WSMsgType.BINARY:
            message = (decode_v1 if self.codec is Codec.V1 else decode_legacy)(frame.data)
        else:
            raise ConnectionError(f"closed with {self.socket.close_code}")
        self.received.append(message)
        return message

    async def until(
        self, is_last: Callable[[Message], bool], *, deadline: float = DEADLINE
    ) -> list[Message]:
        """Return the messages up to the first for which `is_last` holds."""
        messages: list[Message] = []
        async with asyncio.timeout(deadline):
            while not messages or not is_last(messages[-1]):
                messages.append(await self.receive(deadline=deadline))
        return messages

    async def finish(self, msg_id: str) -> list[Message]:
        """Return the messages up to both the reply to a request and the idle status for it."""
        missing = {"idle", "reply"}

        def is_last(message: Message) -> bool:
            if message.parent_id == msg_id:
                if message.content.get("execution_state") == "idle":
                    missing.discard("idle")
                elif message.type.endswith("_reply"):
                    missing.discard("reply")
            return not missing

        return await self.until(is_last)

    async def execute(self, code: str) -> list[Message]:
        """Run code; return all messages up to reply and idle."""
        return await self.finish(await self.run(code))

    async def cut(self) -> None:
        """Drop the connection without a word, as a dead gateway does."""
        self.transport().abort()
        await self.socket.close()

    def transport(self) -> asyncio.Transport:
        """The connection below the WebSocket."""
        return self.socket._writer.transport


class Events:
    """The agent's event stream, in which no state that lasts is missed."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def until_state(self, execution_state: str) -> None:
        """Read until the kernel is in a state."""
        async with asyncio.timeout(DEADLINE):
            async for line in self._response.content:
                if line.strip() and json.loads(line)["execution_state"] == execution_state:
                    return
        raise AssertionError(f"the agent has ended, and was never {execution_state}")

    async def last(self) -> dict[str, Any]:
        """Return the state that the agent ends with."""
        state: dict[str, Any] = {}
        async with asyncio.timeout(DEADLINE):
            async for line in self._response.content:
                state = json.loads(line) if line.strip() else state
        return state


class Agent:
    """An agent process with a unix socket (or TCP, if `listen` says so)."""

    def __init__(
        self,
        *,
        argv: Sequence[str] = IPYKERNEL,
        bootstrap: Path | None = None,
        settings: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        listen: str = "",
        prefix: Sequence[str] = (),
        python: str = sys.executable,
        command: Sequence[str] = (),
        attach: str = "",
    ) -> None:
        """Prepare; entering the context starts it.

        Args:
            argv: the kernel's command.
            bootstrap: a launch script of Enterprise Gateway, in place of `argv`.
            settings: EG_AGENT_SETTINGS.
            env: further variables.
            listen: EG_AGENT_LISTEN; "": a unix socket.
            prefix: what stands before the command.
            python: what the agent runs in.
            command: what starts the agent, in place of `python` with `argv`.
            attach: EG_AGENT_ATTACH, in place of `argv`.
        """
        self.folder = tempfile.TemporaryDirectory(prefix="agent-")
        self.listen = listen or f"unix:{self.folder.name}/socket"
        self.token = secrets.token_hex(16)
        self.kernel_id = str(uuid.uuid4())
        self.log_path = Path(self.folder.name, "log")
        what = ["--bootstrap", str(bootstrap)] if bootstrap is not None else ["--", *argv]
        if attach:
            what = ["--attach"]
        self._argv = [*prefix, *(command or (python, "-m", "kernel_agent", *what))]
        self._env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("EG_")},
            "IPYTHONDIR": self.folder.name,
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "KERNEL_ID": self.kernel_id,
            "KERNEL_USERNAME": "ann",
            "EG_AGENT_TOKEN": self.token,
            "EG_AGENT_LISTEN": self.listen,
            **({"EG_AGENT_ATTACH": attach} if attach else {}),
            "EG_AGENT_SETTINGS": json.dumps(settings or {}),
            "TMPDIR": self.folder.name,
            **(env or {}),
        }
        self._session: aiohttp.ClientSession | None = None
        self.process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        """Start the agent; it may not listen yet."""
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(  # noqa: ASYNC220  # started, not waited for
                self._argv,
                env=self._env,
                cwd=self.folder.name,  # a kernel may write where it is
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the agent and its kernel, by force if need be."""
        if self._session is not None:
            await self._session.close()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                await self.wait()
            except TimeoutError:
                self.process.kill()
                self.process.wait()
        self.folder.cleanup()

    @property
    def pid(self) -> int:
        """The agent's process id."""
        assert self.process is not None
        return self.process.pid

    def log(self) -> str:
        """What agent and kernel printed."""
        return self.log_path.read_text(errors="replace")

    async def wait(self, *, deadline: float = DEADLINE) -> int:
        """Return the agent's exit code once it has ended."""
        process = self.process
        assert process is not None
        await eventually(lambda: process.poll() is not None, deadline=deadline)
        return int(process.returncode)

    def session(self) -> aiohttp.ClientSession:
        """The HTTP session with the agent's token."""
        if self._session is None:
            is_unix = self.listen.startswith("unix:")
            connector = aiohttp.UnixConnector(self.listen[5:]) if is_unix else None
            self._session = aiohttp.ClientSession(
                self.url(),
                connector=connector,
                headers={"Authorization": f"Bearer {self.token}"},
            )
        return self._session

    def url(self) -> str:
        """The base URL."""
        if self.listen.startswith("unix:"):
            return "http://agent"
        return f"http://{self.listen.removeprefix('tcp:')}"

    async def request(
        self, method: str, path: str, body: Any = None, **kwargs: Any
    ) -> tuple[int, Any]:
        """Make a request; return status and decoded body (text if it is not JSON, None if none)."""
        if body is not None:
            kwargs["json"] = body
        async with self.session().request(method, path, **kwargs) as response:
            text = await response.text()
            if response.content_type == "application/json":
                return response.status, json.loads(text)
            return response.status, text or None

    async def state(self) -> dict[str, Any]:
        """The state document."""
        status, document = await self.request("GET", "/v1/state")
        assert status == 200
        return dict(document)

    @asynccontextmanager
    async def events(self) -> AsyncIterator[Events]:
        """Follow the state from now on."""
        async with self.session().get("/v1/events") as response:
            yield Events(response)

    async def until_state(self, execution_state: str, *, deadline: float = DEADLINE) -> None:
        """Wait until the kernel is in a state, and stays in it; `events` sees those that pass."""

        async def is_reached() -> bool:
            try:
                return bool((await self.state())["execution_state"] == execution_state)
            except aiohttp.ClientConnectionError:
                return False

        await eventually(is_reached, deadline=deadline)

    async def connect(
        self,
        session_id: str | None = None,
        codec: Codec = Codec.V1,
        *,
        headers: Mapping[str, str] | None = None,
        header_session: str = "",
        max_msg_size: int = 0,
        **kwargs: Any,
    ) -> Client:
        """Open a WebSocket; None leaves `session_id` out of the URL."""
        await eventually(self.is_listening)
        path = "/v1/channels" if session_id is None else f"/v1/channels?session_id={session_id}"
        socket = await self.session().ws_connect(
            path,
            protocols=(V1_SUBPROTOCOL,) if codec is Codec.V1 else (),
            headers=headers,
            max_msg_size=max_msg_size,
            **kwargs,
        )
        return Client(socket, codec, header_session or session_id or uuid.uuid4().hex)

    async def is_listening(self) -> bool:
        """Whether it accepts connections."""
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        try:
            await self.state()
        except aiohttp.ClientConnectionError:
            return False
        return True
