"""Heads of clients and agents around an upgrade: the documented errors, and no field smuggled."""

import asyncio
from contextlib import suppress

import h11
from hypothesis import example, given
from hypothesis import strategies as st

from enterprise_gateway.errors import GatewayError, InvalidRequestError, UnavailableError
from enterprise_gateway.services.kernels.agents.exchange import (
    DOCUMENTS,
    MAX_BODY_BYTES,
    Answer,
    OutOfContractError,
)
from enterprise_gateway.web.channels.upgrade import (
    HEAD_END,
    agent_target,
    answer_status,
    check_upgrade,
    clean_head,
    refusal,
    upgrade_request,
)

ALLOWED = (b"upgrade", b"connection", b"sec-websocket-")
lines = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"Set-Cookie: a=b",
            b"Sec-WebSocket-Accept: x",
            b"Sec-WebSocket-Protocol: a\nSet-Cookie: b",
            b" folded",
            b"Sec-WebSocket-Accept : x",
            b"Access-Control-Allow-Origin: *",
        ]
    ),
)
header_values = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=30)


@given(st.lists(lines, max_size=6))
def test_answer_of_an_agent_passes_clean_or_not_at_all(fields: list[bytes]) -> None:
    """No cookie, no CORS header, no line that is none."""
    head = b"\r\n".join([b"HTTP/1.1 101 Switching Protocols", *fields]) + HEAD_END
    try:
        cleaned = clean_head(head)
    except UnavailableError:
        return
    assert cleaned.endswith(HEAD_END)
    first, *rest = cleaned.removesuffix(HEAD_END).split(b"\r\n")
    assert first == b"HTTP/1.1 101 Switching Protocols"
    assert all(line.lower().startswith(ALLOWED) for line in rest)
    assert b"\n" not in cleaned.replace(b"\r\n", b"")


@given(st.binary(max_size=60) | st.binary(max_size=20).map(lambda tail: b"HTTP/1.1 " + tail))
@example(b"HTTP/1.1 " + b"9" * 5000 + b" x")
@example(b"HTTP/1.1 0101 x")
def test_status_of_an_answer_is_one_or_none(head: bytes) -> None:
    """Whatever the agent sends."""
    status = answer_status(head)
    assert status == 0 or 100 <= status <= 999


@given(st.integers(0, 999), st.binary(max_size=60))
def test_refusal_is_an_error_with_a_text(status: int, body: bytes) -> None:
    """Whatever the agent answers."""
    error = refusal(status, body)
    assert isinstance(error, GatewayError)
    assert str(error)


@given(
    st.text(max_size=40),
    st.dictionaries(st.sampled_from(["session_id", "replay", "token", "x"]), st.text(max_size=40)),
    st.lists(
        st.tuples(
            st.sampled_from(
                ["Sec-WebSocket-Key", "Origin", "User-Agent", "Cookie", "Authorization", "Host"]
            ),
            header_values,
        ),
        max_size=6,
    ),
)
def test_upgrade_request_is_one_request(
    user: str, query: dict[str, str], headers: list[tuple[str, str]]
) -> None:
    """With the agent's token only, and no credential of the client's."""
    with suppress(InvalidRequestError):
        check_upgrade(dict(headers))
    try:
        target = agent_target(query, {"user": user})
        request = upgrade_request(headers, target, "t0ken")
    except (InvalidRequestError, UnicodeEncodeError):  # half of a surrogate pair in a query
        return
    agent = h11.Connection(h11.SERVER)
    agent.receive_data(request)
    try:
        event = agent.next_event()
    except h11.RemoteProtocolError:
        return  # a value that the agent refuses
    assert isinstance(event, h11.Request)
    assert event.target == target.encode()
    found = [bytes(value) for name, value in event.headers if name == b"authorization"]
    assert found == [b"Bearer t0ken"]
    assert b"cookie" not in dict(event.headers)
    assert [value for name, value in event.headers if name == b"host"] == [b"agent"]
    assert isinstance(agent.next_event(), h11.EndOfMessage)
    assert agent.trailing_data == (b"", False)


async def read_answer(data: bytes, size: int) -> tuple[int, bytes]:
    """Read an answer that arrives in portions."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "agent")]))
    connection.send(h11.EndOfMessage())
    reader = asyncio.StreamReader()
    for at in range(0, len(data), size):
        reader.feed_data(data[at : at + size])
    reader.feed_eof()
    answer = Answer(connection, reader, DOCUMENTS)
    await answer.read_head()
    return answer.status, await answer.read()


@given(
    st.one_of(
        st.binary(max_size=200),
        st.tuples(st.lists(lines, max_size=5), st.binary(max_size=80)).map(
            lambda parts: b"\r\n".join([b"HTTP/1.1 200 OK", *parts[0], b"", parts[1]])
        ),
    ),
    st.integers(1, 50),
)
def test_answer_of_an_agent_is_read_or_out_of_contract(data: bytes, size: int) -> None:
    """Or its connection ended; nothing else."""
    with suppress(OutOfContractError, ConnectionError):
        status, body = asyncio.run(read_answer(data, size))
        assert 200 <= status <= 999
        assert len(body) <= MAX_BODY_BYTES


@given(body=st.binary(max_size=300), size=st.integers(1, 50), chunked=st.booleans())
def test_answer_is_read_as_it_was_sent(*, body: bytes, size: int, chunked: bool) -> None:
    """In whatever portions."""
    agent = h11.Connection(h11.SERVER)
    agent.receive_data(b"GET / HTTP/1.1\r\nHost: agent\r\n\r\n")
    agent.next_event()
    length = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(body)))
    events = (
        h11.Response(status_code=200, headers=[length]),
        h11.Data(data=body),
        h11.EndOfMessage(),
    )
    data = b"".join(agent.send(event) or b"" for event in events)
    assert asyncio.run(read_answer(data, size)) == (200, body)
