"""From a request for a kernel to what its process proxy needs to launch it. Pure."""

import math
import signal
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from enterprise_gateway.errors import ConfigurationError, ForbiddenError, InvalidRequestError
from enterprise_gateway.services.kernels.culling import effective_culling
from enterprise_gateway.services.kernels.environment import accept_client_env, merge_environment
from enterprise_gateway.services.kernels.tokens import derive_agent_token
from enterprise_gateway.services.kernelspecs.access import Access, decide_access
from enterprise_gateway.services.kernelspecs.kernelspec import Kernelspec
from enterprise_gateway.services.processproxies.contract import LaunchRequest
from enterprise_gateway.settings import KernelSettings

MAX_LAUNCH_TIMEOUT = 3600.0


@dataclass(frozen=True, slots=True)
class StartRequest:
    """What a client says of the kernel that it wants."""

    name: str | None = None
    """Name of the kernelspec; None: the default one."""
    kernel_id: str | None = None
    env: Mapping[str, object] = field(default_factory=dict, repr=False)


def plan_launch(
    start: StartRequest, spec: Kernelspec, settings: KernelSettings, cluster_secret: bytes
) -> LaunchRequest:
    """Return the launch of a kernel of that kernelspec.

    Raises:
        InvalidRequestError: the client's environment or kernel id is malformed.
        ForbiddenError: the user may not use this kernelspec.
        ConfigurationError: the kernelspec is wrong.
    """
    client = accept_client_env(start.env, settings.client_envs)
    kernel_id = _kernel_id(start.kernel_id, client)
    env = merge_environment(inherited=settings.inherited_env, spec=spec.spec.env, client=client)
    username = env.setdefault("KERNEL_USERNAME", settings.default_username)
    env.setdefault("KERNEL_LANGUAGE", spec.spec.language.lower())
    env["KERNEL_ID"] = kernel_id
    env["KERNEL_GATEWAY"] = "1"
    env["EG_IMPERSONATION_ENABLED"] = str(settings.impersonation_enabled)
    env["EG_MIN_PORT_RANGE_SIZE"] = str(settings.min_port_range_size)
    env["EG_MAX_PORT_RANGE_RETRIES"] = str(settings.max_port_range_retries)
    _authorize(username, spec, settings)
    timeout = _launch_timeout(env, settings.launch_timeout)
    return LaunchRequest(
        kernel_id=kernel_id,
        kernel_name=spec.name,
        username=username,
        argv=tuple(spec.spec.argv),
        env=env,
        resource_dir=str(spec.resource_dir),
        config=spec.proxy_config,
        agent_settings=_agent_settings(spec, settings, timeout),
        agent_token=derive_agent_token(cluster_secret, kernel_id),
        timeout=timeout,
        cwd=env.get("KERNEL_WORKING_DIR", ""),
    )


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
    access = decide_access(username, spec.proxy_config, settings)
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
    if not 0 < seconds <= MAX_LAUNCH_TIMEOUT:
        raise InvalidRequestError(
            f"KERNEL_LAUNCH_TIMEOUT must be a number of seconds up to {MAX_LAUNCH_TIMEOUT:.0f}"
        )
    return seconds


def _agent_settings(
    spec: Kernelspec, settings: KernelSettings, timeout: float
) -> dict[str, object]:
    """Return `EG_AGENT_SETTINGS`, section 1 of the wire contract."""
    return {
        "kernel_name": spec.name,
        "language": spec.spec.language,
        "kernel_argv": _kernel_argv(spec),
        "interrupt_mode": spec.spec.interrupt_mode,
        "interrupt_signal": _interrupt_signal(spec),
        "autorestart": settings.autorestart,
        "restart_limit": settings.restart_limit,
        "shutdown_wait_time": settings.shutdown_wait_time,
        "launch_timeout": min(timeout, settings.kernel_info_timeout),
        "ping_interval": settings.ws_ping_interval,
        "allowed_message_types": list(settings.allowed_message_types),
        "allow_tracebacks": settings.allow_tracebacks,
        "traceback_replacement_message": settings.traceback_replacement_message,
        **effective_culling(settings.culling, spec.spec.metadata),
    }


def _kernel_argv(spec: Kernelspec) -> list[str]:
    """Return the command of the kernel in its image, [] if that is for the image to know."""
    argv = spec.proxy_config.get("argv", [])
    if isinstance(argv, list) and all(isinstance(part, str) for part in argv):
        return argv
    raise ConfigurationError(
        f"argv in metadata.process_proxy.config of kernelspec {spec.name} must be a list of texts, "
        'such as ["python3", "-m", "ipykernel_launcher", "-f", "{connection_file}"].'
    )


def _interrupt_signal(spec: Kernelspec) -> str:
    """Return the signal that interrupts: `EG_ALTERNATE_SIGINT` of kernel.json's env.

    It is by name, or by number: most real-time signals have no name.
    """
    text = spec.spec.env.get("EG_ALTERNATE_SIGINT", "SIGINT")
    is_number = text.isdecimal() and int(text) in signal.valid_signals()
    if not is_number and text not in signal.Signals.__members__:
        raise ConfigurationError(
            f"EG_ALTERNATE_SIGINT of kernelspec {spec.name} is not a signal: {text!r}"
        )
    return text
