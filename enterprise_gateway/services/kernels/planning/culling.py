"""Merges the gateway's settings of culling, age, pausing and limits with a kernelspec's. Pure.

Those of the kernel's user and groups come before both.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.processproxies.workloads.names import escape_username
from enterprise_gateway.settings import (
    AgeSettings,
    CullingSettings,
    KernelSettings,
    LimitSettings,
    ResourceSettings,
)
from enterprise_gateway.settings.values.times import Times, longest


class _Culling(msgspec.Struct, frozen=True, omit_defaults=True):
    cull_idle_timeout: int | None = None
    cull_interval: int | None = None
    cull_connected: bool | None = None
    cull_busy: bool | None = None
    cull_gpu_idle_timeout: int | None = None


class _Age(msgspec.Struct, frozen=True, omit_defaults=True):
    max_kernel_age: Annotated[int, msgspec.Meta(ge=0)] | None = None
    max_kernel_age_warning: Annotated[int, msgspec.Meta(ge=0)] | None = None


class _Pausing(msgspec.Struct, frozen=True, omit_defaults=True):
    pause_idle_timeout: Annotated[int, msgspec.Meta(ge=0)] | None = None


class _Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    log_memory_bytes: Annotated[int, msgspec.Meta(ge=1024 * 1024)] | None = None
    log_spill_bytes: Annotated[int, msgspec.Meta(ge=0)] | None = None
    log_max_age: Annotated[float, msgspec.Meta(ge=0)] | None = None
    max_message_bytes: Annotated[int, msgspec.Meta(ge=64 * 1024)] | None = None
    max_output_bytes: Annotated[int, msgspec.Meta(ge=0)] | None = None
    iopub_data_rate_limit: Annotated[float, msgspec.Meta(ge=0)] | None = None
    iopub_msg_rate_limit: Annotated[float, msgspec.Meta(ge=0)] | None = None


class IdleTimes(msgspec.Struct, frozen=True):
    """After how many seconds something is done to a kernel that is not used; 0: never."""

    pause_idle_timeout: int = 0
    cull_idle_timeout: int = 0
    max_kernel_age: int = 0
    cull_gpu_idle_timeout: int = 0


def effective_idle_times(
    settings: KernelSettings, metadata: Mapping[str, Any], times: Times
) -> IdleTimes:
    """Return what happens to a kernel that is not used.

    Args:
        settings: the gateway's.
        metadata: the kernelspec's; keys of the same names win.
        times: of the kernel's user, which win over both.

    Raises:
        ConfigurationError: one of the kernelspec's keys has a value of the wrong type or size.
    """
    pausing = {
        "pause_idle_timeout": settings.pause_idle_timeout,
        **_overrides(metadata, _Pausing),
    }
    merged = {
        **_prefer(times, pausing),
        **effective_culling(settings.culling, metadata, times),
        **effective_age(settings.age, metadata, times),
    }
    return msgspec.convert(merged, IdleTimes)


def times_of(user: str, groups: Iterable[str], settings: ResourceSettings) -> Times:
    """Return the times of a kernel's user: their own, then those of their groups.

    Args:
        user: as in the name of the kernel's workload: escaped.
        groups: those that the user is in.
        settings: the gateway's.
    """
    own = {escape_username(name): times for name, times in settings.user_times}
    member_of = frozenset(groups)
    groups_own = [times for name, times in settings.group_times if name in member_of]
    return own.get(user, Times()).over(longest(groups_own))


def effective_culling(
    settings: CullingSettings, metadata: Mapping[str, Any], times: Times
) -> dict[str, object]:
    """Return the `cull_*` settings for the agent of a kernel.

    Args:
        settings: the gateway's.
        metadata: the kernelspec's; its own `cull_*` keys win.
        times: those of the user, which win over both.

    Raises:
        ConfigurationError: one of the kernelspec's keys has a value of the wrong type.
    """
    return _prefer(times, {**dataclasses.asdict(settings), **_overrides(metadata, _Culling)})


def effective_age(
    settings: AgeSettings, metadata: Mapping[str, Any], times: Times
) -> dict[str, object]:
    """Return the longest life for the agent of a kernel, under its names in the wire contract.

    Args:
        settings: the gateway's.
        metadata: the kernelspec's; keys of the same names win.
        times: those of the user, which win over both.

    Raises:
        ConfigurationError: one of the kernelspec's keys has a value of the wrong type or size.
    """
    return _prefer(times, {**dataclasses.asdict(settings), **_overrides(metadata, _Age)})


def effective_limits(settings: LimitSettings, metadata: Mapping[str, Any]) -> dict[str, object]:
    """Return the limits for the agent of a kernel, under their names in the wire contract.

    Args:
        settings: the gateway's.
        metadata: the kernelspec's; keys of the same names win.

    Raises:
        ConfigurationError: one of the kernelspec's keys has a value of the wrong type or size.
    """
    return {**dataclasses.asdict(settings), **_overrides(metadata, _Limits)}


def _prefer(times: Times, values: Mapping[str, object]) -> dict[str, object]:
    stated = times.stated
    return {name: stated.get(name, value) for name, value in values.items()}


def _overrides(metadata: Mapping[str, Any], known: type[msgspec.Struct]) -> dict[str, object]:
    try:
        overrides = msgspec.convert(metadata, known)
    except msgspec.ValidationError as exc:
        raise ConfigurationError(f"The kernelspec's metadata is wrong: {exc}") from exc
    return dict(msgspec.to_builtins(overrides))
