"""The environment of a kernel: what is taken from whom, and in which order. Pure.

Nothing of the gateway's own environment reaches a kernel but the variables that `inherited_envs`
names.
"""

import re
from collections.abc import Mapping
from string import Template

import msgspec

from enterprise_gateway.errors import InvalidRequestError

MAX_VALUE_CHARS = 4096
MAX_ENVIRONMENT_BYTES = 1024 * 1024
"""What a client may send in all.

The operating system takes 2 MiB for arguments and environment together.
"""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}", re.ASCII)
_PROHIBITED = frozenset("`\r\n\0")
"""Enterprise Gateway prohibits `$` too.

Nothing here expands a client's value, so it stays: passwords contain it.
"""

_SECRETS = ("EG_AUTH_TOKEN", "KG_AUTH_TOKEN", "EG_REMOTE_PWD")
_MEANINGLESS = ("LS_COLORS",)
_RESERVED = frozenset({"RESPONSE_ADDRESS", "PUBLIC_KEY", "PORT_RANGE"})
_RESERVED_PREFIX = "EG_AGENT_"
_STEERING = re.compile(
    r"PATH|LD_.*|PYTHON.*|BASH_ENV|ENV|DOCKER_.*|EG_.*|REMOVE_CONTAINER", re.DOTALL
)
"""What launch scripts, and the programs that run them on the gateway's machine, go by."""


def accept_client_env(env: Mapping[str, object], client_envs: frozenset[str]) -> dict[str, str]:
    """Return the variables of a request that may reach the kernel.

    The others are dropped without a word, as in Enterprise Gateway.

    Args:
        env: as the client sent it.
        client_envs: names accepted besides `KERNEL_*`; `*` accepts all but those that steer how
            the kernel is launched, which must be named.

    Raises:
        InvalidRequestError: one of those to return has an impossible name or a bad value, or they
            are too large in all.
    """
    accepted = {
        name: _checked(name, value) for name, value in env.items() if _is_wanted(name, client_envs)
    }
    if (
        sum(len(name) + len(value.encode()) for name, value in accepted.items())
        > MAX_ENVIRONMENT_BYTES
    ):
        raise InvalidRequestError(
            f"The environment variables exceed {MAX_ENVIRONMENT_BYTES} bytes altogether"
        )
    return accepted


def merge_environment(
    *, inherited: Mapping[str, str], spec: Mapping[str, str], client: Mapping[str, str]
) -> dict[str, str]:
    """Return the kernel's variables: the client's win, then inherited ones, then kernel.json's.

    `$NAME` and `${NAME}` in kernel.json's values stand for inherited and client's variables;
    unknown ones stay as they are.
    """
    base = {**inherited, **client}
    defaults = {name: Template(value).safe_substitute(base) for name, value in spec.items()}
    merged = {**defaults, **base}
    for name in (*_SECRETS, *_MEANINGLESS):
        merged.pop(name, None)
    return merged


def recover_client_env(env: Mapping[str, str], client_envs: frozenset[str]) -> dict[str, str]:
    """Return those variables of a kernel's own environment that a client may have sent for it.

    Kernel.json may have set them as well, and will again; what no client could have sent is its.
    """
    return {
        name: value
        for name, value in env.items()
        if _is_wanted(name, client_envs) and _fault(name, value) is None
    }


def recover_kernel_name(env: Mapping[str, str]) -> str:
    """Return the name of the kernelspec that a kernel was launched from, "" if that is not known.

    Args:
        env: its workload's environment, in which `EG_AGENT_SETTINGS` is.
    """
    try:
        return msgspec.json.decode(env.get("EG_AGENT_SETTINGS", "{}"), type=_Origin).kernel_name
    except msgspec.DecodeError:
        return ""


class _Origin(msgspec.Struct):
    kernel_name: str = ""


def _is_wanted(name: str, client_envs: frozenset[str]) -> bool:
    if name in _RESERVED or name.startswith(_RESERVED_PREFIX):
        return False
    if name.startswith("KERNEL_") or name in client_envs:
        return True
    return "*" in client_envs and not _STEERING.fullmatch(name)


def _checked(name: str, value: object) -> str:
    fault = _fault(name, value)
    if fault is not None or not isinstance(value, str):
        raise InvalidRequestError(f"Environment variable {fault}")
    return value


def _fault(name: str, value: object) -> str | None:
    """Return what is wrong with a variable, None if nothing is."""
    if not _NAME.fullmatch(name):
        return f"name {name[:100]!r} is not legal"
    if not isinstance(value, str):
        return f"'{name}' value must be a string"
    if len(value) > MAX_VALUE_CHARS:
        return f"'{name}' value exceeds maximum length"
    if not _PROHIBITED.isdisjoint(value):
        return f"'{name}' value contains prohibited characters"
    return None
