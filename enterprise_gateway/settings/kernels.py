"""Settings of kernels: who may start which, their environment, timeouts, culling."""

from dataclasses import dataclass, field
from functools import partial

from enterprise_gateway.settings import parse
from enterprise_gateway.settings.limits import LimitSettings
from enterprise_gateway.settings.option import group, option
from enterprise_gateway.settings.resources import ResourceSettings
from enterprise_gateway.settings.values.schedule import (
    PoolSize,
    ScheduledSize,
    parse_schedule,
)

MAPPING_MANAGER = "MappingKernelManager"
KERNEL_MANAGER = "KernelManager"
RESTARTER = "KernelRestarter"
SPEC_MANAGER = "KernelSpecManager"
SPEC_CACHE = "KernelSpecCache"

_DEFAULT_CULL_INTERVAL_SECONDS = 300


@dataclass(frozen=True, slots=True)
class CullingSettings:
    """When idle kernels are culled; each kernel's agent does it."""

    cull_idle_timeout: int = option(
        "Seconds after which an idle kernel is culled; 0 or less: never.",
        default=0,
        parse=parse.at_least_zero,
        section=MAPPING_MANAGER,
        env=("EG_CULL_IDLE_TIMEOUT",),
    )
    """0: never."""
    cull_interval: int = option(
        "Seconds between checks for idle kernels, and so the delay with which one is culled at"
        " most; 0 or less: 300.",
        default=_DEFAULT_CULL_INTERVAL_SECONDS,
        parse=partial(parse.positive_or_default, _DEFAULT_CULL_INTERVAL_SECONDS),
        section=MAPPING_MANAGER,
        env=("EG_CULL_INTERVAL",),
    )
    cull_connected: bool = option(
        "Cull kernels with connected clients, too.",
        default=False,
        section=MAPPING_MANAGER,
        env=("EG_CULL_CONNECTED",),
    )
    cull_busy: bool = option(
        "Cull busy kernels, too.",
        default=False,
        section=MAPPING_MANAGER,
        env=("EG_CULL_BUSY",),
    )
    cull_gpu_idle_timeout: int = option(
        "Seconds after which a kernel is culled whose container has GPUs and uses none of them; 0"
        " or less: never.",
        default=0,
        parse=parse.at_least_zero,
        env=("EG_CULL_GPU_IDLE_TIMEOUT",),
    )
    """0: never."""


@dataclass(frozen=True, slots=True)
class AgeSettings:
    """The longest life of kernels that are started from now on; each kernel's agent ends it."""

    max_kernel_age: int = option(
        "Seconds after which a kernel is ended, also a busy one, counted from its start or from"
        " when a user took it from its pool; 0 or less: never.",
        default=0,
        parse=parse.at_least_zero,
        env=("EG_MAX_KERNEL_AGE",),
    )
    """0: never."""
    max_kernel_age_warning: int = option(
        "Seconds before that at which its clients are warned; 0 or less: they are not.",
        default=300,
        parse=parse.at_least_zero,
        env=("EG_MAX_KERNEL_AGE_WARNING",),
    )


@dataclass(frozen=True, slots=True)
class KernelSettings:
    """Who may start which kernels, and with what environment."""

    default_kernel_name: str = option(
        "Kernelspec of requests that name none. By default 'python_docker' if the engine and this"
        " kernelspec are there, else 'python3'.",
        default="",
        env=("EG_DEFAULT_KERNEL_NAME", "KG_DEFAULT_KERNEL_NAME"),
    )
    allowed_kernels: frozenset[str] = option(
        "The only kernelspecs that are listed and may be started. By default all; where the gateway"
        " knows users by other means than the shared token, all but those of local kernels.",
        default=(),
        takes=set[str],
        parse=parse.lower_name_set,
        name="allowed_kernelspecs",
        old_name="whitelist",
        section=SPEC_MANAGER,
        env=("EG_ALLOWED_KERNELS",),
        old_env=("EG_KERNEL_WHITELIST",),
    )
    """In lower case; empty: the default."""
    ensure_native_kernel: bool = option(
        "Offer the python3 kernel of the gateway's own Python environment.",
        default=True,
        section=SPEC_MANAGER,
    )
    max_kernels: int | None = option(
        "Largest number of kernels that may run at once. By default there is no limit.",
        default=None,
        takes=int | None,
        env=("EG_MAX_KERNELS", "KG_MAX_KERNELS"),
    )
    max_kernels_per_user: int = option(
        "Largest number of kernels that one user may have at once; -1: no limit.",
        default=-1,
        env=("EG_MAX_KERNELS_PER_USER",),
    )
    max_concurrent_launches: int = option(
        "Largest number of kernels that are launched at once; others wait for their turn, and their"
        " launch timeout begins with it. By default twice the number of CPUs that the gateway may"
        " use; 0: no limit.",
        default=None,
        takes=int | None,
        low=0,
        parse=parse.number_or_zero,
        default_text="twice the number of CPUs",
        env=("EG_MAX_CONCURRENT_LAUNCHES",),
    )
    """0: no limit."""
    max_queued_launches: int = option(
        "Largest number of kernels that wait for their turn to be launched; a start beyond it is"
        " answered 503 at once. 0: no limit.",
        default=200,
        low=0,
        parse=parse.number_or_zero,
        env=("EG_MAX_QUEUED_LAUNCHES",),
    )
    """0: no limit."""
    pool_sizes: tuple[tuple[str, PoolSize], ...] = option(
        "How many kernels are kept ready of each kernelspec, as NAME=COUNT, or NAME=pause to keep"
        " those that there are and launch none; for others pool_size in"
        " metadata.process_proxy.config counts.",
        default=(),
        takes=list[str],
        parse=parse.sizes_by_name,
        env=("EG_POOL_SIZES",),
    )
    pool_schedule: tuple[ScheduledSize, ...] = option(
        "How many kernels are kept ready at some hours, as 'mon-fri 07:00-19:00 NAME=COUNT' by the"
        " gateway's clock and time zone (TZ); the first that holds counts, before pool_sizes.",
        default=(),
        takes=list[str],
        parse=parse_schedule,
        env=("EG_POOL_SCHEDULE",),
    )
    pool_ttl: int = option(
        "Seconds after which a kernel that no user has taken from its pool is replaced.",
        default=12 * 3600,
        low=1,
        env=("EG_POOL_TTL",),
    )
    client_envs: frozenset[str] = option(
        "Names of environment variables, besides KERNEL_*, that clients may set for a kernel; '*'"
        " for all but those that steer how it is launched, such as PATH, HOME, *_PROXY, SSL_*,"
        " LD_*, PYTHON*, DOCKER_* and EG_*.",
        default=(),
        takes=list[str],
        parse=parse.name_set,
        old_name="env_whitelist",
        env=("EG_CLIENT_ENVS",),
        old_env=("EG_ENV_WHITELIST",),
    )
    inherited_envs: tuple[str, ...] = option(
        "Names of environment variables that kernels inherit from the gateway.",
        default=(),
        takes=list[str],
        parse=tuple,
        old_name="env_process_whitelist",
        env=("EG_INHERITED_ENVS",),
        old_env=("EG_ENV_PROCESS_WHITELIST",),
    )
    inherited_env: dict[str, str] = field(default_factory=dict, repr=False)
    """The variables that `inherited_envs` names, as far as the gateway has them."""
    account_env: dict[str, str] = field(default_factory=dict, repr=False)
    """Variables that local kernels, which run as the gateway's user, get besides; no secrets."""
    authorized_users: frozenset[str] = option(
        "The only values of KERNEL_USERNAME that may start kernels. By default all.",
        default=(),
        takes=set[str],
        parse=parse.name_set,
        env=("EG_AUTHORIZED_USERS",),
    )
    unauthorized_users: frozenset[str] = option(
        "Values of KERNEL_USERNAME that may not start kernels, even if in `authorized_users`.",
        default=("root",),
        takes=set[str],
        parse=parse.name_set,
        env=("EG_UNAUTHORIZED_USERS",),
    )
    default_username: str = option(
        "KERNEL_USERNAME of requests that have none. By default the name of the gateway's own user,"
        " or 'jovyan' if that is root.",
        default="",
        env=("EG_DEFAULT_USERNAME",),
    )
    prohibited_uids: frozenset[int] = option(
        "Values of KERNEL_UID that are refused.",
        default=(0,),
        takes=list[int],
        parse=frozenset,
        env=("EG_PROHIBITED_UIDS",),
    )
    prohibited_gids: frozenset[int] = option(
        "Values of KERNEL_GID that are refused.",
        default=(0,),
        takes=list[int],
        parse=frozenset,
        env=("EG_PROHIBITED_GIDS",),
    )
    allowed_uids: tuple[range, ...] = option(
        "The only values of KERNEL_UID that requests may name: numbers and ranges, such as"
        " '1000, 20000-29999'. By default all but the prohibited ones. Those of a kernelspec, of"
        " the file of tokens and the default 1000 are the operator's, and not asked about.",
        default=(),
        takes=list[str],
        parse=partial(parse.id_ranges, "allowed_uids"),
        env=("EG_ALLOWED_UIDS",),
    )
    allowed_gids: tuple[range, ...] = option(
        "The only values of KERNEL_GID that requests may name, in the same form; the default is"
        " 100.",
        default=(),
        takes=list[str],
        parse=partial(parse.id_ranges, "allowed_gids"),
        env=("EG_ALLOWED_GIDS",),
    )
    launch_timeout: float = option(
        "Seconds within which a kernel must be ready, unless the request sets"
        " KERNEL_LAUNCH_TIMEOUT.",
        default=30.0,
        low=0.1,
        name="kernel_launch_timeout",
        env=("EG_KERNEL_LAUNCH_TIMEOUT",),
    )
    kernel_info_timeout: float = option(
        "Seconds within which a kernel must answer its first kernel_info_request.",
        default=60.0,
        section=MAPPING_MANAGER,
        env=("EG_KERNEL_INFO_TIMEOUT",),
    )
    shutdown_wait_time: float = option(
        "Seconds that a kernel has to shut down before it is terminated.",
        default=5.0,
        low=0.0,
        section=KERNEL_MANAGER,
    )
    autorestart: bool = option(
        "Restart kernels that died by themselves.", default=True, section=KERNEL_MANAGER
    )
    restart_limit: int = option(
        "Number of consecutive automatic restarts after which a kernel is given up as dead.",
        default=5,
        low=0,
        section=RESTARTER,
    )
    restart_spare: bool = option(
        "Keep, for each kernel of ipykernel, a second process that has its imports done and takes"
        " over at a restart; it takes some 35 MiB. A kernelspec may set its own in"
        " metadata.process_proxy.config.",
        default=True,
        env=("EG_RESTART_SPARE",),
    )
    ws_ping_interval: float = option(
        "Seconds between WebSocket pings, or three quarters of the KERNEL_LAUNCH_TIMEOUT of the"
        " request that started the kernel if that is less: nbclient and papermill give up after so"
        " long without a sign of life. 0 disables pings, and cells of theirs that are silent for"
        " KERNEL_LAUNCH_TIMEOUT (40 s by default) then fail.",
        default=30,
        low=0,
        parse=float,
        env=("EG_WS_PING_INTERVAL_SECS",),
    )
    port_range: tuple[int, int] = option(
        "Range from which kernels take their ports, such as '33245..34245'; '0..0' for any free"
        " port. A kernelspec may set its own.",
        default="0..0",
        parse=parse.port_range,
        env=("EG_PORT_RANGE",),
    )
    min_port_range_size: int = option(
        "Smallest number of ports that a port range may have.",
        default=1000,
        low=0,
        env=("EG_MIN_PORT_RANGE_SIZE",),
    )
    max_port_range_retries: int = option(
        "Number of attempts of a kernel to find a free port in its range.",
        default=5,
        low=0,
        env=("EG_MAX_PORT_RANGE_RETRIES",),
    )
    impersonation_enabled: bool = option(
        "Passed to launch scripts as EG_IMPERSONATION_ENABLED.",
        default=False,
        env=("EG_IMPERSONATION_ENABLED",),
    )
    allowed_message_types: tuple[str, ...] = option(
        "The only types of messages that clients may send. By default all.",
        default=(),
        takes=list[str],
        parse=tuple,
        section=MAPPING_MANAGER,
    )
    allow_tracebacks: bool = option(
        "Send the tracebacks of errors to clients.", default=True, section=MAPPING_MANAGER
    )
    traceback_replacement_message: str = option(
        "Text that clients get in place of a traceback if `allow_tracebacks` is off.",
        default="An exception occurred at runtime, which is not shown due to security reasons.",
        section=MAPPING_MANAGER,
    )
    kernelspec_cache_enabled: bool = option(
        "Keep kernelspecs in memory; a file that has changed is read again.",
        default=True,
        name="cache_enabled",
        section=SPEC_CACHE,
        env=("EG_KERNELSPEC_CACHE_ENABLED",),
    )
    pause_idle_timeout: int = option(
        "Seconds after which the container of an idle kernel without clients is paused, until it is"
        " used again; 0 or less: never. Swarm services and local kernels are not paused.",
        default=0,
        parse=parse.at_least_zero,
        env=("EG_PAUSE_IDLE_TIMEOUT",),
    )
    """0: never."""
    culling: CullingSettings = group(CullingSettings)
    age: AgeSettings = group(AgeSettings)
    limits: LimitSettings = group(LimitSettings)
    resources: ResourceSettings = group(ResourceSettings)
