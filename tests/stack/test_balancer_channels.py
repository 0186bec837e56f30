"""How the load balancer connects WebSockets to agents, and what it lets through."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager

import pytest
from harness.engines.balancer import Balancer
from harness.waiting import wait_until

pytestmark = pytest.mark.docker

POLLS = 20
"""Requests to the new worker after a reload."""

REQUEST = """\
GET /api/kernels/{kernel}/channels?session_id=s&mode={mode} HTTP/1.1\r
Host: gateway\r
Authorization: token clients-token\r
Cookie: c=clients-token\r
X-EG-Balancer: {guess}\r
X-EG-Agent-Address: 127.0.0.1:1\r
User-Agent: a browser\r
Origin: http://page\r
Upgrade: websocket\r
Connection: keep-alive, Upgrade\r
Sec-WebSocket-Version: 13\r
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r
\r
"""


Dial = Callable[..., "Client"]


class Client:
    """A connection to the balancer."""

    def __init__(self, balancer: Balancer, kernel: str, mode: str = "echo") -> None:
        """Ask for the channels of a kernel; the agent behaves as `mode` says."""
        request = REQUEST.format(kernel=kernel, mode=mode, guess=balancer.secret)
        self.socket = socket.create_connection(("127.0.0.1", balancer.port), timeout=30)
        self.socket.sendall(request.encode())

    def close(self) -> None:
        """Close it."""
        self.socket.close()

    def read_until(self, end: bytes) -> bytes:
        """Read until what was read ends so, or the connection has ended."""
        read = b""
        while not read.endswith(end) and (data := self.socket.recv(65536)):
            read += data
        return read

    def open(self) -> list[bytes]:
        """Read the agent's acceptance, and the request that it echoes; returns the latter."""
        head, _, request = self.read_until(b"\r\n\r\n").partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        return (request or self.read_until(b"\r\n\r\n")).splitlines()

    def answer(self) -> tuple[int, str]:
        """Return status and rest of an answer that is no acceptance."""
        text = self.read_until(b"}").decode()
        return int(text.split()[1]), text

    def is_echoing(self, data: bytes) -> bool:
        """Whether the agent sends back what it is sent."""
        self.socket.sendall(data)
        return self.read_until(data) == data


@pytest.fixture
def dial(balancer: Balancer) -> Iterator[Dial]:
    """Return what makes clients, which are closed afterwards."""
    with ExitStack() as stack:
        yield lambda *asked: stack.enter_context(closing(Client(balancer, *asked)))


@contextmanager
def replica(balancer: Balancer, name: str = "a") -> Iterator[None]:
    """Have a replica, the only one."""
    with balancer.replica(name):
        wait_until(lambda: balancer.answering() == {name}, what="a replica")
        yield


def test_websocket_does_not_pass_through_the_replica(balancer: Balancer, dial: Dial) -> None:
    """It outlives the replica that said where the agent is."""
    with balancer.agent() as kernel:
        with replica(balancer):
            clients = [dial(kernel) for _ in range(10)]
            for client in clients:
                client.open()
        wait_until(lambda: not balancer.answering(), what="end of the replica")
        assert all(client.is_echoing(b"ping") for client in clients)


def test_agent_sees_nothing_of_the_client_but_the_handshake(balancer: Balancer, dial: Dial) -> None:
    """It gets its own authorization, at the target that the replica named."""
    with balancer.agent() as kernel, replica(balancer):
        line, *fields = dial(kernel).open()
    assert line == b"GET /v1/channels?session_id=s&mode=echo HTTP/1.1"
    headers = dict(field.lower().split(b": ", 1) for field in fields if field)
    assert headers == {
        b"host": b"agent",
        b"authorization": b"bearer agents-token",
        b"user-agent": b"a browser",
        b"origin": b"http://page",
        b"upgrade": b"websocket",
        b"connection": b"upgrade",
        b"sec-websocket-version": b"13",
        b"sec-websocket-key": b"dghlihnhbxbszsbub25jzq==",
    }


def test_client_sees_nothing_of_the_agent_but_the_handshake(balancer: Balancer, dial: Dial) -> None:
    """No cookie and no CORS header of the agent reaches a browser."""
    with balancer.agent() as kernel, replica(balancer):
        client = dial(kernel)
        head = client.read_until(b"\r\n\r\n").partition(b"\r\n\r\n")[0]
    names = {line.partition(b":")[0].lower() for line in head.splitlines()[1:]}
    assert names == {b"upgrade", b"connection", b"sec-websocket-accept"}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500, 503])
def test_refusals_of_the_replica_pass_as_they_are(
    balancer: Balancer, dial: Dial, status: int
) -> None:
    """With their bodies and headers: clients take 404 for the end of the kernel."""
    with replica(balancer):
        got, text = dial(str(status)).answer()
    assert got == status
    assert '{"reason": "a reason"}' in text
    assert "retry-after: 7" in text.lower()


@pytest.mark.parametrize(
    ("mode", "status"), [("redirect", 503), ("page", 503), ("huge", 502), ("close", 502)]
)
def test_hostile_agent_is_refused(balancer: Balancer, dial: Dial, mode: str, status: int) -> None:
    """Whatever it answers instead of the acceptance, the client gets the balancer's own words."""
    with balancer.agent() as kernel, replica(balancer):
        got, text = dial(kernel, mode).answer()
    assert got == status
    assert "The agent of the kernel" in text
    assert not [word for word in ("Location", "Set-Cookie", "html") if word in text]


@pytest.mark.parametrize(
    ("answered", "status", "words"),
    [
        (400, 400, "Malformed WebSocket handshake"),
        (403, 403, "You may not use this kernel any more"),
        (404, 409, "is older than this gateway"),
        (401, 503, "Try again"),
        (500, 503, "Try again"),
    ],
)
def test_refusal_of_an_agent_is_told_in_the_balancers_words(
    balancer: Balancer, dial: Dial, answered: int, status: int, words: str
) -> None:
    """A share or credential that is gone is 403; no refusal is 404, the end of the kernel."""
    with balancer.agent() as kernel, replica(balancer):
        got, text = dial(kernel, str(answered)).answer()
    assert got == status
    assert words in text
    assert "secret of the agent" not in text


def test_informational_answers_of_an_agent_reach_no_client(balancer: Balancer, dial: Dial) -> None:
    """However many it sends: the balancer closes the connection."""
    with balancer.agent() as kernel, replica(balancer):
        assert dial(kernel, "hints").read_until(b"}") == b""


def test_agent_out_of_reach_is_said_to_be(balancer: Balancer, dial: Dial) -> None:
    """Not that no replica answers."""
    with replica(balancer):
        status, text = dial("127.0.0.1:9").answer()
    assert status == 503
    assert "cannot be reached from the load balancer" in text


def test_replica_splices_where_the_balancer_cannot_connect(balancer: Balancer, dial: Dial) -> None:
    """It names no address for a kernel that is a local process of its own."""
    with replica(balancer):
        client = dial("local")
        assert client.read_until(b"spliced by a").endswith(b"\r\n\r\nspliced by a")


def test_question_to_a_dying_replica_is_repeated(balancer: Balancer, dial: Dial) -> None:
    """On another one, as for all that may be done twice."""
    with replica(balancer):
        status, _ = dial("drop").answer()
        asked = balancer.get().json()["asked"]
    assert status == 502
    assert asked.count("GET") > 1


def test_reload_closes_no_websocket_and_refuses_no_request(balancer: Balancer, dial: Dial) -> None:
    """The former worker goes on with its WebSockets, and ends with the last of them."""
    with balancer.agent() as kernel, replica(balancer):
        client = dial(kernel)
        client.open()
        (first,) = balancer.workers()
        for _ in range(2):
            newest = reload_under_requests(balancer, kept=first)
            assert client.is_echoing(b"ping")
        dial(kernel).open()
        client.close()
        wait_until(lambda: balancer.workers() == {newest}, what="end of the former worker")


def reload_under_requests(balancer: Balancer, *, kept: str) -> str:
    """Reload the balancer, which refuses no request; returns the worker that is left beside one."""
    before = balancer.workers()
    with polling(balancer) as statuses:
        balancer.reload()
        (newest,) = wait_until(lambda: balancer.workers() - before, what="a new worker")
        wait_until(lambda: balancer.workers() == {kept, newest}, what="end of a worker")
        polled = len(statuses)
        wait_until(lambda: len(statuses) > polled + POLLS, what="more answers")
    assert set(statuses) == {200}
    return newest


@contextmanager
def polling(balancer: Balancer) -> Iterator[list[int]]:
    """Make requests all the time, each over a connection of its own; yields their statuses."""
    statuses: list[int] = []
    is_over = threading.Event()

    def poll() -> None:
        while not is_over.is_set():
            statuses.append(balancer.get().status_code)

    with ThreadPoolExecutor(1) as pool:
        polls = pool.submit(poll)
        try:
            yield statuses
        finally:
            is_over.set()
        polls.result()
