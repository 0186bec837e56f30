"""A kernel's container or service, and its companion's, as the one workload that they are. No I/O.

What is said of containers here holds for services. A kernel that has an agent in its own container
has no companion. The two halves of a couple end together: whoever follows an engine removes the one
that is left.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from enterprise_gateway.services.processproxies.contract import (
    ORDERLY_EXIT,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.names import kernel_name_of, username_of

COMPANION_LABEL = "enterprise-gateway.companion"
"""On a companion: the engine's id of the kernel's container."""
COMPANION_ENDED = "its companion ended: "
"""How the exit reason begins of a kernel that is dead because its companion is."""
PARTING_DELAY = 10.0
"""Seconds that the half which is left has to end by itself, and to say its last words."""


@dataclass(frozen=True, slots=True)
class Part:
    """A container: a kernel's own, or that of its companion."""

    engine_id: str
    workload: Workload
    """As if it were all there is."""
    companion_of: str = ""
    """The engine's id of the container that it is the companion of; "" if it is none."""

    @property
    def subject(self) -> str:
        """The engine's id of the kernel's own container."""
        return self.companion_of or self.engine_id

    @property
    def is_dead(self) -> bool:
        """Whether it has ended."""
        return self.workload.state is WorkloadState.DEAD


@dataclass(slots=True)
class Couple:
    """What there is of one kernel, at least one of the two."""

    kernel: Part | None = None
    companion: Part | None = None
    is_companion_gone: bool = False
    """It is only remembered: without it the kernel would seem to be waiting for one."""

    def put(self, part: Part) -> None:
        """Take in a part. A later companion replaces an earlier one."""
        if not part.companion_of:
            self.kernel = part
        elif self.companion is None or not self.companion.workload.succeeds(part.workload):
            self.companion = part
            self.is_companion_gone = False

    @property
    def parts(self) -> list[Part]:
        """What is there."""
        companion = None if self.is_companion_gone else self.companion
        return [part for part in (self.kernel, companion) if part is not None]

    @property
    def companion_id(self) -> str:
        """The engine's id of the companion, "" if there was none."""
        return self.companion.engine_id if self.companion is not None else ""

    @property
    def kernel_lives(self) -> bool:
        """Whether the kernel's own container has not ended."""
        return self.kernel is not None and not self.kernel.is_dead

    @property
    def survivor(self) -> str:
        """The engine's id of the half that runs though the other has ended; "" if neither does."""
        if self.kernel is not None and not self.kernel.is_dead:
            is_left = self.companion is not None and self.companion.is_dead
            return self.kernel.engine_id if is_left else ""
        is_left = self.companion is not None and not self.companion.is_dead
        return self.companion_id if is_left else ""

    @property
    def workload(self) -> Workload:
        """The two as one workload: where the companion listens, dead if either is."""
        if self.kernel is None:
            assert self.companion is not None  # noqa: S101 - there is one of the two
            return _alone(self.companion.workload)
        if self.companion is None:
            return self.kernel.workload
        return _together(self.kernel.workload, self.companion.workload)


class Couples:
    """All couples that an engine has, by the engine's id of the kernel's container."""

    def __init__(self, parts: Iterable[Part] = ()) -> None:
        self._couples: dict[str, Couple] = {}
        self._subjects: dict[str, str] = {}
        for part in parts:
            self.put(part)

    def __iter__(self) -> Iterator[Couple]:
        return iter(self._couples.values())

    @property
    def parts(self) -> Mapping[str, Part]:
        """All that is there, by the engine's id."""
        return {part.engine_id: part for couple in self._couples.values() for part in couple.parts}

    def get(self, subject: str) -> Couple | None:
        """Return what there is of a kernel."""
        return self._couples.get(subject)

    def part(self, engine_id: str) -> Part | None:
        """Return what is known of a container."""
        couple = self._couples.get(self._subjects.get(engine_id, ""))
        parts = couple.parts if couple is not None else ()
        return next((part for part in parts if part.engine_id == engine_id), None)

    def put(self, part: Part) -> Couple:
        """Take in a container, or its new state."""
        self._subjects[part.engine_id] = part.subject
        couple = self._couples.setdefault(part.subject, Couple())
        couple.put(part)
        return couple

    def drop(self, engine_id: str) -> None:
        """Take note that a container is gone."""
        subject = self._subjects.pop(engine_id, "")
        couple = self._couples.get(subject)
        if couple is None:
            return
        if engine_id == subject:
            couple.kernel = None
            if couple.is_companion_gone:
                couple.companion = None
        elif engine_id == couple.companion_id:
            couple.is_companion_gone = couple.kernel is not None
            if couple.kernel is None:
                couple.companion = None
        if couple.kernel is None and couple.companion is None:
            del self._couples[subject]


def _alone(companion: Workload) -> Workload:
    """Return the workload of a companion whose kernel's container is not there any more."""
    name = kernel_name_of(companion.name)
    username = username_of(name, companion.kernel_id)
    companion = dataclasses.replace(companion, name=name, username=username)
    if companion.state is not WorkloadState.DEAD:
        return _dead(companion, "it disappeared", is_tombstone=False)
    return _dead(
        companion, _companions_end(companion.exit_reason), is_tombstone=companion.is_tombstone
    )


def _together(kernel: Workload, companion: Workload) -> Workload:
    kernel_lives = kernel.state is not WorkloadState.DEAD
    companion_lives = companion.state is not WorkloadState.DEAD
    if not companion_lives and (kernel_lives or companion.exit_reason == ORDERLY_EXIT):
        reason = _companions_end(companion.exit_reason)
        return _dead(kernel, reason, is_tombstone=companion.is_tombstone)
    if not kernel_lives:
        if kernel.exit_reason != ORDERLY_EXIT:
            return kernel
        # It is the companion that ends kernels; one that ends by itself is not meant to.
        reason = f"its container ended by itself ({ORDERLY_EXIT})"
        return _dead(kernel, reason, is_tombstone=companion.is_tombstone)
    if WorkloadState.STARTING in (kernel.state, companion.state):
        return dataclasses.replace(kernel, state=WorkloadState.STARTING, endpoint=None)
    return dataclasses.replace(kernel, endpoint=companion.endpoint)


def _companions_end(reason: str) -> str:
    """A companion ends as it should, with its kernel, exactly if that was asked for."""
    return reason if reason == ORDERLY_EXIT else f"{COMPANION_ENDED}{reason}"


def _dead(workload: Workload, reason: str, *, is_tombstone: bool) -> Workload:
    return dataclasses.replace(
        workload,
        state=WorkloadState.DEAD,
        endpoint=None,
        exit_reason=reason,
        is_tombstone=is_tombstone,
    )
