"""A kernel's container or service and its sidecar's, combined into one workload. No I/O.

"Container" means container or Swarm service here. A kernel with an agent in its own container has
no sidecar. The two halves of a pair end together: when one has ended, gateways remove the other.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from enterprise_gateway.services.processproxies.contract import (
    ORDERLY_EXIT,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.workloads.names import (
    SIDECAR_USERNAME_CHARS,
    kernel_name_of,
    username_of,
)

SIDECAR_LABEL = "enterprise-gateway.sidecar"
"""On a sidecar: the engine's id of the kernel's container."""
SIDECAR_ENDED = "its sidecar ended: "
"""How the exit reason of a kernel begins whose sidecar has ended."""


class PairKey(NamedTuple):
    """What a kernel's container and its sidecar have in common.

    The kernel's id is part of it: launch scripts of others do not set all labels, and an image may
    have the label of a sidecar, with the id of the container of another kernel.
    """

    kernel_container_id: str
    """The engine's id of the kernel's own container."""
    kernel_id: str


@dataclass(frozen=True, slots=True)
class Member:
    """A kernel's own container, or its sidecar's."""

    engine_id: str
    workload: Workload
    """Of this container alone."""
    sidecar_of: str = ""
    """For a sidecar: the engine's id of the kernel's container; else ""."""

    @property
    def pair(self) -> PairKey:
        """Which pair it is in."""
        return PairKey(self.sidecar_of or self.engine_id, self.workload.kernel_id)

    @property
    def is_dead(self) -> bool:
        """Whether the container has ended."""
        return self.workload.state is WorkloadState.DEAD


@dataclass(slots=True)
class SidecarPair:
    """The containers of one kernel: its own, its sidecar's, or both."""

    kernel: Member | None = None
    sidecar: Member | None = None
    is_sidecar_gone: bool = False
    """Whether the sidecar was removed. It is remembered: the kernel waits for no other."""

    def add(self, member: Member) -> None:
        """Add or update a container. A later sidecar replaces an earlier one."""
        if not member.sidecar_of:
            self.kernel = member
        elif self.sidecar is None or not self.sidecar.workload.succeeds(member.workload):
            self.sidecar = member
            self.is_sidecar_gone = False

    @property
    def members(self) -> list[Member]:
        """The containers that exist."""
        sidecar = None if self.is_sidecar_gone else self.sidecar
        return [member for member in (self.kernel, sidecar) if member is not None]

    @property
    def sidecar_id(self) -> str:
        """The engine's id of the sidecar, "" if there was none."""
        return self.sidecar.engine_id if self.sidecar is not None else ""

    @property
    def kernel_lives(self) -> bool:
        """Whether the kernel's own container exists and has not ended."""
        return self.kernel is not None and not self.kernel.is_dead

    @property
    def unpaired_id(self) -> str:
        """The engine's id of the half that runs although the other has ended, "" if none does."""
        if self.kernel is not None and not self.kernel.is_dead:
            is_unpaired = self.sidecar is not None and self.sidecar.is_dead
            return self.kernel.engine_id if is_unpaired else ""
        is_unpaired = self.sidecar is not None and not self.sidecar.is_dead
        return self.sidecar_id if is_unpaired else ""

    @property
    def workload(self) -> Workload:
        """Both as one workload: its agent is the sidecar's, and it is dead if either is."""
        if self.kernel is None:
            assert self.sidecar is not None  # noqa: S101 - a pair has at least one
            return _alone(self.sidecar.workload)
        if self.sidecar is None:
            return self.kernel.workload
        return _together(self.kernel.workload, self.sidecar.workload)


@dataclass(frozen=True, slots=True)
class Observation:
    """The state of a workload at some moment."""

    engine_id: str
    """The engine's id of the kernel's container or service."""
    workload: Workload
    detail: str = ""
    """While it is starting: a sentence about what it waits for."""
    sidecar_id: str = ""
    """The engine's id of its sidecar, "" if it has none."""


class PairIndex:
    """The pairs on an engine; a container is in none with that of another kernel."""

    def __init__(self, members: Iterable[Member] = ()) -> None:
        self._pairs: dict[PairKey, SidecarPair] = {}
        self._keys: dict[str, PairKey] = {}
        """By the engine's id of the container."""
        for member in members:
            self.add(member)

    def __iter__(self) -> Iterator[SidecarPair]:
        return iter(self._pairs.values())

    @property
    def members(self) -> Mapping[str, Member]:
        """The containers that exist, by the engine's id."""
        return {
            member.engine_id: member for pair in self._pairs.values() for member in pair.members
        }

    def get(self, key: PairKey) -> SidecarPair | None:
        """Return a pair, None if there is none of it."""
        return self._pairs.get(key)

    def member(self, engine_id: str) -> Member | None:
        """Return a container, None if it is unknown."""
        key = self._keys.get(engine_id)
        members = self._pairs[key].members if key in self._pairs else ()
        return next((member for member in members if member.engine_id == engine_id), None)

    def add(self, member: Member) -> SidecarPair:
        """Add or update a container; return its pair."""
        self._keys[member.engine_id] = member.pair
        pair = self._pairs.setdefault(member.pair, SidecarPair())
        pair.add(member)
        return pair

    def drop(self, engine_id: str) -> None:
        """Record that a container was removed."""
        key = self._keys.pop(engine_id, None)
        if key not in self._pairs:
            return
        pair = self._pairs[key]
        if engine_id == key.kernel_container_id:
            pair.kernel = None
            if pair.is_sidecar_gone:
                pair.sidecar = None
        elif engine_id == pair.sidecar_id:
            pair.is_sidecar_gone = pair.kernel is not None
            if pair.kernel is None:
                pair.sidecar = None
        if pair.kernel is None and pair.sidecar is None:
            del self._pairs[key]


def _alone(sidecar: Workload) -> Workload:
    """Return the workload of a sidecar whose kernel's container is gone."""
    name = kernel_name_of(sidecar.name)
    username = username_of(name, sidecar.kernel_id)
    if len(username) >= SIDECAR_USERNAME_CHARS:
        username = ""  # it may be cut, and be another user's
    sidecar = dataclasses.replace(sidecar, name=name, username=username)
    if sidecar.state is not WorkloadState.DEAD:
        return _dead(sidecar, "it disappeared", is_tombstone=False)
    return _dead(sidecar, _sidecars_end(sidecar.exit_reason), is_tombstone=sidecar.is_tombstone)


def _together(kernel: Workload, sidecar: Workload) -> Workload:
    kernel_lives = kernel.state is not WorkloadState.DEAD
    sidecar_lives = sidecar.state is not WorkloadState.DEAD
    if not sidecar_lives and (kernel_lives or sidecar.exit_reason == ORDERLY_EXIT):
        reason = _sidecars_end(sidecar.exit_reason)
        return _dead(kernel, reason, is_tombstone=sidecar.is_tombstone)
    if not kernel_lives:
        if kernel.exit_reason != ORDERLY_EXIT:
            return kernel
        # Kernels are ended by their sidecar, so one that ends by itself has failed.
        reason = f"its container ended by itself ({ORDERLY_EXIT})"
        return _dead(kernel, reason, is_tombstone=sidecar.is_tombstone)
    if WorkloadState.STARTING in (kernel.state, sidecar.state):
        return dataclasses.replace(kernel, state=WorkloadState.STARTING, endpoint=None)
    return dataclasses.replace(kernel, endpoint=sidecar.endpoint)


def _sidecars_end(reason: str) -> str:
    """Return a kernel's exit reason for its sidecar's: one that ends orderly was asked to."""
    return reason if reason == ORDERLY_EXIT else f"{SIDECAR_ENDED}{reason}"


def _dead(workload: Workload, reason: str, *, is_tombstone: bool) -> Workload:
    return dataclasses.replace(
        workload,
        state=WorkloadState.DEAD,
        endpoint=None,
        exit_reason=reason,
        is_tombstone=is_tombstone,
    )
