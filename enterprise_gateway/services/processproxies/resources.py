"""What one kernel may take: for launch scripts, and in the labels of its workload. Pure."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from enterprise_gateway.settings.values.amounts import Amounts, cpus_text, read_amount

CPUS_LABEL = "enterprise-gateway.cpus"
MEMORY_LABEL = "enterprise-gateway.memory"
"""In bytes."""
GPUS_LABEL = "enterprise-gateway.gpus"
GROUPS_LABEL = "enterprise-gateway.groups"
"""The groups of its user that have a quota or times, percent-encoded, with commas between them."""

_DIGITS = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a kernel counts for in quotas: its limits, 0 where it has none."""

    nano_cpus: int = 0
    memory: int = 0
    gpus: int = 0
    groups: frozenset[str] = frozenset()
    """The groups in whose quotas it counts, and whose times it has."""


@dataclass(frozen=True, slots=True)
class Ulimit:
    """A limit of setrlimit(2); -1: none."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class KernelResources:
    """What a kernel may take, and on which nodes of a swarm."""

    amounts: Amounts = field(default_factory=Amounts)
    ulimits: tuple[Ulimit, ...] = ()
    constraints: tuple[str, ...] = ()
    preferences: tuple[str, ...] = ()
    groups: frozenset[str] = frozenset()
    """The groups of its user that have a quota or times."""
    is_binding: bool = False
    """Whether the operator states a limit of CPUs or memory, or quotas count more than kernels."""

    @property
    def usage(self) -> Usage:
        """What it counts for in quotas."""
        amounts = self.amounts
        return Usage(amounts.nano_cpus or 0, amounts.memory or 0, amounts.gpus or 0, self.groups)

    def for_script(self) -> str:
        """Return the JSON that a launch script applies, `EG_RESOURCES`."""
        amounts = {
            "nano_cpus": self.amounts.nano_cpus,
            "memory": self.amounts.memory,
            "pids": self.amounts.pids,
            "shm_size": self.amounts.shm_size,
            "gpus": self.amounts.gpus,
            "reserved_nano_cpus": self.amounts.reserved_nano_cpus,
            "reserved_memory": self.amounts.reserved_memory,
        }
        document: dict[str, object] = {name: value for name, value in amounts.items() if value}
        ulimits = [{"Name": one.name, "Soft": one.soft, "Hard": one.hard} for one in self.ulimits]
        lists = {
            "ulimits": ulimits,
            "constraints": self.constraints,
            "preferences": self.preferences,
        }
        document |= {name: value for name, value in lists.items() if value}
        labels = labels_of_usage(self.usage)
        return json.dumps({**document, "labels": labels} if labels else document)


def labels_of_usage(usage: Usage) -> dict[str, str]:
    """Return the labels that tell every gateway what a kernel counts for."""
    labels = {
        CPUS_LABEL: cpus_text(usage.nano_cpus) if usage.nano_cpus else "",
        MEMORY_LABEL: str(usage.memory or ""),
        GPUS_LABEL: str(usage.gpus or ""),
        GROUPS_LABEL: ",".join(quote(name, safe="") for name in sorted(usage.groups)),
    }
    return {name: value for name, value in labels.items() if value}


def usage_of_labels(labels: Mapping[str, str]) -> Usage:
    """Return what a workload with these labels counts for; what is malformed counts as none."""
    cpus = labels.get(CPUS_LABEL, "")
    try:
        nano_cpus = read_amount("nano_cpus", cpus) if cpus else 0
    except ValueError:
        nano_cpus = 0
    return Usage(
        nano_cpus,
        _number(labels.get(MEMORY_LABEL, "")),
        _number(labels.get(GPUS_LABEL, "")),
        groups_of_label(labels.get(GROUPS_LABEL, "")),
    )


def groups_of_label(text: str) -> frozenset[str]:
    """Return the groups that a label names."""
    names: Iterable[str] = filter(None, text.split(","))
    return frozenset(map(unquote, names))


def _number(text: str) -> int:
    return int(text) if _DIGITS.fullmatch(text) else 0
