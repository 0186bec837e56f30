"""What tests read out of kernel messages."""

from jupyter_wire.messages import Message


def texts(messages: list[Message], name: str = "stdout") -> str:
    """Return what was printed."""
    return "".join(
        message.content["text"]
        for message in messages
        if message.type == "stream" and message.content["name"] == name
    )


def statuses(messages: list[Message]) -> list[str]:
    """Return the execution states that were published, in order."""
    return [message.content["execution_state"] for message in messages if message.type == "status"]


def is_idle(message: Message, msg_id: str) -> bool:
    """Whether a message is the idle status of a request."""
    return message.parent_id == msg_id and message.content.get("execution_state") == "idle"


def is_dead(message: Message) -> bool:
    """Whether a message says that the kernel is dead."""
    return message.content.get("execution_state") == "dead"
