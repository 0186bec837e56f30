"""From a request for a kernel to the launch request for its process proxy. Pure."""

import math
import secrets
import signal
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from enterprise_gateway.errors import ConfigurationError, ForbiddenError, InvalidRequestError
from enterprise_gateway.services.kernels.planning.agent_credentials import (
    derive_agent_token,
    derive_certificate,
    mark_launch,
)
from enterprise_gateway.services.kernels.planning.culling import (
    effective_age,
    effective_culling,
    effective_limits,
    times_of,
)
from enterprise_gateway.services.kernels.planning.environment import (
    accept_client_env,
    merge_environment,
)
from enterprise_gateway.services.kernels.planning.ids import ids_of
from enterprise_gateway.services.kernels.planning.resources import plan_resources
from enterprise_gateway.services.kernelspecs.access import Access, decide_access
from enterprise_gateway.services.kernelspecs.kernelspec import Kernelspec
from enterprise_gateway.services.processproxies.contract import POOL_USERNAME, LaunchRequest
from enterprise_gateway.services.processproxies.registry import LOCAL_PROCESS_PROXY
from enterprise_gateway.services.processproxies.sandbox.plan import expect_poolable
from enterprise_gateway.services.processproxies.workloads.names import escape_username
from enterprise_gateway.services.users import Account, User
from enterprise_gateway.settings import KernelSettings, Settings
from enterprise_gateway.settings.values.times import Times

MAX_LAUNCH_TIMEOUT_SECONDS = 3600.0
PING_FRACTION = 0.75
"""The part of a client's deadline after which it is pinged; the rest is for a slow network."""
_UNKNOWN = Account()


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A client's request for a kernel: the body of `POST /api/kernels`."""

    name: str | None = None
    """Name of the kernelspec; None: the default one."""
    kernel_id: str | None = None
    env: dict[str, Any] | None = field(default=None, repr=False)
    path: str | None = None
    """Where the client's notebook is, in a file system that is not the kernel's.

    It is accepted and not used.
    """

    @property
    def has_kernel_id(self) -> bool:
        """Whether the client has chosen the kernel's id."""
        return bool(self.kernel_id) or "KERNEL_ID" in (self.env or {})


def start_as(user: User, start: StartRequest) -> StartRequest:
    """Return a request for a kernel with the `KERNEL_USERNAME` that its user may have.

    The user that the gateway knows wins over what the request says, unless they act for the one
    that it names. What a client with the shared token says is believed.
    """
    if not user.is_named:
        return start
    env = start.env or {}
    wanted = env.get("KERNEL_USERNAME")
    name = user.name_for(wanted if isinstance(wanted, str) else None)
    return replace(start, env={**env, "KERNEL_USERNAME": name})


def plan_launch(
    start: StartRequest,
    spec: Kernelspec,
    all_settings: Settings,
    account: Account = _UNKNOWN,
) -> LaunchRequest:
    """Return the launch of a kernel of that kernelspec.

    Args:
        start: the client's request.
        spec: the kernelspec.
        all_settings: the settings.
        account: that of the kernel's user.

    Raises:
        InvalidRequestError: the client's environment or kernel id is malformed.
        ForbiddenError: the user may not use this kernelspec, or asks for more than they may have.
        ConfigurationError: the kernelspec is wrong.
    """
    launch = _plan(start, spec, all_settings, account)
    if escape_username(launch.username) == POOL_USERNAME:
        raise ForbiddenError(f"KERNEL_USERNAME must not be {POOL_USERNAME}, which is for pools.")
    _authorize(launch.username, spec, all_settings.kernels)
    return launch


def plan_pooled_launch(spec: Kernelspec, all_settings: Settings, ttl: float) -> LaunchRequest:
    """Return the launch of a kernel that waits for a user of that kernelspec.

    Args:
        spec: the kernelspec.
        all_settings: the settings.
        ttl: for how many seconds it waits.

    Raises:
        ConfigurationError: the kernelspec is wrong.
    """
    launch = _plan(
        StartRequest(spec.name, env={"KERNEL_USERNAME": POOL_USERNAME}), spec, all_settings
    )
    expect_poolable(launch)
    return replace(launch, agent_settings={**launch.agent_settings, "pool_ttl": ttl})


def without_kernelspecs_own(
    client_env: Mapping[str, str], kernel_id: str, spec: Kernelspec, settings: Settings
) -> dict[str, str]:
    """Return a client's variables without those that it need not have sent.

    The others have the value that the operator gives them: kernel.json's `env` or `inherited_envs`.
    A client's count more: a size that it asks for beats the `resources` of its kernelspec.

    Args:
        client_env: variables of a kernel that its client may have sent.
        kernel_id: the kernel.
        spec: its kernelspec.
        settings: the settings.
    """
    operators = spec.spec.env.keys() | settings.kernels.inherited_env.keys()
    sent = {name: value for name, value in client_env.items() if name not in operators}
    own = _environment(sent, kernel_id, spec, settings.kernels)
    return {
        name: value for name, value in client_env.items() if name in sent or own.get(name) != value
    }


def _environment(
    client: Mapping[str, str], kernel_id: str, spec: Kernelspec, settings: KernelSettings
) -> dict[str, str]:
    """Return the variables of a kernel."""
    own = {
        "KERNEL_GATEWAY": "1",
        "KERNEL_ID": kernel_id,
        "KERNEL_USERNAME": settings.default_username,
    }
    if spec.spec.language:  # without one the image's own counts
        own["KERNEL_LANGUAGE"] = spec.spec.language.lower()
    account = settings.account_env if spec.proxy_class == LOCAL_PROCESS_PROXY else {}
    env = merge_environment(
        inherited=settings.inherited_env,
        spec=spec.spec.env,
        client=client,
        known={**account, **own},
    )
    return {**own, **env, "KERNEL_ID": kernel_id, "KERNEL_GATEWAY": "1"}


def _plan(
    start: StartRequest,
    spec: Kernelspec,
    all_settings: Settings,
    account: Account = _UNKNOWN,
) -> LaunchRequest:
    settings = all_settings.kernels
    client = accept_client_env(start.env or {}, settings.client_envs)
    kernel_id = _kernel_id(start.kernel_id, client)
    env = _environment(client, kernel_id, spec, settings)
    username = env["KERNEL_USERNAME"]
    if spec.proxy_class != LOCAL_PROCESS_PROXY:
        env.update(ids_of(account))
    env["EG_IMPERSONATION_ENABLED"] = str(settings.impersonation_enabled)
    env["EG_MIN_PORT_RANGE_SIZE"] = str(settings.min_port_range_size)
    env["EG_MAX_PORT_RANGE_RETRIES"] = str(settings.max_port_range_retries)
    timeout = _launch_timeout(env, settings.launch_timeout)
    times = times_of(escape_username(username), account.groups, settings.resources)
    return LaunchRequest(
        kernel_id=kernel_id,
        kernel_name=spec.name,
        username=username,
        argv=tuple(spec.spec.argv),
        env=env,
        resource_dir=str(spec.resource_dir),
        config=spec.proxy_config,
        agent_settings={
            **_agent_settings(spec, settings, timeout, times),
            "report_timeout": all_settings.delays.agent_report_seconds,
            "ping_interval": _ping_interval(env, timeout, settings.ws_ping_interval),
        },
        agent_token=derive_agent_token(all_settings.cluster_secret, kernel_id),
        timeout=timeout,
        cwd=env.get("KERNEL_WORKING_DIR", ""),
        resources=plan_resources(
            spec,
            client,
            _environment({}, kernel_id, spec, settings),
            account.groups,
            settings.resources,
        ),
    )


def with_kernel_id(launch: LaunchRequest, kernel_id: str, cluster_secret: bytes) -> LaunchRequest:
    """Return the launch of a kernel that is like another one, but for its id."""
    return replace(
        launch,
        kernel_id=kernel_id,
        env={**launch.env, "KERNEL_ID": kernel_id},
        agent_token=derive_agent_token(cluster_secret, kernel_id),
    )


def distinguish_launch(
    launch: LaunchRequest, cluster_secret: bytes, *, is_encrypted: bool = False
) -> LaunchRequest:
    """Return a launch with an id and a token of its own, for a kernel that may be launched again.

    A stolen token of an agent is of no use once its kernel was launched again.

    Args:
        launch: the launch.
        cluster_secret: the secret that all replicas share.
        is_encrypted: whether the agent is to speak TLS, with a key of its own.
    """
    launch_id = secrets.token_hex(8)
    certificate = ""
    if is_encrypted:
        launch_id = mark_launch(launch_id)
        certificate = derive_certificate(cluster_secret, launch.kernel_id, launch_id)
    token = derive_agent_token(cluster_secret, launch.kernel_id, launch_id)
    return replace(launch, launch_id=launch_id, launch_token=token, agent_certificate=certificate)


def is_kernel_id(text: str) -> bool:
    """Say whether a text is a UUID in its canonical form."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _kernel_id(wanted: str | None, client: Mapping[str, str]) -> str:
    in_env = client.get("KERNEL_ID")
    if wanted and in_env and wanted != in_env:
        raise InvalidRequestError("kernel_id and KERNEL_ID name different kernels")
    kernel_id = wanted or in_env or str(uuid.uuid4())
    if not is_kernel_id(kernel_id):
        raise InvalidRequestError(
            f"The kernel id {kernel_id[:100]!r} is not a UUID in its canonical form"
        )
    return kernel_id


def _authorize(username: str, spec: Kernelspec, settings: KernelSettings) -> None:
    access = decide_access(username, spec.config, settings)
    if access is not Access.GRANTED:
        raise ForbiddenError(
            f"User '{username}' is {access.value} to start kernel '{spec.spec.display_name}'. "
            "Ensure KERNEL_USERNAME is set to an appropriate value and retry the request."
        )


def _launch_timeout(env: Mapping[str, str], default: float) -> float:
    text = env.get("KERNEL_LAUNCH_TIMEOUT")
    if text is None:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= MAX_LAUNCH_TIMEOUT_SECONDS:
        raise InvalidRequestError(
            "KERNEL_LAUNCH_TIMEOUT must be a number of seconds up to "
            f"{MAX_LAUNCH_TIMEOUT_SECONDS:.0f}"
        )
    return seconds


def _agent_settings(
    spec: Kernelspec, settings: KernelSettings, timeout: float, times: Times
) -> dict[str, object]:
    """Return `EG_AGENT_SETTINGS`, section 1 of the wire contract."""
    return {
        "kernel_name": spec.name,
        "language": spec.spec.language,
        "kernel_argv": list(spec.config.argv),
        "interrupt_mode": spec.spec.interrupt_mode,
        "interrupt_signal": _interrupt_signal(spec),
        "autorestart": settings.autorestart,
        "restart_limit": settings.restart_limit,
        "shutdown_wait_time": settings.shutdown_wait_time,
        "launch_timeout": min(timeout, settings.kernel_info_timeout),
        "claim_timeout": spec.config.claim_timeout,
        "allowed_message_types": list(settings.allowed_message_types),
        "allow_tracebacks": settings.allow_tracebacks,
        "traceback_replacement_message": settings.traceback_replacement_message,
        "restart_spare": _has_spare(settings, spec),
        "preload": list(spec.config.preload),
        **effective_culling(settings.culling, spec.spec.metadata, times),
        **effective_age(settings.age, spec.spec.metadata, times),
        **effective_limits(settings.limits, spec.spec.metadata),
    }


def _has_spare(settings: KernelSettings, spec: Kernelspec) -> bool:
    stated = spec.config.restart_spare
    return settings.restart_spare if stated is None else stated


def _ping_interval(env: Mapping[str, str], launch_timeout: float, interval: float) -> float:
    """Return the seconds between pings: so few that the client does not give up in between.

    The kernel client of jupyter_server waits for `KERNEL_LAUNCH_TIMEOUT` for any frame; its kernel
    manager sends the variable along (`gateway/managers.py`, `GatewayKernelClient.start_channels`).
    """
    if "KERNEL_LAUNCH_TIMEOUT" not in env:
        return interval
    return min(interval, PING_FRACTION * launch_timeout)


def _interrupt_signal(spec: Kernelspec) -> str:
    """Return the signal that interrupts: `EG_ALTERNATE_SIGINT` of kernel.json's env.

    It is a name or a number: most real-time signals have no name.
    """
    text = spec.spec.env.get("EG_ALTERNATE_SIGINT", "SIGINT")
    is_number = text.isdecimal() and int(text) in signal.valid_signals()
    if not is_number and text not in signal.Signals.__members__:
        raise ConfigurationError(
            f"EG_ALTERNATE_SIGINT of kernelspec {spec.name} is not a signal: {text!r}"
        )
    return text
