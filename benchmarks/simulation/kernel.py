"""Kernels of the simulated cluster, and the messages of their agents. Pure."""

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

from jupyter_wire.messages import join_v1

NETWORK = "127.0.0.0/8"
"""Every address in 127.0.0.0/8 is this machine's own."""
CONTROL_ADDRESS = "127.98.255.254"
AGENT_PORT = 8898
TEXT_BYTES = 200
STAMP_DIGITS = 20
_TAIL = b'"}'


class Place(StrEnum):
    """The kind of workload that the engine shows."""

    CONTAINERS = "containers"
    SERVICES = "services"


@dataclass(eq=False)
class SimulatedKernel:
    """One kernel.

    Attributes:
        number: from 1 on; makes id and address.
        env: of its container, `NAME=value`.
        created: seconds since the epoch.
        is_running: whether it has been started.
        connections: WebSockets open.
        is_busy: whether it sends messages.
    """

    number: int
    kernel_id: str
    name: str
    env: list[str]
    labels: dict[str, str]
    created: float = field(default_factory=time.time)
    is_running: bool = True
    connections: int = 0
    is_busy: bool = False

    @property
    def address(self) -> str:
        """Where its agent listens."""
        return f"127.98.{self.number >> 8}.{self.number & 255}"

    @property
    def engine_id(self) -> str:
        """The engine's id of its container."""
        return f"{self.number:064x}"

    def state(self) -> dict[str, object]:
        """The state document of its agent (docs/agent-interface.md, section 3)."""
        now = format_time(time.time())
        return {
            "version": 1,
            "kernel_id": self.kernel_id,
            "kernel_name": "python_docker",
            "username": "bench",
            "language": "python",
            "execution_state": "busy" if self.is_busy else "idle",
            "last_activity": now,
            "started": now,
            "connections": self.connections,
            "restarts": 0,
            "reason": None,
            "annotations": {"revision": 0, "document": {}},
        }


def make_kernel(number: int) -> SimulatedKernel:
    """Make a kernel that was there before a gateway looked."""
    kernel_id = str(UUID(int=number, version=4))
    labels = {"app": "enterprise-gateway", "component": "kernel", "kernel_id": kernel_id}
    return SimulatedKernel(number, kernel_id, f"bench-{kernel_id}", _environment(kernel_id), labels)


def stream_message() -> bytes:
    """A small iopub message in the v1 codec; `stamp` completes it."""
    header = {
        "msg_id": "0" * 32 + "_1_1",
        "msg_type": "stream",
        "username": "bench",
        "session": "0" * 32,
        "date": format_time(0.0),
        "version": "5.3",
    }
    parent = header | {"msg_type": "execute_request"}
    text = "x" * (TEXT_BYTES - STAMP_DIGITS) + "0" * STAMP_DIGITS
    content = json.dumps({"name": "stdout", "text": text}, separators=(",", ":"))
    parts = [b"iopub", *(json.dumps(part).encode() for part in (header, parent, {}))]
    parts.append(content.encode())
    return join_v1(parts)


def stamp(message: bytes, nanoseconds: int) -> bytes:
    """Put a time into the last digits of a `stream_message`."""
    digits = b"%0*d" % (STAMP_DIGITS, nanoseconds)
    return message[: -STAMP_DIGITS - len(_TAIL)] + digits + _TAIL


def read_stamp(message: bytes) -> int:
    """The time in a stamped message."""
    return int(message[-STAMP_DIGITS - len(_TAIL) : -len(_TAIL)])


def format_time(seconds: float) -> str:
    """Seconds since the epoch, as agents and engines write them."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def _environment(kernel_id: str) -> list[str]:
    """About what a launch script passes on: Swarm's lists carry all of it for every kernel."""
    settings = dict.fromkeys((f"a_setting_of_the_agent_{number}" for number in range(18)), 60.0)
    return [
        f"EG_AGENT_SETTINGS={json.dumps(settings)}",
        f"EG_AGENT_TOKEN={'0' * 64}",
        f"KERNEL_ID={kernel_id}",
        "KERNEL_IMAGE=localhost/enterprise-gateway/kernel-py",
        "KERNEL_LANGUAGE=python",
        "KERNEL_NAME=python_docker",
        "KERNEL_USERNAME=bench",
        "KERNEL_UID=1000",
        "KERNEL_GID=100",
        "KERNEL_SPARK_CONTEXT_INIT_MODE=none",
        "EG_DOCKER_NETWORK=bench",
        "EG_MIN_PORT_RANGE_SIZE=1000",
        "EG_MAX_PORT_RANGE_RETRIES=5",
        "PORT_RANGE=0..0",
        f"PUBLIC_KEY={'0' * 124}",
        "RESPONSE_ADDRESS=127.0.0.1:8877",
    ]
