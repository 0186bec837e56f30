"""A client that comes into a running cell: what it is told, and what it may ask for."""

from collections.abc import Callable

import pytest
from harness.clients.cells import is_output_of
from harness.clients.channels import Channels, Execution
from harness.gateways.gateway import Gateway

from jupyter_wire.messages import Codec, Message
from jupyter_wire.websocket import WebSocketClosedError

pytestmark = [pytest.mark.client, pytest.mark.kernel]

PRINTING = """\
import signal, time

def stop(*_):
    global is_going_on
    is_going_on = False

signal.signal(signal.SIGINT, stop)
is_going_on, number = True, 0
while is_going_on:
    print(number, flush=True)
    number += 1
    time.sleep(0.01)
'done'"""
"""Prints numbers until it is interrupted."""


def is_status(state: str, request_id: str) -> Callable[[Message], bool]:
    """Return a condition: a status of this request."""
    return lambda message: (
        message.parent_id == request_id and message.content.get("execution_state") == state
    )


def printed(client: Channels, request_id: str) -> str:
    """Return what a client received of a request's output, repeats included."""
    return "".join(
        message.content["text"]
        for message in client.received
        if message.type == "stream" and message.parent_id == request_id
    )


def is_from_zero(text: str) -> bool:
    """Say whether a text is what `PRINTING` prints, from its start."""
    return text == "".join(f"{number}\n" for number in range(text.count("\n")))


def interrupt(gateway: Gateway, kernel: str) -> None:
    """Interrupt a kernel."""
    assert gateway.request("POST", f"/api/kernels/{kernel}/interrupt").status_code == 204


@pytest.mark.parametrize("codec", Codec)
def test_new_client_is_told_what_runs(gateway: Gateway, kernel: str, codec: Codec) -> None:
    """The first message is `busy` with the running request as its parent, or `idle`."""
    first = gateway.connect(kernel)
    idle = gateway.connect(kernel, codec=codec)
    assert idle.receive().content == {"execution_state": "idle"}
    request_id = first.start_execution("print('on')\ninput()", allow_stdin=True)
    types = {"stream", "input_request"}
    first.receive_until(lambda _: types <= {message.type for message in first.received})
    (prompt,) = (message for message in first.received if message.type == "input_request")
    busy = gateway.connect(kernel, codec=codec)
    told = busy.receive()
    assert told.content == {"execution_state": "busy"}
    assert told.parent_header["msg_id"] == request_id
    assert told.parent_header["msg_type"] == "execute_request"
    reply = {"value": ""}
    first.send("input_reply", reply, channel="stdin", parent_header=prompt.header)
    busy.receive_until(is_status("idle", request_id))
    assert not any(message.type == "stream" for message in busy.received)
    for client in (first, idle, busy):
        client.close()


@pytest.mark.parametrize("codec", Codec)
def test_replay_gives_the_running_cell_from_its_start(
    gateway: Gateway, kernel: str, codec: Codec
) -> None:
    """Every line once and in order, those before it too; who does not ask gets the new ones."""
    first = gateway.connect(kernel)
    request_id = first.start_execution(PRINTING)
    first.receive_until(lambda _: "100\n" in printed(first, request_id))
    asking = gateway.connect(kernel, replay="running", codec=codec)
    stock = gateway.connect(kernel, codec=codec)
    for client in (asking, stock):
        client.receive_until(is_output_of(request_id))
    interrupt(gateway, kernel)
    for client in (asking, stock, first):
        client.receive_until(is_status("idle", request_id))
    whole = printed(first, request_id)
    assert is_from_zero(whole)
    assert printed(asking, request_id) == whole
    replayed = [message for message in asking.received if message.parent_id == request_id]
    ids = [message.id for message in replayed]
    types = [message.type for message in replayed]
    assert "execute_input" in types
    assert len(set(ids)) == len(ids)
    later = printed(stock, request_id)
    assert later
    assert whole.endswith(later)
    for client in (first, asking, stock):
        client.close()


def test_replay_of_a_request_that_has_ended_is_complete(gateway: Gateway, kernel: str) -> None:
    """Also its reply and what it displays; nothing of other requests, and what is new goes on."""
    first = gateway.connect(kernel)
    first.execute("print('another')")
    wanted = first.execute("print('wanted')\n6 * 7")
    first.execute("print('later')")
    asking = gateway.connect(kernel, replay=wanted.request_id)
    replayed = Execution(wanted.request_id)
    while not replayed.is_complete:
        replayed.add(asking.receive())
    assert replayed.stdout == "wanted\n"
    assert replayed.result == "42"
    assert [each.id for each in replayed.messages] == [each.id for each in wanted.messages]
    assert asking.execute("'new'").result == "'new'"
    texts = [each.content["text"] for each in asking.received if each.type == "stream"]
    assert "".join(texts) == "wanted\n"
    first.close()
    asking.close()


def test_replay_of_an_unknown_request_is_nothing(gateway: Gateway, kernel: str) -> None:
    """It is no error: the log may have forgotten it. An absurd one is refused."""
    client = gateway.connect(kernel, replay="no-such-request")
    assert client.execute("1 + 1").result == "2"
    client.close()
    with pytest.raises(WebSocketClosedError, match=" 400 "):
        gateway.connect(kernel, replay="x" * 1025)


def test_reconnection_with_replay_repeats_nothing(gateway: Gateway, kernel: str) -> None:
    """A client that keeps `replay=running` in its address gets what it lacks, in order."""
    first = gateway.connect(kernel, replay="running")
    request_id = first.start_execution(PRINTING)
    first.receive_until(lambda _: "100\n" in printed(first, request_id))
    first.socket.abort()
    again = gateway.connect(kernel, session_id=first.session_id, replay="running")
    again.receive_until(is_output_of(request_id))
    interrupt(gateway, kernel)
    again.receive_until(is_status("idle", request_id))
    execution = Execution(request_id)
    for message in first.received + again.received:
        execution.add(message)
    assert is_from_zero(execution.stdout)
    ids = [message.id for message in again.received]
    assert len(set(ids)) == len(ids)
    first.close()
    again.close()
