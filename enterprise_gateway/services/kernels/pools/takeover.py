"""What a kernel of a pool must be told to be the kernel that a user asks for. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from enterprise_gateway.services.kernels.planning.environment import is_steering
from enterprise_gateway.services.kernels.planning.images import IMAGE
from enterprise_gateway.services.kernels.planning.resources import VARIABLES
from enterprise_gateway.services.processproxies.config import ProxyConfig
from enterprise_gateway.services.processproxies.contract import LaunchRequest
from enterprise_gateway.services.processproxies.sandbox.request_volumes import MOUNTS, VOLUMES

MAX_BYTES = 32 * 1024
"""An agent takes requests of 64 KiB, and JSON may double what is not ASCII."""

_OWN = frozenset({"KERNEL_ID"})
"""A kernel keeps the id that it had in the pool."""
_HARMLESS = frozenset({"KERNEL_USERNAME", "KERNEL_LAUNCH_TIMEOUT", "KERNEL_WORKING_DIR"})
_READ_BY_LAUNCHES = frozenset(
    {
        "KERNEL_CLASS_NAME",
        "KERNEL_GATEWAY",
        "KERNEL_GID",
        "KERNEL_ID",
        "KERNEL_LANGUAGE",
        "KERNEL_SPARK_CONTEXT_INIT_MODE",
        "KERNEL_UID",
        IMAGE,
        VOLUMES,
        MOUNTS,
        *VARIABLES,
    }
)
_READ_BY_SCRIPTS = re.compile(r"EG_.* | DOCKER_.* | REMOVE_CONTAINER", re.VERBOSE | re.DOTALL)
"""Variables that mean something to every launch, whatever a kernelspec says of them."""
_FOR_A_CONTAINER = re.compile(
    r"""
    KERNEL_.*                                          # launch scripts
    | NB_.* | CHOWN_.* | GRANT_SUDO                    # entry points of images
    | NVIDIA_.*                                        # the engine's runtime
    | IPYTHONDIR | JUPYTER.* | MPLCONFIGDIR            # where the agent finds and puts things
    """,
    re.VERBOSE | re.DOTALL,
)
"""Variables that are read before a kernel's process begins, besides some of those that steer."""
_FOR_A_PROCESS = re.compile(
    r"""
    LD_.* | GLIBC_TUNABLES | GCONV_PATH | LOCPATH      # loader and C library
    | LANG | LANGUAGE | LC_.* | MALLOC_.*
    | PYTHON.* | R_.*                                  # interpreters
    | .*_PROXY | NETRC | REQUESTS_CA_BUNDLE | CURL_CA_BUNDLE | SSL_.* | SSLKEYLOGFILE | OPENSSL_.*
    | HOSTALIASES | LOCALDOMAIN | RES_OPTIONS
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
"""Variables that are read when a process begins, or by what each kernel imports."""
_FOR_A_SPARE = re.compile(
    r"""
    IPYTHON_.* | MPLBACKEND                            # when ipykernel makes the kernel
    | TZ                                               # the spare reads it again
    | (OMP|MKL|OPENBLAS|NUMEXPR|BLIS|VECLIB|GOTO|TBB|NUMBA|KMP)_.*
    | CUDA_.* | TF_.* | XLA_.* | JAX_.* | TORCH_.*     # when a user's module is imported
    """,
    re.VERBOSE | re.DOTALL,
)
"""Variables that a startup file of the running kernel may have had read, but no spare."""

SET_WHILE_RUNNING = frozenset({"python", "r"})
"""Languages, in lower case, in which an agent can set variables and folder of a running kernel."""

_LATER_SETTINGS = frozenset({"pool_ttl", "ping_interval", "launch_timeout"})
"""Settings of an agent that may differ; it is told the new `ping_interval`."""


class Process(StrEnum):
    """Which process of a kernel becomes the user's, in the order of what it costs."""

    RUNNING = "running"
    """The one that has waited."""
    SPARE = "spare"
    """The spare, if one is ready that has preloaded nothing, else a new one."""
    NEW = "new"
    """One that begins when the kernel is taken."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """The body of `POST /v1/take`, section 3 of the wire contract."""

    username: str
    env: Mapping[str, str | None]
    """Variables to set; None: to unset."""
    cwd: str
    process: Process
    ping_interval: object


def plan_takeover(
    pooled: LaunchRequest, wanted: LaunchRequest, config: ProxyConfig, *, may_move: bool
) -> Takeover | None:
    """Return how a kernel of a pool becomes the one that is wanted, None if it cannot.

    Args:
        pooled: how the kernel was launched.
        wanted: how the user's would be launched.
        config: that of the kernelspec, which may say more of its variables.
        may_move: whether users may choose the working directory.
    """
    if _at_launch(pooled.agent_settings) != _at_launch(wanted.agent_settings):
        return None
    if pooled.resources != wanted.resources:  # other limits, or groups, which a label names
        return None
    env = _difference(pooled.env, wanted.env)
    if not may_move:
        env.pop("KERNEL_WORKING_DIR", None)
    processes = [found for name in env if (found := _process_for(name, config)) is not None]
    if len(processes) < len(env):
        return None
    if env and str(pooled.agent_settings["language"]).lower() not in SET_WHILE_RUNNING:
        processes.append(Process.NEW)
    if sum(len(name) + len((value or "").encode()) for name, value in env.items()) > MAX_BYTES:
        return None
    cwd = wanted.cwd if may_move else ""
    process = max(processes, key=list(Process).index, default=Process.RUNNING)
    interval = wanted.agent_settings.get("ping_interval")
    return Takeover(wanted.username, env, cwd, process, interval)


def _at_launch(settings: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in settings.items() if key not in _LATER_SETTINGS}


def _difference(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str | None]:
    names = sorted((before.keys() | after.keys()) - _OWN)
    return {name: after.get(name) for name in names if before.get(name) != after.get(name)}


def _is_read_by_launches(name: str) -> bool:
    return name in _READ_BY_LAUNCHES or _READ_BY_SCRIPTS.fullmatch(name) is not None


def _process_for(name: str, config: ProxyConfig) -> Process | None:
    """Return the process that a variable can be set in, None if it needs a launch."""
    if not _is_read_by_launches(name):
        if _is_named(name, config.pool_process_env):
            return Process.NEW
        if name in _HARMLESS or _is_named(name, config.pool_env):
            return Process.RUNNING
    if _FOR_A_CONTAINER.fullmatch(name) is not None:
        return None
    if _FOR_A_PROCESS.fullmatch(name) is not None:
        return Process.NEW
    if is_steering(name):
        return None
    return Process.SPARE if _FOR_A_SPARE.fullmatch(name) is not None else Process.RUNNING


def _is_named(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
