"""Amounts of resources, as operators and clients write them. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal

from enterprise_gateway.settings.values.sizes import read_size

NANO = 10**9
_CPUS = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,9})?)(m?)")
_COUNT = re.compile(r"[0-9]{1,7}")
_LEAST_NANO_CPUS = NANO // 100
_LEAST_MEMORY = 6 * 1024 * 1024
"""The smallest limits that the engine accepts."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much of each resource one kernel may take; None: not stated."""

    nano_cpus: int | None = None
    """CPU time in billionths of a CPU, as Docker counts it."""
    memory: int | None = None
    """Bytes."""
    pids: int | None = None
    """Processes and threads."""
    shm_size: int | None = None
    """Bytes of /dev/shm."""
    gpus: int | None = None
    reserved_nano_cpus: int | None = None
    """What a node of a swarm must have left to be chosen."""
    reserved_memory: int | None = None
    """The same in bytes; in a container the soft limit, for a machine that is short of memory."""

    def over(self, other: "Amounts") -> "Amounts":
        """Return these amounts, and the other's where nothing is stated."""
        stated = {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if getattr(self, each.name) is not None
        }
        return replace(other, **stated)


FIELDS = {
    "cpus": "nano_cpus",
    "memory": "memory",
    "pids": "pids",
    "shm_size": "shm_size",
    "gpus": "gpus",
    "reserved_cpus": "reserved_nano_cpus",
    "reserved_memory": "reserved_memory",
}
"""The fields of `Amounts` by the names that operators write."""


@dataclass(frozen=True, slots=True)
class Quota:
    """How much all kernels of one user, or of one group, may take together; None: no limit."""

    kernels: int | None = None
    nano_cpus: int | None = None
    memory: int | None = None
    gpus: int | None = None


QUOTA_FIELDS = {"kernels": "kernels", "cpus": "nano_cpus", "memory": "memory", "gpus": "gpus"}
"""The fields of `Quota` by the names that operators write."""


def read_amounts(written: Mapping[str, object]) -> Amounts:
    """Return amounts by the names that operators write, such as `{"cpus": 1.5, "memory": "2g"}`.

    Raises:
        ValueError: a name is unknown, or a value is no amount; the text says which.
    """
    return Amounts(**_read(written, FIELDS))


def read_quota(written: Mapping[str, object]) -> Quota:
    """Return a quota by the names that operators write.

    Raises:
        ValueError: as `read_amounts`.
    """
    return Quota(**_read(written, QUOTA_FIELDS))


def read_amount(field: str, written: object) -> int:
    """Return the value of a field of `Amounts` or `Quota`.

    CPUs are a number of them or, as `1500m`, of thousandths; bytes as for `read_size`.

    Args:
        field: its name.
        written: a number, or a text.

    Raises:
        ValueError: it is no such amount; the text says what is.
    """
    text = "" if isinstance(written, bool) else str(written).strip()
    if field.endswith("nano_cpus"):
        return _cpus(text, shown=written)
    if field in ("memory", "reserved_memory", "shm_size"):
        return _bytes(text, shown=written, low=1 if field == "shm_size" else _LEAST_MEMORY)
    low = 0 if field in ("gpus", "kernels") else 1
    if not _COUNT.fullmatch(text) or int(text) < low:
        raise ValueError(f"must be a whole number from {low} on, but is {_shown(written)}")
    return int(text)


def describe_amount(field: str, amount: int) -> str:
    """Return an amount as a person reads it: `1.5 CPUs`, `2 GiB of memory`."""
    match field:
        case "nano_cpus":
            return f"{cpus_text(amount)} CPU{'' if amount == NANO else 's'}"
        case "memory":
            return f"{bytes_text(amount)} of memory"
        case "shm_size":
            return f"{bytes_text(amount)} of shared memory"
        case "gpus":
            return f"{amount} GPU{'' if amount == 1 else 's'}"
        case _:
            return f"{amount} {field}"


def cpus_text(nano_cpus: int) -> str:
    """Return a number of CPUs as a decimal number."""
    return f"{(Decimal(nano_cpus) / NANO).normalize():f}"


def bytes_text(size: int) -> str:
    """Return a number of bytes in the largest unit that leaves no more than two decimals."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size >= 1024**power:
            return f"{size / 1024**power:.2f}".rstrip("0").rstrip(".") + f" {unit}"
    return f"{size} bytes"


def _read(written: Mapping[str, object], names: Mapping[str, str]) -> dict[str, int]:
    values = {}
    for name, value in written.items():
        if name not in names:
            raise ValueError(f"{name[:100]!r} is none of {', '.join(names)}")
        try:
            values[names[name]] = read_amount(names[name], value)
        except ValueError as exc:
            raise ValueError(f"{name} {exc}") from exc
    return values


def _cpus(text: str, *, shown: object) -> int:
    match = _CPUS.fullmatch(text)
    nano_cpus = int(Decimal(match[1]) * (NANO // 1000 if match[2] else NANO)) if match else 0
    if nano_cpus < _LEAST_NANO_CPUS:
        raise ValueError(
            f"must be a number of CPUs from 0.01 on, such as 1.5 or 1500m, but is {_shown(shown)}"
        )
    return nano_cpus


def _bytes(text: str, *, shown: object, low: int) -> int:
    size = read_size(text)
    if size is None or size < low:
        least = f" from {bytes_text(low)} on" if low > 1 else ""
        raise ValueError(
            f"must be a number of bytes{least}, such as 536870912, 512m or 2g, but is "
            f"{_shown(shown)}"
        )
    return size


def _shown(written: object) -> str:
    return repr(written)[:100]
