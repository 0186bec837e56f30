"""A client that comes into a running cell: what it is told, and what it may ask for."""

from collections.abc import Callable

import pytest
from harness.clients.channels import Channels, Execution
from harness.gateways.gateway import Gateway

from jupyter_wire.messages import Codec, Message
from jupyter_wire.websocket import WebSocketClosedError

pytestmark = [pytest.mark.client, pytest.mark.kernel]

LINES = 300
PRINTING = f"""\
import time
for number in range({LINES}):
    print(number, flush=True)
    time.sleep(0.01)
'done'"""
PRINTED = "".join(f"{number}\n" for number in range(LINES))


def is_status(state: str, request_id: str) -> Callable[[Message], bool]:
    """Return a condition: a status of this request."""
    return lambda message: (
        message.parent_id == request_id and message.content.get("execution_state") == state
    )


def prints(text: str) -> Callable[[Message], bool]:
    """Return a condition: an output with this text."""
    return lambda message: message.type == "stream" and text in message.content["text"]


def printed(client: Channels, request_id: str) -> str:
    """Return what a client received of a request's output, repeats included."""
    return "".join(
        message.content["text"]
        for message in client.received
        if message.type == "stream" and message.parent_id == request_id
    )


@pytest.mark.parametrize("codec", Codec)
def test_new_client_is_told_what_runs(gateway: Gateway, kernel: str, codec: Codec) -> None:
    """The first message is `busy` with the running request as its parent, or `idle`."""
    first = gateway.connect(kernel)
    idle = gateway.connect(kernel, codec=codec)
    assert idle.receive().content == {"execution_state": "idle"}
    request_id = first.start_execution("print('on')\ninput()", allow_stdin=True)
    prompt = first.receive_until(lambda message: message.type == "input_request")
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
    first.receive_until(prints("100\n"))
    asking = gateway.connect(kernel, replay="running", codec=codec)
    stock = gateway.connect(kernel, codec=codec)
    for client in (asking, stock, first):
        client.receive_until(is_status("idle", request_id))
    assert printed(asking, request_id) == printed(first, request_id) == PRINTED
    replayed = [message for message in asking.received if message.parent_id == request_id]
    ids = [message.id for message in replayed]
    types = [message.type for message in replayed]
    assert "execute_input" in types
    assert len(set(ids)) == len(ids)
    later = printed(stock, request_id)
    assert later
    assert PRINTED.endswith(later)
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
    assert texts == ["wanted\n"]
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
    first.receive_until(prints("100\n"))
    first.socket.abort()
    again = gateway.connect(kernel, session_id=first.session_id, replay="running")
    again.receive_until(is_status("idle", request_id))
    execution = Execution(request_id)
    for message in first.received + again.received:
        execution.add(message)
    assert execution.stdout == PRINTED
    ids = [message.id for message in again.received]
    assert len(set(ids)) == len(ids)
    first.close()
    again.close()
