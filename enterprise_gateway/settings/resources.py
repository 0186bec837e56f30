"""Settings of what kernels may take: amounts, named sizes, quotas, times, placement."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.settings.option import option
from enterprise_gateway.settings.values.amounts import Amounts, Quota, read_amounts, read_quota
from enterprise_gateway.settings.values.times import Times, read_times

OTHERS = "*"
"""In place of a name: all that no other quota names."""
DEFAULT_PIDS = 4096
"""More than libraries start threads on a large machine, and few enough for any machine."""

T = TypeVar("T")


def parse_amounts(option_name: str, text: str) -> Amounts:
    """Parse amounts such as `cpus=2 memory=4g`.

    Raises:
        ConfigurationError: the text has another form.
    """
    return _parse(option_name, text, read_amounts)


def parse_sizes(option_name: str, texts: Iterable[str]) -> tuple[tuple[str, Amounts], ...]:
    """Parse named amounts such as `small: cpus=1 memory=2g`.

    Raises:
        ConfigurationError: a text has another form.
    """
    return tuple(_named(option_name, texts, read_amounts))


def parse_quotas(option_name: str, texts: Iterable[str]) -> tuple[tuple[str, Quota], ...]:
    """Parse named quotas such as `ann: kernels=5 memory=64g`.

    Raises:
        ConfigurationError: a text has another form.
    """
    return tuple(_named(option_name, texts, read_quota))


def parse_times(option_name: str, texts: Iterable[str]) -> tuple[tuple[str, Times], ...]:
    """Parse named times such as `ann: cull_idle_timeout=600 max_kernel_age=3600`.

    Raises:
        ConfigurationError: a text has another form, or stands for all.
    """
    found = tuple(_named(option_name, texts, read_times))
    if OTHERS in dict(found):
        raise ConfigurationError(
            f"{option_name} has times for {OTHERS!r}, but only for names: those of all others are "
            "the options of the same names, such as cull_idle_timeout."
        )
    return found


def parse_maximum(option_name: str, text: str) -> Amounts:
    """Parse the amounts that a request may ask for.

    Raises:
        ConfigurationError: the text has another form, or names others.
    """
    found = parse_amounts(option_name, text)
    if replace(found, nano_cpus=None, memory=None, shm_size=None, gpus=None) != Amounts():
        raise ConfigurationError(
            f"{option_name} {text[:200]!r}: requests ask for cpus, memory, shm_size and gpus only."
        )
    return found


def _defaults(option_name: str, text: str) -> Amounts:
    return parse_amounts(option_name, text).over(Amounts(pids=DEFAULT_PIDS))


def _named(
    option_name: str, texts: Iterable[str], read: Callable[[Mapping[str, object]], T]
) -> Iterator[tuple[str, T]]:
    for text in filter(None, texts):
        name, colon, rest = text.rpartition(":")
        if not (colon and name.strip()):
            raise ConfigurationError(
                f"{option_name} {text[:200]!r} is not of the form 'NAME: KEY=VALUE …'."
            )
        yield name.strip(), _parse(option_name, rest, read)


def _parse(option_name: str, text: str, read: Callable[[Mapping[str, object]], T]) -> T:
    written: dict[str, object] = {}
    for part in text.split():
        key, equals, value = part.partition("=")
        if not (equals and value) or key in written:
            raise ConfigurationError(
                f"{option_name} {text[:200]!r} is not of the form 'KEY=VALUE KEY=VALUE …', each "
                "key once."
            )
        written[key] = value
    try:
        return read(written)
    except ValueError as exc:
        raise ConfigurationError(f"{option_name} {text[:200]!r}: {exc}.") from exc


@dataclass(frozen=True, slots=True)
class ResourceSettings:
    """What kernels in containers and services may take."""

    default_amounts: Amounts = option(
        "What a kernel may take unless its kernelspec, its size or the request says otherwise, such"
        " as 'cpus=2 memory=4g'. Besides these there are pids (4096 if not stated), shm_size (half"
        " of the memory, 2g without a limit), gpus, reserved_cpus and reserved_memory.",
        default="",
        parse=partial(_defaults, "default_resources"),
        name="default_resources",
        env=("EG_DEFAULT_RESOURCES",),
    )
    max_amounts: Amounts = option(
        "The most that a request may ask for by KERNEL_CPUS, KERNEL_MEMORY, KERNEL_GPUS and"
        " KERNEL_SHM_SIZE, such as 'cpus=8 memory=32g gpus=1'; a kernelspec or a size may give"
        " more. An amount that is not stated: what a kernel gets without asking, such as no GPUs.",
        default="",
        parse=partial(parse_maximum, "max_resources"),
        name="max_resources",
        env=("EG_MAX_RESOURCES",),
    )
    sizes: tuple[tuple[str, Amounts], ...] = option(
        "Sizes that a request may name in KERNEL_SIZE, or a kernelspec as size, such as"
        " 'small: cpus=1 memory=2g, large: cpus=8 memory=32g gpus=1'.",
        default=(),
        takes=list[str],
        parse=partial(parse_sizes, "kernel_sizes"),
        name="kernel_sizes",
        env=("EG_KERNEL_SIZES",),
    )
    user_quotas: tuple[tuple[str, Quota], ...] = option(
        "How much all kernels of a user may take together, such as"
        " '*: kernels=5 cpus=8 memory=32g gpus=1, ann: memory=128g'; '*' stands for the users that"
        " have none of their own.",
        default=(),
        takes=list[str],
        parse=partial(parse_quotas, "user_quotas"),
        env=("EG_USER_QUOTAS",),
    )
    group_quotas: tuple[tuple[str, Quota], ...] = option(
        "How much all kernels of the users of a group may take together, in the same form; '*'"
        " stands for each group that has none of its own.",
        default=(),
        takes=list[str],
        parse=partial(parse_quotas, "group_quotas"),
        env=("EG_GROUP_QUOTAS",),
    )
    user_times: tuple[tuple[str, Times], ...] = option(
        "When kernels of a user end by themselves, such as 'ann: cull_idle_timeout=86400"
        " max_kernel_age=0, bob: cull_busy=true'; of cull_idle_timeout, cull_connected, cull_busy,"
        " cull_gpu_idle_timeout, max_kernel_age and pause_idle_timeout what is stated here comes"
        " before group_times, the kernelspec's and the gateway's own.",
        default=(),
        takes=list[str],
        parse=partial(parse_times, "user_times"),
        env=("EG_USER_TIMES",),
    )
    group_times: tuple[tuple[str, Times], ...] = option(
        "When kernels of the users of a group end by themselves, in the same form; of several"
        " groups the one counts that lets kernels live the longest.",
        default=(),
        takes=list[str],
        parse=partial(parse_times, "group_times"),
        env=("EG_GROUP_TIMES",),
    )
    placement_constraints: tuple[str, ...] = option(
        "Constraints on the nodes of a swarm that kernels may be on, such as"
        " 'node.labels.kernels == yes'. Those of a kernelspec are added.",
        default=(),
        takes=list[str],
        parse=tuple,
        env=("EG_PLACEMENT_CONSTRAINTS",),
    )
    placement_preferences: tuple[str, ...] = option(
        "Labels of nodes over whose values Swarm spreads kernels, such as 'node.labels.rack'. A"
        " kernelspec may have its own.",
        default=(),
        takes=list[str],
        parse=tuple,
        env=("EG_PLACEMENT_PREFERENCES",),
    )
