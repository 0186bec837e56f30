"""JSON, headers and parameters that reach the agent: the documented errors, and no other."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_agent.server.execute_body import (
    BodyError,
    parse_execute,
    parse_input,
    parse_key,
    parse_position,
)
from kernel_agent.server.http import HttpError, Request
from kernel_agent.settings import CullingSettings, SettingsError, change_culling, read_signal
from kernel_agent.wire.handshake import HandshakeError, negotiate

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=4,
)
names = st.sampled_from(
    ["code", "stop_on_error", "allow_stdin", "timeout", "value", "cull_idle_timeout", "cull_busy"]
)
documents = st.dictionaries(names | st.text(max_size=5), values, max_size=3)
PARSERS: list[Callable[[Any], object]] = [
    parse_execute,
    parse_input,
    lambda document: change_culling(CullingSettings(), document),
    lambda document: read_signal(document.get("value")),
]


@pytest.mark.parametrize("parse", PARSERS, ids=["execute", "input", "culling", "signal"])
@given(document=documents)
def test_documents_are_taken_or_refused(
    parse: Callable[[Any], object], document: dict[str, Any]
) -> None:
    """With the error that becomes a 400."""
    with suppress(BodyError, SettingsError):
        parse(document)


@given(st.text(max_size=400))
def test_headers_and_parameters_are_taken_or_refused(text: str) -> None:
    """What is taken is what was sent."""
    with suppress(BodyError):
        assert parse_key(text) == text.strip()
    with suppress(BodyError):
        assert parse_position(text) == int(text)


@given(st.binary(max_size=200) | documents.map(lambda document: json.dumps(document).encode()))
def test_body_is_an_object_or_refused(body: bytes) -> None:
    """400, whatever it is."""
    request = Request("POST", "/", {}, {}, body)
    with suppress(HttpError):
        assert isinstance(request.json_object(), dict)


@pytest.mark.parametrize(
    "body", [b"[" * 60_000, b'{"a":' * 10_000, b"9" * 60_000, b'"' + b"\\u" * 9]
)
def test_hostile_json_is_refused(body: bytes) -> None:
    """Depth and digits that make a parser fail."""
    with pytest.raises(HttpError) as refusal:
        Request("POST", "/", {}, {}, body).json_object()
    assert refusal.value.status == 400


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "upgrade",
                "sec-websocket-key",
                "sec-websocket-version",
                "sec-websocket-protocol",
                "sec-websocket-extensions",
                "user-agent",
            ]
        ),
        st.sampled_from(["websocket", "13", "dGhlIHNhbXBsZSBub25jZQ=="]) | st.text(max_size=30),
    ),
    st.text(max_size=20),
)
def test_handshake_is_made_or_refused(headers: dict[str, str], session_id: str) -> None:
    """Its answer has nothing of the client's text in it."""
    try:
        handshake = negotiate(headers, session_id)
    except HandshakeError:
        return
    assert all(value.isascii() and value.isprintable() for value in handshake.headers.values())
    assert headers["sec-websocket-version"] == "13"
