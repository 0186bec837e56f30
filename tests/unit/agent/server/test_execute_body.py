"""What a client may ask to execute."""

import pytest

from kernel_agent.server.execute_body import (
    BodyError,
    derive_msg_id,
    parse_execute,
    parse_input,
    parse_key,
    parse_position,
)


def test_defaults_are_those_of_a_program() -> None:
    """It stops at an error, and answers no prompts."""
    body = parse_execute({"code": "1"})
    assert body.content() == {
        "code": "1",
        "silent": False,
        "store_history": True,
        "user_expressions": {},
        "allow_stdin": False,
        "stop_on_error": True,
    }
    assert body.timeout is None


def test_fingerprint_tells_bodies_apart() -> None:
    """By meaning: defaults that are given, and the order of fields, do not count."""
    plain = parse_execute({"code": "1"}).fingerprint()
    assert (
        parse_execute({"stop_on_error": True, "code": "1", "timeout": None}).fingerprint() == plain
    )
    others = [
        {"code": "2"},
        {"code": "1", "stop_on_error": False},
        {"code": "1", "allow_stdin": True},
        {"code": "1", "timeout": 1},
    ]
    fingerprints = {parse_execute(other).fingerprint() for other in others}
    assert len(fingerprints | {plain}) == 5
    one, same = (parse_execute({"code": "1", "timeout": value}) for value in (1, 1.0))
    assert one.fingerprint() == same.fingerprint()


@pytest.mark.parametrize("timeout", [0, -1, True, "5", [], float("nan"), float("inf"), 10**400])
def test_timeout_is_a_number_of_seconds(timeout: object) -> None:
    """Above zero, and finite."""
    with pytest.raises(BodyError, match="timeout"):
        parse_execute({"code": "", "timeout": timeout})


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_text_that_no_kernel_can_echo_is_refused(text: str) -> None:
    """Such code fails on the way back in ipykernel, which then never replies."""
    with pytest.raises(BodyError, match="surrogate"):
        parse_execute({"code": text})
    with pytest.raises(BodyError, match="surrogate"):
        parse_input({"value": text})


def test_key_names_one_id_in_one_kernel() -> None:
    """Any replica's agent derives the same."""
    msg_id = derive_msg_id("kernel", "key")
    assert msg_id == derive_msg_id("kernel", "key")
    assert len({msg_id, derive_msg_id("kernel", "other"), derive_msg_id("other", "key")}) == 3


@pytest.mark.parametrize("header", ["", "  ", "x" * 256, "\xe9", "a\x01b"])
def test_strange_keys_are_refused(header: str) -> None:
    """1 to 255 printable ASCII characters."""
    with pytest.raises(BodyError, match="Idempotency-Key"):
        parse_key(header)


@pytest.mark.parametrize("text", ["", "-1", "1.0", "x", "9" * 19, "\u0663"])
def test_position_is_a_number(text: str) -> None:
    """The `n` of a record."""
    with pytest.raises(BodyError, match="after"):
        parse_position(text)
