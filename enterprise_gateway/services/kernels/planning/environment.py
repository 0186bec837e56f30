"""The environment of a kernel: which variables it gets, and which source wins.

Pure, but for a line in the log about ignored variables. From the gateway's own environment a
container gets the variables that `inherited_envs` names; a local kernel also gets those of the
account, which `LocalProcessProxy` adds.
"""

import logging
import re
from collections.abc import Mapping
from string import Template

import msgspec

from enterprise_gateway.errors import UNREADABLE_JSON, InvalidRequestError

_log = logging.getLogger(__name__)

MAX_VALUE_CHARS = 4096
MAX_ENVIRONMENT_BYTES = 1024 * 1024
"""The limit for all variables of a request.

The operating system accepts 2 MiB of arguments and environment together.
"""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}", re.ASCII)
_PROHIBITED = frozenset("`\r\n\0")
"""Enterprise Gateway prohibits `$` too.

Nothing here expands a client's value, so `$` is allowed: passwords contain it.
"""

_SECRETS = ("EG_AUTH_TOKEN", "KG_AUTH_TOKEN", "EG_REMOTE_PWD")
_MEANINGLESS = ("LS_COLORS",)
_RESERVED = frozenset({"RESPONSE_ADDRESS", "PUBLIC_KEY", "PORT_RANGE"})
_RESERVED_PREFIX = "EG_AGENT_"
_STEERING = re.compile(
    r"""
    DOCKER_.* | EG_.* | REMOVE_CONTAINER                       # the launch script
    | PATH | LD_.* | GLIBC_TUNABLES | GCONV_PATH | LOCPATH     # loader and C library
    | PYTHON.* | ENV | BASH_.* | SHELLOPTS | IFS | PS4         # interpreters
    | HOME | XDG_.* | TMPDIR | TEMP | TMP                      # where settings and credentials are
    | .*_PROXY | NETRC | REQUEST_METHOD                        # requests, and other HTTP clients
    | REQUESTS_CA_BUNDLE | CURL_CA_BUNDLE | SSL_.* | SSLKEYLOGFILE | OPENSSL_.*
    | HOSTALIASES | LOCALDOMAIN | RES_OPTIONS                  # how names are resolved
    """,
    re.DOTALL | re.IGNORECASE | re.VERBOSE,
)
"""Variables that steer launch scripts and the programs that run them on the gateway's machine.

Enterprise Gateway's launch scripts have the kernel's variables among their own.
"""


def accept_client_env(env: Mapping[str, object], client_envs: frozenset[str]) -> dict[str, str]:
    """Return the variables of a request that may reach the kernel.

    The others are ignored silently, as in Enterprise Gateway.

    Args:
        env: the client's variables.
        client_envs: names accepted besides `KERNEL_*`; `*` accepts all but those that steer how
            the kernel is launched, which must be named. Invalid variables that only `*` accepts,
            such as the functions that bash exports, are ignored, and the log names them.

    Raises:
        InvalidRequestError: another accepted variable has an invalid name or value, or all of
            them together are too large.
    """
    accepted: dict[str, str] = {}
    ignored: list[str] = []
    for name, value in env.items():
        if not _is_wanted(name, client_envs):
            continue
        fault = _fault(name, value)
        if fault is None and isinstance(value, str):
            accepted[name] = value
        elif _is_named(name, client_envs):
            raise InvalidRequestError(f"Environment variable {fault}")
        else:
            ignored.append(str(fault))
    if ignored:
        _log.warning("Ignored environment variables of a request: %s", "; ".join(ignored))
    if (
        sum(len(name) + len(value.encode()) for name, value in accepted.items())
        > MAX_ENVIRONMENT_BYTES
    ):
        raise InvalidRequestError(
            f"The environment variables exceed {MAX_ENVIRONMENT_BYTES} bytes altogether"
        )
    return accepted


def merge_environment(
    *,
    inherited: Mapping[str, str],
    spec: Mapping[str, str],
    client: Mapping[str, str],
    known: Mapping[str, str],
) -> dict[str, str]:
    """Return the kernel's variables: the client's win, then inherited ones, then kernel.json's.

    `$NAME` and `${NAME}` in kernel.json's values stand for the client's, inherited and known
    variables, in this order; others stay as they are, as in jupyter_client.

    Args:
        inherited: the variables that `inherited_envs` takes from the gateway's environment.
        spec: kernel.json's `env`.
        client: the request's variables.
        known: other variables that the kernel will have.
    """
    base = {**inherited, **client}
    values = {**known, **base}
    defaults = {name: Template(value).safe_substitute(values) for name, value in spec.items()}
    merged = {**defaults, **base}
    for name in (*_SECRETS, *_MEANINGLESS):
        merged.pop(name, None)
    return merged


def is_steering(name: str) -> bool:
    """Say whether a variable steers launch scripts, or the programs that run them."""
    return _STEERING.fullmatch(name) is not None


def changed_environment(
    env: Mapping[str, str], changes: Mapping[str, str | None]
) -> dict[str, str]:
    """Return an environment with some variables set, and those that are None unset."""
    changed = {**env, **changes}
    return {name: value for name, value in changed.items() if value is not None}


def recover_client_env(env: Mapping[str, str], client_envs: frozenset[str]) -> dict[str, str]:
    """Return the variables of a kernel's environment that its client may have sent.

    Kernel.json may have set some of them: `without_kernelspecs_own` leaves those out.
    """
    return {
        name: value
        for name, value in env.items()
        if _is_wanted(name, client_envs) and _fault(name, value) is None
    }


def recover_kernel_name(env: Mapping[str, str]) -> str:
    """Return the name of the kernelspec that a kernel was launched from, "" if it is not known.

    Args:
        env: its workload's environment, with `EG_AGENT_SETTINGS`.
    """
    try:
        return msgspec.json.decode(
            env.get("EG_AGENT_SETTINGS", "{}"), type=_AgentSettings
        ).kernel_name
    except UNREADABLE_JSON:
        return ""


class _AgentSettings(msgspec.Struct):
    kernel_name: str = ""


def _is_wanted(name: str, client_envs: frozenset[str]) -> bool:
    if name in _RESERVED or name.startswith(_RESERVED_PREFIX):
        return False
    if _is_named(name, client_envs):
        return True
    return "*" in client_envs and not is_steering(name)


def _is_named(name: str, client_envs: frozenset[str]) -> bool:
    return name.startswith("KERNEL_") or name in client_envs


def _fault(name: str, value: object) -> str | None:
    """Return why a variable is invalid, None if it is valid."""
    if not _NAME.fullmatch(name):
        return f"name {name[:100]!r} is not legal"
    if not isinstance(value, str):
        return f"'{name}' value must be a string"
    if len(value) > MAX_VALUE_CHARS:
        return f"'{name}' value exceeds maximum length"
    if not _PROHIBITED.isdisjoint(value):
        return f"'{name}' value contains prohibited characters"
    return None
