"""What a kernel of a pool must be told to be the kernel that a user asks for. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from enterprise_gateway.services.kernels.planning.environment import is_steering
from enterprise_gateway.services.processproxies.contract import LaunchRequest

MAX_BYTES = 32 * 1024
"""An agent takes requests of 64 KiB, and JSON may double what is not ASCII."""

_OWN = frozenset({"KERNEL_ID"})
"""A kernel keeps the id that it had in the pool."""
_HARMLESS = frozenset({"KERNEL_USERNAME", "KERNEL_LAUNCH_TIMEOUT", "KERNEL_WORKING_DIR"})
_FOR_THE_START = re.compile(
    r"""
    KERNEL_.*                                          # launch scripts
    | NB_.* | CHOWN_.* | GRANT_SUDO                    # entry points of images
    | LANG | LANGUAGE | LC_.* | TZ | MALLOC_.* | R_.*  # C library and interpreters
    | IPYTHON.* | JUPYTER.* | MPL.*                    # what a kernel imports
    | (OMP|MKL|OPENBLAS|NUMEXPR|BLIS|VECLIB|GOTO|TBB|NUMBA|KMP)_.*
    | CUDA_.* | NVIDIA_.* | TF_.* | XLA_.* | JAX_.* | TORCH_.*
    """,
    re.VERBOSE | re.DOTALL,
)
"""Variables that are read when a container or a kernel starts, besides those that steer that."""

_LATER_SETTINGS = frozenset({"pool_ttl", "ping_interval", "launch_timeout"})
"""Settings of an agent that may differ; it is told the new `ping_interval`."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """The body of `POST /v1/take`, section 3 of the wire contract."""

    username: str
    env: Mapping[str, str | None]
    """Variables to set; None: to unset."""
    cwd: str
    ping_interval: object


def plan_takeover(
    pooled: LaunchRequest, wanted: LaunchRequest, pool_env: Iterable[str], *, may_move: bool
) -> Takeover | None:
    """Return how a kernel of a pool becomes the one that is wanted, None if it cannot.

    Args:
        pooled: how the kernel was launched.
        wanted: how the user's would be launched.
        pool_env: further variables that a running kernel may be given; `*` stands for any text.
        may_move: whether users may choose the working directory.
    """
    if _at_launch(pooled.agent_settings) != _at_launch(wanted.agent_settings):
        return None
    if pooled.resources != wanted.resources:  # other limits, or groups, which a label names
        return None
    env = _difference(pooled.env, wanted.env)
    if not may_move:
        env.pop("KERNEL_WORKING_DIR", None)
    if any(not _is_settable(name, pool_env) for name in env):
        return None
    if sum(len(name) + len((value or "").encode()) for name, value in env.items()) > MAX_BYTES:
        return None
    cwd = wanted.cwd if may_move else ""
    return Takeover(wanted.username, env, cwd, wanted.agent_settings.get("ping_interval"))


def _at_launch(settings: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in settings.items() if key not in _LATER_SETTINGS}


def _difference(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str | None]:
    names = sorted((before.keys() | after.keys()) - _OWN)
    return {name: after.get(name) for name in names if before.get(name) != after.get(name)}


def _is_settable(name: str, allowed: Iterable[str]) -> bool:
    if name in _HARMLESS or any(fnmatchcase(name, pattern) for pattern in allowed):
        return True
    return not is_steering(name) and _FOR_THE_START.fullmatch(name) is None
