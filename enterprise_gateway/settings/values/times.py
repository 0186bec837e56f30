"""When kernels end by themselves, or pause, as operators write it for users and groups. Pure."""

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec

_Seconds = Annotated[int, msgspec.Meta(ge=0)]


class Times(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """When kernels of one user, or of one group, end or pause; None: not stated."""

    cull_idle_timeout: _Seconds | None = None
    """0: never."""
    cull_connected: bool | None = None
    cull_busy: bool | None = None
    cull_gpu_idle_timeout: _Seconds | None = None
    """0: never."""
    max_kernel_age: _Seconds | None = None
    """0: never."""
    pause_idle_timeout: _Seconds | None = None
    """0: never."""

    @property
    def stated(self) -> dict[str, Any]:
        """What is stated, by name."""
        return dict(msgspec.to_builtins(self))

    def over(self, other: "Times") -> "Times":
        """Return these times, and the other's where nothing is stated."""
        return msgspec.structs.replace(other, **self.stated)


def read_times(written: Mapping[str, object]) -> Times:
    """Return times by the names of the settings, such as `{"max_kernel_age": "3600"}`.

    Raises:
        ValueError: a name is unknown, or a value is none; the text says which.
    """
    try:
        return msgspec.convert(written, Times, strict=False)
    except msgspec.ValidationError as exc:
        raise ValueError(str(exc)) from exc


def longest(several: Iterable[Times]) -> Times:
    """Return the times that let kernels live the longest, for each name its own."""
    found: dict[str, list[Any]] = {}
    for times in several:
        for name, value in times.stated.items():
            found.setdefault(name, []).append(value)
    return Times(
        **{
            name: all(values)
            if isinstance(values[0], bool)
            else max(values, key=lambda seconds: seconds or math.inf)
            for name, values in found.items()
        }
    )
