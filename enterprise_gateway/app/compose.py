"""From options to `Settings`: the one place where option names meet setting names. Pure."""

from collections.abc import Mapping
from pathlib import Path

from enterprise_gateway.app.managers import (
    AsyncIOLoopKernelRestarter,
    KernelSpecCache,
    KernelSpecManager,
    RemoteKernelManager,
    RemoteMappingKernelManager,
)
from enterprise_gateway.app.traits import (
    AccessTraits,
    DockerTraits,
    KernelTraits,
    ResponseTraits,
    ServerTraits,
)
from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.settings import (
    AccessSettings,
    CullingSettings,
    DockerSettings,
    KernelSettings,
    ResponseSettings,
    ServerSettings,
)

_LAUNCH_VARIABLES = frozenset(
    {
        "DOCKER_API_VERSION",
        "DOCKER_CONTEXT",
        "DOCKER_CONFIG",
        "DOCKER_NETWORK",
        "DOCKER_MODE",
        "EG_LOG_LEVEL",
    }
)
"""Variables that launch scripts read, besides those that options set."""


def normalize_base_url(text: str) -> str:
    """Give a base URL exactly one slash at each end: `gateway` and `/gateway/` are the same."""
    inner = "/".join(part for part in text.split("/") if part)
    return f"/{inner}/" if inner else "/"


def parse_port_range(text: str) -> tuple[int, int]:
    """Parse `lo..hi`.

    Raises:
        ConfigurationError: It is not of that form.
    """
    low, separator, high = text.partition("..")
    if not (separator and low.strip().isdecimal() and high.strip().isdecimal()):
        raise ConfigurationError(f"port_range {text!r} is not of the form '33245..34245'.")
    return int(low), int(high)


def make_server_settings(traits: ServerTraits) -> ServerSettings:
    """Make the group `server`."""
    return ServerSettings(
        ip=traits.ip,
        port=traits.port,
        port_retries=traits.port_retries,
        base_url=normalize_base_url(traits.base_url),
        certfile=traits.certfile or "",
        keyfile=traits.keyfile or "",
        client_ca=traits.client_ca or "",
        ssl_version=traits.ssl_version,
        authorized_origin=traits.authorized_origin,
        trust_xheaders=traits.trust_xheaders,
        max_body_bytes=traits.max_body_bytes,
    )


def make_access_settings(traits: AccessTraits, auth_token: str) -> AccessSettings:
    """Make the group `access`.

    Args:
        traits: The options.
        auth_token: The token in force; derived if the options have none.
    """
    return AccessSettings(
        auth_token=auth_token,
        allow_credentials=traits.allow_credentials,
        allow_headers=traits.allow_headers,
        allow_methods=traits.allow_methods,
        allow_origin=traits.allow_origin,
        expose_headers=traits.expose_headers,
        max_age=traits.max_age,
        authorizer_class=traits.authorizer_class,
        list_kernels=traits.list_kernels,
    )


def make_kernel_settings(
    traits: KernelTraits,
    *,
    mapping: RemoteMappingKernelManager,
    manager: RemoteKernelManager,
    restarter: AsyncIOLoopKernelRestarter,
    specs: KernelSpecManager,
    cache: KernelSpecCache,
    environ: Mapping[str, str],
    own_username: str,
) -> KernelSettings:
    """Make the group `kernels`.

    Args:
        traits: The application's options.
        mapping: Those of the kernels as a whole.
        manager: Those of each kernel.
        restarter: Those of automatic restarts.
        specs: Those of kernelspecs.
        cache: Those of the kernelspec cache.
        environ: Where the values of `inherited_envs` come from.
        own_username: Who runs the gateway.

    Raises:
        ConfigurationError: `port_range` is malformed.
    """
    return KernelSettings(
        default_kernel_name=traits.default_kernel_name or mapping.default_kernel_name,
        allowed_kernels=frozenset(name.lower() for name in specs.allowed_kernelspecs),
        ensure_native_kernel=specs.ensure_native_kernel,
        max_kernels=traits.max_kernels,
        max_kernels_per_user=traits.max_kernels_per_user,
        client_envs=frozenset(filter(None, traits.client_envs)),
        inherited_env={name: environ[name] for name in traits.inherited_envs if name in environ},
        authorized_users=frozenset(filter(None, traits.authorized_users)),
        unauthorized_users=frozenset(filter(None, traits.unauthorized_users)),
        default_username=traits.default_username or _usable_name(own_username),
        prohibited_uids=frozenset(traits.prohibited_uids),
        prohibited_gids=frozenset(traits.prohibited_gids),
        launch_timeout=traits.kernel_launch_timeout,
        kernel_info_timeout=mapping.kernel_info_timeout,
        shutdown_wait_time=manager.shutdown_wait_time,
        autorestart=manager.autorestart,
        restart_limit=restarter.restart_limit,
        ws_ping_interval=float(traits.ws_ping_interval),
        port_range=parse_port_range(traits.port_range),
        min_port_range_size=traits.min_port_range_size,
        max_port_range_retries=traits.max_port_range_retries,
        impersonation_enabled=traits.impersonation_enabled,
        allowed_message_types=tuple(mapping.allowed_message_types),
        allow_tracebacks=mapping.allow_tracebacks,
        traceback_replacement_message=mapping.traceback_replacement_message,
        kernelspec_cache_enabled=cache.cache_enabled,
        culling=CullingSettings(
            cull_idle_timeout=max(0, mapping.cull_idle_timeout),
            cull_interval=mapping.cull_interval if mapping.cull_interval > 0 else 300,
            cull_connected=mapping.cull_connected,
            cull_busy=mapping.cull_busy,
        ),
    )


def make_response_settings(traits: ResponseTraits) -> ResponseSettings:
    """Make the group `response`."""
    return ResponseSettings(
        ip=traits.response_ip,
        port=traits.response_port,
        port_retries=traits.response_port_retries,
        addr_any=traits.response_addr_any,
        prohibited_local_ips=tuple(filter(None, traits.prohibited_local_ips)),
    )


def make_docker_settings(traits: DockerTraits, environ: Mapping[str, str]) -> DockerSettings:
    """Make the group `docker`; launch scripts get the options under the names that they read."""
    launch_env = {name: environ[name] for name in sorted(_LAUNCH_VARIABLES) if name in environ}
    launch_env["EG_DOCKER_NETWORK"] = traits.docker_network
    launch_env["EG_REMOVE_CONTAINER"] = str(traits.remove_container)
    if traits.docker_host:
        launch_env["DOCKER_HOST"] = traits.docker_host
    if traits.docker_tls_verify:
        launch_env["DOCKER_TLS_VERIFY"] = traits.docker_tls_verify
    if traits.docker_cert_path:
        launch_env["DOCKER_CERT_PATH"] = traits.docker_cert_path
    return DockerSettings(
        host=traits.docker_host,
        tls_verify=bool(traits.docker_tls_verify),
        cert_path=traits.docker_cert_path,
        network=traits.docker_network,
        kernel_image=traits.kernel_image,
        companion_image=traits.companion_image,
        mirror_working_dirs=traits.mirror_working_dirs,
        remove_container=traits.remove_container,
        launch_env=launch_env,
    )


def make_runtime_dir(jupyter_runtime_dir: str) -> Path:
    """Name the folder for sockets and records of local kernels."""
    return Path(jupyter_runtime_dir) / "enterprise_gateway"


def _usable_name(own_username: str) -> str:
    """Name the user of requests that name none; root may not start kernels, so not after root."""
    return "jovyan" if own_username in {"", "root"} else own_username
