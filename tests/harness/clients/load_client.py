"""A client session that comes back by itself, as a browser's does."""

import itertools
import random
import threading
import time
from collections.abc import Sequence

from harness.clients.channels import Channels
from harness.clients.load_record import Connection, Record
from harness.waiting import DEADLINE_SECONDS, wait_until
from jupyter_wire.messages import Codec, Message

ATTEMPTS = 7
"""How often JupyterLab tries: after a random time of up to 2^n - 1 s, n counted from 0."""
CLOSE_TIMEOUT = 30.0


class LoadClient:
    """Reads all that its session gets, in a thread, and reconnects when it is cut."""

    def __init__(
        self,
        kernel_id: str,
        urls: Sequence[str],
        token: str,
        session_id: str,
        codec: Codec = Codec.V1,
    ) -> None:
        """Connect to the first of `urls`, the gateways; each reconnection takes the next one."""
        self.kernel_id = kernel_id
        self.session_id = session_id
        self.record = Record()
        self.printed = -1
        """The last number that the kernel printed on a line of its own."""
        self.replies: dict[str, Message] = {}
        """Replies by the id of their requests."""
        self.idle: set[str] = set()
        """The ids of requests after which the kernel was idle."""
        self.prompts: list[Message] = []
        self.failure = ""
        """Why the client gave up."""
        self._token = token
        self._codec = codec
        self._urls = itertools.cycle(urls)
        self._closing = threading.Event()
        self.channels = self._connect()
        self._thread = threading.Thread(target=self._read, name=session_id)
        self._thread.start()

    @property
    def url(self) -> str:
        """The gateway that it is, or was, connected to."""
        return self.record.connections[-1].url

    def wait_for_line(self, number: int, *, deadline: float = DEADLINE_SECONDS) -> None:
        """Wait until the kernel has printed a number, or a later one."""
        wait_until(
            lambda: self.failure or self.printed >= number,
            deadline=deadline,
            what=f"line {number} of {self.session_id}, now {self.printed}",
        )
        assert not self.failure, self.failure

    def wait_for_more(self, lines: int) -> None:
        """Wait until the kernel has printed so many more lines."""
        self.wait_for_line(self.printed + lines)

    def wait_for_end(self, request_id: str) -> None:
        """Wait for the reply to a request, and for the last of its output."""
        wait_until(
            lambda: self.failure or (request_id in self.replies and request_id in self.idle),
            what=f"end of a request of {self.session_id}",
        )
        assert not self.failure, self.failure

    def wait_for_prompt(self) -> Message:
        """Wait until the kernel asks for input; returns its request."""
        wait_until(lambda: self.failure or self.prompts, what=f"prompt for {self.session_id}")
        assert not self.failure, self.failure
        return self.prompts[0]

    def close(self) -> None:
        """Leave for good; the kernel goes on."""
        self._closing.set()
        self.channels.socket.abort()
        self._thread.join(CLOSE_TIMEOUT)
        self.channels.close()
        assert not self._thread.is_alive()

    def _connect(self) -> Channels:
        url = next(self._urls)
        path = f"/api/kernels/{self.kernel_id}/channels"
        channels = Channels(
            url.replace("http", "ws", 1) + path,
            token=self._token,
            session_id=self.session_id,
            codec=self._codec,
        )
        self.record.connections.append(Connection(url, time.monotonic()))
        return channels

    def _read(self) -> None:
        try:
            self._read_all()
        except Exception as error:  # noqa: BLE001 - the root of a thread: the test has to see it
            self.failure = f"{self.session_id} broke: {error!r}"

    def _read_all(self) -> None:
        while not self._closing.is_set():
            connection = self.record.connections[-1]
            try:
                self._take(self.channels.receive(), connection)
            except OSError:
                connection.cut = time.monotonic()
                if not self._closing.is_set():
                    self._reconnect()

    def _take(self, message: Message, connection: Connection) -> None:
        connection.times.append(time.monotonic())
        connection.messages.append(message)
        if message.type == "stream":
            lines = message.content["text"].split()
            self.printed = int(lines[-1]) if lines and lines[-1].isdecimal() else self.printed
        elif message.type.endswith("_reply"):
            self.replies[message.parent_id] = message
        elif message.content.get("execution_state") == "idle":
            self.idle.add(message.parent_id)
        elif message.type == "input_request":
            self.prompts.append(message)

    def _reconnect(self) -> None:
        self.channels.close()
        for attempt in range(ATTEMPTS):
            if self._closing.wait(random.uniform(0, 2**attempt - 1)):  # noqa: S311 - spreads load
                return
            try:
                self.channels = self._connect()
            except OSError as error:
                why = error
            else:
                return
        self.failure = f"{self.session_id} gave up: {why!r}"
        self._closing.set()
