"""What clients of a kernel get that died together with its agent."""

import json
import struct

import pytest

from enterprise_gateway.services.kernels.agents.state import OpenRequest
from enterprise_gateway.web.dead_kernels import DeadKernelAnswers, explain_death
from jupyter_wire.messages import (
    Codec,
    Message,
    decode_legacy,
    decode_v1,
    encode,
    execute_content,
    make_header,
)

REASON = "the kernel's workload ended: exit code 137 (killed)"
EVALUE = "The kernel's workload ended: exit code 137 (killed). Restart it to go on."
both_codecs = pytest.mark.parametrize("codec", Codec)


def decode(data: str | bytes, codec: Codec) -> Message:
    """Read a message of the gateway's."""
    if codec is Codec.V1:
        assert isinstance(data, bytes)
        return decode_v1(data)
    return decode_legacy(data)


def answering(codec: Codec, **kernel_info: object) -> DeadKernelAnswers:
    """Return the answers for a client of a codec."""
    return DeadKernelAnswers(
        explain_death(REASON), is_v1=codec is Codec.V1, kernel_info=kernel_info
    )


def request(msg_type: str, channel: str = "shell", *buffers: bytes) -> Message:
    """Return a client's message."""
    content = execute_content("1") if msg_type == "execute_request" else {}
    return Message(channel, make_header(msg_type, "s", "test"), {}, {}, content, buffers)


@both_codecs
def test_open_requests_fail_with_the_reason(codec: Codec) -> None:
    """With an error under a cell, the reply and idle, as an agent would answer."""
    cell, completion = request("execute_request"), request("complete_request", "control")
    requests = [OpenRequest("shell", cell.header), OpenRequest("control", completion.header)]
    said = [decode(each, codec) for each in answering(codec).answer_left(requests)]
    assert [(each.channel, each.type, each.parent_id) for each in said] == [
        ("iopub", "error", cell.id),
        ("shell", "execute_reply", cell.id),
        ("iopub", "status", cell.id),
        ("control", "complete_reply", completion.id),
        ("iopub", "status", completion.id),
    ]
    error, reply, idle, *_ = said
    assert error.content["traceback"] == [f"KernelDied: {EVALUE}"]
    assert (reply.content["status"], reply.content["evalue"]) == ("error", EVALUE)
    assert idle.content == {"execution_state": "idle"}
    assert len({each.header["session"] for each in said}) == 1


@both_codecs
def test_request_that_the_agent_did_not_tell_of_fails_too(codec: Codec) -> None:
    """Once, though the agent may have told of it; what awaits no reply is passed over."""
    told, late = request("execute_request"), request("execute_request")
    sent = [encode(each, codec) for each in (told, request("comm_msg"), late)]
    requests = [OpenRequest("shell", told.header)]
    said = [decode(each, codec) for each in answering(codec).answer_left(requests, sent)]
    assert [each.parent_id for each in said] == [*[told.id] * 3, *[late.id] * 3]


@both_codecs
def test_kernel_info_is_what_it_was(codec: Codec) -> None:
    """Papermill asks for it when a cell has failed, and says why that failed only if it gets it."""
    asked = encode(request("kernel_info_request"), codec)
    known = {"status": "ok", "language_info": {"name": "python"}}
    reply, idle = (decode(each, codec) for each in answering(codec, **known).answer(asked))
    assert (reply.type, reply.content) == ("kernel_info_reply", known)
    assert idle.content == {"execution_state": "idle"}
    reply, _ = (decode(each, codec) for each in answering(codec).answer(asked))
    assert reply.content["evalue"] == f"{EVALUE} This was not run."


def test_channel_is_shell_unless_it_is_said() -> None:
    """jupyter_server's kernel client, with nbclient and papermill, names none."""
    header = make_header("execute_request", "s", "test")
    answers = answering(Codec.LEGACY).answer(json.dumps({"header": header, "content": {}}))
    assert [decode(each, Codec.LEGACY).channel for each in answers] == ["iopub", "shell", "iopub"]


@both_codecs
def test_later_request_is_answered_at_once(codec: Codec) -> None:
    """With and without buffers; a message without a reply gets idle."""
    for sent in (request("execute_request"), request("execute_request", "shell", b"1", b"2")):
        answers = [decode(each, codec) for each in answering(codec).answer(encode(sent, codec))]
        assert [each.type for each in answers] == ["error", "execute_reply", "status"]
        assert {each.parent_id for each in answers} == {sent.id}
        assert answers[0].content["evalue"] == f"{EVALUE} This was not run."
    comm = encode(request("comm_msg"), codec)
    assert [decode(each, codec).type for each in answering(codec).answer(comm)] == ["status"]


@both_codecs
@pytest.mark.parametrize(
    "data",
    [
        *("", "{", "[]", "{}", "[" * 100_000, '{"channel": "shell", "header": 1}'),
        *(b"", b"\0" * 8, b"\xff" * 100, struct.pack("<Q", 3), struct.pack("<4Q", 3, 0, 9**9, 0)),
    ],
    ids=repr,
)
def test_malformed_message_is_dropped(codec: Codec, data: str | bytes) -> None:
    """Whatever a client sends, it gets no answer and nothing fails."""
    assert answering(codec).answer(data) == []
    assert answering(codec).answer(encode(request("input_reply", "stdin"), codec)) == []
