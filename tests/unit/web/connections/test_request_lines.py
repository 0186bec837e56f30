"""What becomes of a request before aiohttp parses it, and of its id."""

import asyncio

import pytest

from enterprise_gateway.services.request_scope import (
    RequestScope,
    choose_request_id,
    current_scope,
    serving,
)
from enterprise_gateway.web.connections.protocol import repair_request_line


@pytest.mark.parametrize(
    ("line", "repaired"),
    [
        ("GET /a?user=josé HTTP/1.1\r", "GET /a?user=jos%C3%A9 HTTP/1.1\r"),
        ("GET /a?user=ann lee HTTP/1.1\r", "GET /a?user=ann%20lee HTTP/1.1\r"),
        ("GET /é?x=1 HTTP/1.0", "GET /%C3%A9?x=1 HTTP/1.0"),
        ("GET /a?b HTTP/1.1 HTTP/1.1\r", "GET /a?b%20HTTP/1.1 HTTP/1.1\r"),
    ],
)
def test_bytes_of_the_query_are_escaped(line: str, repaired: str) -> None:
    """UTF-8 anywhere in the target, spaces in the query."""
    assert repair_request_line(line.encode()) == repaired.encode()


@pytest.mark.parametrize(
    "line",
    [
        b"GET /a?user=ann HTTP/1.1\r",
        b"GET /a b HTTP/1.1\r",
        b"GET /a?b c",
        b"GET  HTTP/1.1",
        b"\xff\xfe",
        b"\x16\x03\x01 \x02 \x03 \x04",
        b"",
        b"   ",
    ],
)
def test_other_lines_stay_as_they_are(line: bytes) -> None:
    """Other malformed lines are left for the parser to refuse."""
    assert repair_request_line(line) == line


@pytest.mark.parametrize("offered", [None, "", "a b", "x" * 129, "a\n", "é", "a;b", '"a"'])
def test_unsafe_id_is_replaced(offered: str | None) -> None:
    """Ids have no character that a log or a header would have to escape."""
    made = choose_request_id(offered)
    assert made != offered
    assert choose_request_id(made) == made


def request_id() -> str:
    """Return the id of the current request."""
    scope = current_scope()
    return scope.request_id if scope else ""


async def test_id_ends_with_its_request() -> None:
    """A task that outlives the request does not log the request's id."""
    go_on = asyncio.Event()

    async def follow() -> tuple[str, str]:
        before = request_id()
        await go_on.wait()
        return before, request_id()

    with serving(RequestScope("r1")):
        following = asyncio.create_task(follow())
        await asyncio.sleep(0)
        assert await asyncio.to_thread(request_id) == "r1"
        with serving(RequestScope("r2")):
            assert request_id() == "r2"
        assert request_id() == "r1"
    assert request_id() == ""
    go_on.set()
    assert await following == ("r1", "")
