"""What a client gets that may only read: the kernel's output, and no answer to requests. Pure."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

from kernel_agent.kernel.pending import EXECUTE_REQUEST, REQUEST_SUFFIX
from kernel_agent.wire.agent_messages import MessageFactory
from kernel_agent.wire.codec import Request
from kernel_agent.wire.message import CONTROL, IOPUB, SHELL, Message

ENAME = "ReadOnly"
EVALUE = "This kernel is shared with you read-only. This was not run."
KERNEL_INFO_REQUEST = "kernel_info_request"


def answer_viewer(
    request: Request, kernel_info: Mapping[str, Any], factory: MessageFactory
) -> List[Message]:
    """Return the answers to a message that the kernel is not sent; [] if it gets none.

    Args:
        request: the client's message.
        kernel_info: content of the kernel's latest kernel_info reply, without which front ends show
            nothing; {} if there is none yet.
        factory: makes the messages.
    """
    msg_type = str(request.header["msg_type"])
    if request.channel not in (SHELL, CONTROL) or not msg_type.endswith(REQUEST_SUFFIX):
        return []
    parent = request.parts[0]
    answers: List[Message] = []
    content: Dict[str, Any] = {
        "ename": ENAME,
        "evalue": EVALUE,
        "traceback": [f"{ENAME}: {EVALUE}"],
    }
    if msg_type == KERNEL_INFO_REQUEST and kernel_info:
        content = dict(kernel_info)
    else:
        if msg_type == EXECUTE_REQUEST:
            answers.append(factory.answer(IOPUB, "error", content, parent))
        content["status"] = "error"
    reply = msg_type[: -len(REQUEST_SUFFIX)] + "_reply"
    answers.append(factory.answer(request.channel, reply, content, parent))
    answers.append(factory.status("idle", parent))
    return answers
