"""What a kernelspec says in `metadata.process_proxy.config`, checked. Pure."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, get_type_hints

import msgspec
from msgspec import Meta

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.settings.parse import PULL_POLICIES

MAX_POOL_SIZE = 1000
MAX_MODULES = 32
CLAIM_SECONDS = 60.0
"""How long a kernel that is ready waits for a client to claim it.

The gateway answers its client within moments, unless it dies, and the client then connects at once.
"""
_MAX_SHOWN_CHARS = 100

_Module = Annotated[str, Meta(pattern=r"\A[^\W\d]\w*(\.[^\W\d]\w*)*\Z", max_length=200)]
_PullPolicy = Annotated[str, Meta(pattern=rf"\A(?i:{'|'.join(PULL_POLICIES)})\Z")]
_Users = Annotated[
    str | tuple[str, ...], Meta(description="a string with commas or a list of strings")
]


_Text = Annotated[str, Meta(min_length=1, max_length=500)]


class Placement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """On which nodes of a swarm kernels may be, in the words of `docker service create`."""

    constraints: Annotated[tuple[_Text, ...], Meta(max_length=64)] = ()
    preferences: Annotated[tuple[_Text, ...], Meta(max_length=64)] | None = None


class ProxyConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that the gateway knows, each with what it must be; process proxies may read others.

    `port_range` is not here: what it must be depends on settings (`resolve_port_range`).

    None, `null` in JSON: the kernelspec says nothing.
    """

    argv: Annotated[
        tuple[str, ...],
        Meta(
            description="a list of strings, such as "
            '["python3", "-m", "ipykernel_launcher", "-f", "{connection_file}"]'
        ),
    ] = ()
    authorized_users: _Users = ()
    claim_timeout: Annotated[float, Meta(gt=0, lt=1e9, description="a number of seconds")] = (
        CLAIM_SECONDS
    )
    entrypoint: Annotated[
        Literal["image", "none"] | None, Meta(description='"image" or "none"')
    ] = None
    image_name: Annotated[str | None, Meta(description="the name of an image")] = None
    placement: Annotated[
        Placement,
        Meta(
            description="constraints and preferences, such as "
            '{"constraints": ["node.role == worker"], "preferences": ["node.labels.rack"]}'
        ),
    ] = Placement()
    pool_env: Annotated[
        tuple[str, ...],
        Meta(description='a list of names of variables, such as ["KERNEL_PROJECT", "MY_*"]'),
    ] = ()
    pool_process_env: Annotated[
        tuple[str, ...],
        Meta(description='a list of names of variables, such as ["KERNEL_LICENSE", "LIB_*"]'),
    ] = ()
    pool_size: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_POOL_SIZE)] | None,
        Meta(description=f"a number from 0 to {MAX_POOL_SIZE}"),
    ] = None
    preload: Annotated[
        tuple[_Module, ...],
        Meta(
            max_length=MAX_MODULES,
            description=f"a list of at most {MAX_MODULES} names of Python modules, such as "
            '["numpy", "matplotlib.pyplot"]',
        ),
    ] = ()
    pull_policy: Annotated[
        _PullPolicy | None, Meta(description=f"one of {', '.join(PULL_POLICIES)}")
    ] = None
    """In any case of its letters: `parse.pull_policy` returns the usual one."""
    resources: Annotated[
        dict[str, object],
        Meta(description='amounts by their names, such as {"cpus": 2, "memory": "4g"}'),
    ] = {}
    restart_spare: Annotated[bool | None, Meta(description="true or false")] = None
    size: Annotated[str | None, Meta(description="the name of a size")] = None
    sizes: Annotated[
        dict[str, dict[str, object]] | None,
        Meta(description='resources by names of sizes, such as {"small": {"memory": "2g"}}'),
    ] = None
    unauthorized_users: _Users = ()


_HINTS = get_type_hints(ProxyConfig, include_extras=True)


def read_config(config: Mapping[str, object], kernel_name: str) -> ProxyConfig:
    """Return a kernelspec's config.

    Args:
        config: `metadata.process_proxy.config`.
        kernel_name: the kernelspec's name, for the error.

    Raises:
        ConfigurationError: one of the keys that the gateway knows has another value than it must.
    """
    try:
        return msgspec.convert(config, ProxyConfig)
    except msgspec.ValidationError as exc:
        raise ConfigurationError(_explain(str(exc), config, kernel_name)) from exc


def _explain(error: str, config: Mapping[str, object], kernel_name: str) -> str:
    """Return what is wrong. The error of msgspec ends with the path to it: `at `$.preload[0]``."""
    found = re.search(r"`\$\.(\w+)", error)
    key = found[1] if found is not None else ""
    (meta,) = _HINTS[key].__metadata__
    return (
        f"{key} in metadata.process_proxy.config of kernelspec {kernel_name} must be "
        f"{meta.description}, but is {repr(config[key])[:_MAX_SHOWN_CHARS]}."
    )
