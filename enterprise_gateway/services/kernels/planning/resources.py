"""What a kernel may take: the operator's figures, and what the client asks for. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated

import msgspec

from enterprise_gateway.errors import ConfigurationError, ForbiddenError, InvalidRequestError
from enterprise_gateway.services.kernelspecs.kernelspec import Kernelspec
from enterprise_gateway.services.processproxies.registry import LOCAL_PROCESS_PROXY
from enterprise_gateway.services.processproxies.resources import KernelResources, Ulimit
from enterprise_gateway.settings.resources import OTHERS, ResourceSettings
from enterprise_gateway.settings.values.amounts import (
    Amounts,
    Quota,
    describe_amount,
    read_amount,
    read_amounts,
)

SIZE = "KERNEL_SIZE"
UNLIMITED_SHM_BYTES = 2 * 1024**3
"""Size of /dev/shm of a kernel without a memory limit. Docker's 64 MiB end data loaders."""
LEAST_SHM_BYTES = 64 * 1024**2
"""Docker's own, and the least that a kernel with little memory gets."""

_ASKED = {
    "nano_cpus": ("KERNEL_CPUS_LIMIT", "KERNEL_CPUS"),
    "memory": ("KERNEL_MEMORY_LIMIT", "KERNEL_MEMORY"),
    "gpus": ("KERNEL_GPUS_LIMIT", "KERNEL_GPUS"),
    "shm_size": ("KERNEL_SHM_SIZE",),
}
"""The variables that ask for an amount, Enterprise Gateway's names for Kubernetes among them."""
VARIABLES = frozenset(name for names in _ASKED.values() for name in names) | {SIZE}
"""All variables that ask for something."""
_RESERVED = {
    "reserved_nano_cpus": ("nano_cpus", "KERNEL_CPUS_LIMIT", "KERNEL_CPUS"),
    "reserved_memory": ("memory", "KERNEL_MEMORY_LIMIT", "KERNEL_MEMORY"),
}
"""Of a request with both variables the second asks for a reservation, as in Kubernetes."""
_ULIMIT_NAME = re.compile(r"[a-z]{2,20}")
_MAX_ULIMITS = 32


class _UlimitPair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    soft: Annotated[int, msgspec.Meta(ge=-1)]
    hard: Annotated[int, msgspec.Meta(ge=-1)]


def plan_resources(
    spec: Kernelspec,
    client: Mapping[str, str],
    operator_env: Mapping[str, str],
    groups: frozenset[str],
    settings: ResourceSettings,
) -> KernelResources:
    """Return what a kernel may take; local ones have no amounts.

    The request's figures beat its size, then come those of kernel.json's environment, `resources`
    of the kernelspec's config, its `size`, and the gateway's.

    Args:
        spec: the kernelspec.
        client: the variables that the client has set.
        operator_env: the variables that the kernel would have without the client's.
        groups: the groups that the user is in.
        settings: the gateway's.

    Raises:
        InvalidRequestError: the client asks for something that is no amount, or for an unknown
            size.
        ForbiddenError: it asks for more than it may.
        ConfigurationError: the kernelspec is wrong, or a quota counts what it does not limit.
    """
    counting = frozenset(name for name in groups if quota_of(name, settings.group_quotas))
    noted = counting | (groups & dict(settings.group_times).keys())
    if spec.proxy_class == LOCAL_PROCESS_PROXY:
        return KernelResources(groups=noted)
    sizes = _sizes(spec, settings)
    most = settings.max_amounts
    unasked = _given(spec, operator_env, sizes, settings)
    given = unasked
    if client.get(SIZE):
        given = _client_size(client[SIZE], sizes).over(given)
    asked = _asked(client)
    by_default = _complete(replace(asked, shm_size=None).over(given), most)
    least = Amounts(gpus=0, shm_size=by_default.shm_size)
    ceilings = (most, least, _complete(unasked, most), _complete(given, most))
    _check_ceilings(client, asked, ceilings, spec.name)
    amounts = _complete(asked.over(given), most)
    _check_quotas_can_count(amounts, spec, settings)
    placement = spec.config.placement
    preferences = placement.preferences
    return KernelResources(
        amounts=amounts,
        ulimits=_ulimits(spec),
        constraints=(*settings.placement_constraints, *placement.constraints),
        preferences=settings.placement_preferences if preferences is None else preferences,
        groups=noted,
        is_binding=bool(given.nano_cpus or given.memory or counting) or _count_amounts(settings),
    )


def quota_of(name: str, quotas: Iterable[tuple[str, Quota]]) -> Quota | None:
    """Return the quota of a user or a group, None if there is none."""
    by_name = dict(quotas)
    return by_name.get(name, by_name.get(OTHERS))


def _given(
    spec: Kernelspec,
    operator_env: Mapping[str, str],
    sizes: Mapping[str, Amounts],
    settings: ResourceSettings,
) -> Amounts:
    """Return what the operator gives the kernels of a kernelspec."""
    most = settings.max_amounts
    gateways = settings.default_amounts.over(Amounts(nano_cpus=most.nano_cpus, memory=most.memory))
    size = operator_env.get(SIZE) or spec.config.size
    if size is not None:
        if size not in sizes:
            raise ConfigurationError(
                f"Kernelspec {spec.name} names the size {size[:100]!r}, but there are only: "
                f"{', '.join(sorted(sizes)) or 'none'} (kernel_sizes)."
            )
        gateways = sizes[size].over(gateways)
    own = {name: value for name, value in spec.config.resources.items() if name != "ulimits"}
    try:
        in_config = read_amounts(own)
        in_env = _read(operator_env)
    except ValueError as exc:
        raise ConfigurationError(
            f"resources in metadata.process_proxy.config, or env, of kernelspec {spec.name}: {exc}."
        ) from exc
    return in_env.over(in_config).over(gateways)


def _asked(client: Mapping[str, str]) -> Amounts:
    """Return what a client asks for."""
    try:
        return _read(client)
    except ValueError as exc:
        raise InvalidRequestError(f"{exc}.") from exc


def _check_ceilings(
    client: Mapping[str, str], asked: Amounts, ceilings: Iterable[Amounts], kernel_name: str
) -> None:
    """Refuse what is more than each of the ceilings; an amount that none states has none."""
    for field, names in _ASKED.items():
        amount = getattr(asked, field)
        stated = [getattr(each, field) for each in ceilings]
        ceiling = max((each for each in stated if each is not None), default=amount)
        if amount is not None and amount > ceiling:
            name = next(name for name in names if client.get(name))
            raise ForbiddenError(
                f"{name} asks for {describe_amount(field, amount)}, but a kernel of kernelspec "
                f"{kernel_name} may have {describe_amount(field, ceiling)} at most. Ask for less, "
                "or have the operator raise max_resources (EG_MAX_RESOURCES)."
            )


def _read(env: Mapping[str, str]) -> Amounts:
    """Return the amounts that variables ask for; empty ones ask for none.

    Raises:
        ValueError: one is no amount.
    """
    found: dict[str, int] = {}
    for field, names in _ASKED.items():
        for name in names:
            if env.get(name) and field not in found:
                found[field] = _read_variable(field, name, env[name])
    for field, (of, limit, name) in _RESERVED.items():
        if env.get(limit) and env.get(name):
            found[field] = _read_variable(of, name, env[name])
    return Amounts(**found)


def _read_variable(field: str, name: str, text: str) -> int:
    try:
        return read_amount(field, text)
    except ValueError as exc:
        raise ValueError(f"{name} {exc}") from exc


def _complete(amounts: Amounts, most: Amounts) -> Amounts:
    """Add the size of /dev/shm; what is reserved is at most the limit."""
    shm_size = amounts.shm_size
    if shm_size is None:
        half = amounts.memory // 2 if amounts.memory else UNLIMITED_SHM_BYTES
        shm_size = _least(max(half, LEAST_SHM_BYTES), most.shm_size)
    return replace(
        amounts,
        shm_size=shm_size,
        reserved_nano_cpus=_least(amounts.reserved_nano_cpus, amounts.nano_cpus),
        reserved_memory=_least(amounts.reserved_memory, amounts.memory),
    )


def _least(amount: int | None, limit: int | None) -> int | None:
    return amount if amount is None or limit is None else min(amount, limit)


def _quotas(settings: ResourceSettings) -> list[Quota]:
    return [quota for _, quota in (*settings.user_quotas, *settings.group_quotas)]


def _count_amounts(settings: ResourceSettings) -> bool:
    """Say whether a quota counts more than the number of kernels."""
    return any(quota != Quota(kernels=quota.kernels) for quota in _quotas(settings))


def _check_quotas_can_count(amounts: Amounts, spec: Kernelspec, settings: ResourceSettings) -> None:
    quotas = _quotas(settings)
    for field, name in (("nano_cpus", "cpus"), ("memory", "memory")):
        is_counted = any(getattr(quota, field) is not None for quota in quotas)
        if is_counted and getattr(amounts, field) is None:
            raise ConfigurationError(
                f"A quota counts {name}, but kernels of kernelspec {spec.name} have no limit of "
                f"it. State {name} in resources of its metadata.process_proxy.config, or for all "
                "in default_resources (EG_DEFAULT_RESOURCES)."
            )


def _sizes(spec: Kernelspec, settings: ResourceSettings) -> dict[str, Amounts]:
    """Return the sizes that there are: the kernelspec's own if it has any."""
    if spec.config.sizes is None:
        return dict(settings.sizes)
    try:
        return {name: read_amounts(amounts) for name, amounts in spec.config.sizes.items()}
    except ValueError as exc:
        raise ConfigurationError(f"{_where(spec, 'sizes')}: {exc}.") from exc


def _client_size(name: str, sizes: Mapping[str, Amounts]) -> Amounts:
    if name not in sizes:
        raise InvalidRequestError(
            f"{SIZE} is {name[:100]!r}, but there are only: {', '.join(sorted(sizes)) or 'none'}."
        )
    return sizes[name]


def _ulimits(spec: Kernelspec) -> tuple[Ulimit, ...]:
    try:
        written = msgspec.convert(
            spec.config.resources.get("ulimits", {}),
            Annotated[dict[str, int | _UlimitPair], msgspec.Meta(max_length=_MAX_ULIMITS)],
        )
    except msgspec.ValidationError as exc:
        raise ConfigurationError(f"{_where(spec, 'ulimits')}: {exc}.") from exc
    found = []
    for name, limit in written.items():
        soft, hard = (limit, limit) if isinstance(limit, int) else (limit.soft, limit.hard)
        if not _ULIMIT_NAME.fullmatch(name) or soft < -1:
            raise ConfigurationError(
                f"{_where(spec, 'ulimits')} must be such as "
                '{"nofile": 65536, "memlock": -1, "core": {"soft": 0, "hard": 0}}.'
            )
        found.append(Ulimit(name, soft, hard))
    return tuple(found)


def _where(spec: Kernelspec, key: str) -> str:
    return f"{key} in metadata.process_proxy.config of kernelspec {spec.name}"
