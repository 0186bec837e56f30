"""Which culling settings apply to a kernel: the gateway's or its kernelspec's. Pure."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.settings import CullingSettings


class _Overrides(msgspec.Struct, frozen=True, omit_defaults=True):
    cull_idle_timeout: int | None = None
    cull_interval: int | None = None
    cull_connected: bool | None = None
    cull_busy: bool | None = None


def effective_culling(settings: CullingSettings, metadata: Mapping[str, Any]) -> dict[str, object]:
    """Return the `cull_*` settings for the agent of a kernel.

    Args:
        settings: the gateway's.
        metadata: the kernelspec's; its own `cull_*` keys win.

    Raises:
        ConfigurationError: one of the kernelspec's keys has a value of the wrong type.
    """
    try:
        overrides = msgspec.convert(metadata, _Overrides)
    except msgspec.ValidationError as exc:
        raise ConfigurationError(f"The kernelspec's metadata is wrong: {exc}") from exc
    return {**dataclasses.asdict(settings), **msgspec.to_builtins(overrides)}
