"""The events of kernels, and their form as JSON. Pure.

A field that is not known is left out of the JSON.
"""

import hashlib
import secrets
from typing import TypeAlias, get_args

import msgspec

MAX_REASON_CHARS = 500
MAX_NAME_CHARS = 200
_ID_CHARS = 32


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", omit_defaults=True):
    """What all events tell."""

    id: str
    """Two events with the same id tell of the same thing, whichever replicas they are from."""
    time: str
    """When the replica learned of it: ISO 8601 in UTC, with six digits of a second and a Z."""
    owner: str = ""
    """Whose kernel it is: the user name as in the name of its workload, escaped."""
    kernel_id: str = ""
    kernel_name: str = ""
    """The kernelspec's name."""
    by: str = ""
    """The user whose request it was; `gateway`, `client`, `culler` or `agent` where the replica
    knows no user. "" if none is to be told."""


class Requested(Event, frozen=True, kw_only=True, tag="requested"):
    """A user has asked for a kernel, and may have one as far as is known."""


class Refused(Event, frozen=True, kw_only=True, tag="refused"):
    """A start was refused: a limit, a policy, or a faulty request."""

    error: str
    """The class of the error, as in the metric `eg_kernel_start_failures_total`."""
    reason: str


class Failed(Event, frozen=True, kw_only=True, tag="failed"):
    """A start failed, or its client left before the kernel was ready."""

    error: str
    reason: str


class Ready(Event, frozen=True, kw_only=True, tag="ready"):
    """A kernel that was launched is ready."""

    launch: str
    """Identifies the workload: a kernel that is launched again gets another one."""
    seconds: float
    """How long that took, from the request on."""


class Claimed(Event, frozen=True, kw_only=True, tag="claimed"):
    """A user was given a kernel that was ready, from a pool."""

    launch: str
    requested: str = ""
    """The `kernel_id` of the `Requested` that it answers; "" from older gateways."""
    seconds: float
    waited: float
    """How many seconds of the workload's life had passed before, and are not the user's."""


class Restarted(Event, frozen=True, kw_only=True, tag="restarted"):
    """A kernel was restarted, by a user or by its agent after it had died."""

    launch: str
    restarts: int
    """How often, since it was launched."""
    seconds: float | None = None
    reason: str = ""
    """Why its agent restarted it."""


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a workload has used since it was launched."""

    seconds: float
    """For how long it has existed, by the engine's clock."""
    cpu_seconds: float | None = None
    """By its agent's word, within what that many seconds allow; None: its agent has not told."""
    memory_peak_bytes: int | None = None
    """By its agent's word."""
    gpus: int = 0
    """How many GPUs it was launched with."""


class Dead(Event, frozen=True, kw_only=True, tag="dead"):
    """A kernel died. It may be restarted."""

    launch: str
    usage: Usage
    reason: str
    cause: str
    """The reason in one word, as in the metric `eg_kernel_deaths_total`."""


class Culled(Event, frozen=True, kw_only=True, tag="culled"):
    """A kernel was ended because it was idle, or at its longest age."""

    launch: str
    usage: Usage


class Ended(Event, frozen=True, kw_only=True, tag="ended"):
    """A kernel was ended on request, or because no client came for it."""

    launch: str
    usage: Usage


KernelEvent: TypeAlias = (
    Requested | Refused | Failed | Ready | Claimed | Restarted | Dead | Culled | Ended
)
KINDS = tuple(str(kind.__struct_config__.tag) for kind in get_args(KernelEvent))


def unique_id() -> str:
    """Return the id of an event that one replica alone can tell."""
    return secrets.token_hex(_ID_CHARS // 2)


def shared_id(*parts: str) -> str:
    """Return the id of an event that several replicas tell.

    Args:
        *parts: what makes it different from all others, the same for all replicas.
    """
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_ID_CHARS]


def encode_event(event: KernelEvent) -> bytes:
    """Return the JSON of an event, in one line without its end."""
    return msgspec.json.encode(event)


def decode_event(raw: bytes) -> KernelEvent:
    """Return the event of a JSON text. Fields that it does not know are ignored.

    Raises:
        msgspec.DecodeError: it is none of these events.
    """
    event: KernelEvent = msgspec.json.decode(raw, type=KernelEvent)
    return event
