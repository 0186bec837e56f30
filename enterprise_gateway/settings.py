"""The settings, as everything but `app.py` sees them: typed, frozen, complete.

`enterprise_gateway.app` is the only reader of environment, configuration files and command line; it
makes one `Settings` out of them and, when a configuration file changes, another. Durations are
seconds, sizes bytes. Names follow the options of EnterpriseGatewayApp.
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where and how the HTTP server listens. Read at start only."""

    ip: str = "127.0.0.1"
    port: int = 8888
    port_retries: int = 50
    base_url: str = "/"
    """Begins and ends with a slash."""
    certfile: str = ""
    keyfile: str = ""
    client_ca: str = ""
    """If set, clients must show a certificate signed by it."""
    ssl_version: int | None = None
    """`ssl.PROTOCOL_*` as EG takes it; None: what Python negotiates, at least TLS 1.2."""
    authorized_origin: str = ""
    """Host name that the client's certificate must carry."""
    trust_xheaders: bool = False
    max_body_bytes: int = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Who may talk to the gateway."""

    auth_token: str = field(default="", repr=False)
    """"" switches authentication off."""
    allow_credentials: str = ""
    allow_headers: str = ""
    allow_methods: str = ""
    allow_origin: str = ""
    expose_headers: str = ""
    max_age: str = ""
    authorizer_class: str = ""
    """Dotted name of a class like `jupyter_server.auth.Authorizer`.

    "": everybody who is authenticated may do everything.
    """
    list_kernels: bool = False
    """Whether `GET /api/kernels` and `GET /api/sessions` answer; 403 otherwise."""


@dataclass(frozen=True, slots=True)
class CullingSettings:
    """When an idle kernel's agent ends it."""

    cull_idle_timeout: int = 0
    """0: never."""
    cull_interval: int = 300
    cull_connected: bool = False
    cull_busy: bool = False


@dataclass(frozen=True, slots=True)
class KernelSettings:
    """Which kernels may be started by whom, with what environment."""

    default_kernel_name: str = ""
    """"": `python_docker` when the engine and that kernelspec are there, else `python3`."""
    allowed_kernels: frozenset[str] = frozenset()
    """Empty: all."""
    ensure_native_kernel: bool = True
    max_kernels: int | None = None
    max_kernels_per_user: int = -1
    """-1: no limit."""
    client_envs: frozenset[str] = frozenset()
    """Names besides `KERNEL_*` taken from the request; `*` for all."""
    inherited_env: dict[str, str] = field(default_factory=dict, repr=False)
    """Variables of the gateway's own environment that every kernel gets."""
    authorized_users: frozenset[str] = frozenset()
    unauthorized_users: frozenset[str] = frozenset({"root"})
    default_username: str = ""
    """`KERNEL_USERNAME` of requests that bring none."""
    prohibited_uids: frozenset[int] = frozenset({0})
    prohibited_gids: frozenset[int] = frozenset({0})
    launch_timeout: float = 30.0
    kernel_info_timeout: float = 60.0
    shutdown_wait_time: float = 5.0
    autorestart: bool = True
    restart_limit: int = 5
    ws_ping_interval: float = 30.0
    port_range: tuple[int, int] = (0, 0)
    min_port_range_size: int = 1000
    max_port_range_retries: int = 5
    impersonation_enabled: bool = False
    allowed_message_types: tuple[str, ...] = ()
    allow_tracebacks: bool = True
    traceback_replacement_message: str = (
        "An exception occurred at runtime, which is not shown due to security reasons."
    )
    kernelspec_cache_enabled: bool = True
    culling: CullingSettings = field(default_factory=CullingSettings)


@dataclass(frozen=True, slots=True)
class ResponseSettings:
    """Where kernel agents report that they are ready."""

    ip: str = ""
    """Address told to kernels; "": the one from which this host reaches the kernels' network."""
    port: int = 8877
    port_retries: int = 10
    addr_any: bool = False
    """Listen on all interfaces."""
    prohibited_local_ips: tuple[str, ...] = ()
    """Patterns of local addresses never to tell to kernels."""


@dataclass(frozen=True, slots=True)
class DockerSettings:
    """The Docker engine and what containers get."""

    host: str = ""
    """`DOCKER_HOST`; "": the engine's default socket."""
    tls_verify: bool = False
    cert_path: str = ""
    network: str = "bridge"
    kernel_image: str = ""
    """Image for kernelspecs and requests that name none."""
    companion_image: str = ""
    """Image of companions, with the kernel agent; "": the gateway's own of this version."""
    mirror_working_dirs: bool = False
    remove_container: bool = True
    launch_env: dict[str, str] = field(default_factory=dict, repr=False)
    """`DOCKER_*` and `EG_*` variables of the gateway that launch scripts understand."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All of them."""

    server: ServerSettings = field(default_factory=ServerSettings)
    access: AccessSettings = field(default_factory=AccessSettings)
    kernels: KernelSettings = field(default_factory=KernelSettings)
    response: ResponseSettings = field(default_factory=ResponseSettings)
    docker: DockerSettings = field(default_factory=DockerSettings)
    cluster_secret: bytes = field(default=b"", repr=False)
    """32 bytes shared by all replicas; agent tokens derive from it."""
    runtime_dir: Path = Path()
    """Sockets and records of local kernels; only the gateway's user may enter it."""

    @property
    def cluster_id(self) -> str:
        """Names the gateways that share the cluster secret, without telling anything of it.

        An engine may host the kernels of several such clusters; none touches those of another.
        """
        return hmac.new(self.cluster_secret, b"cluster id", hashlib.sha256).hexdigest()[:16]


class LiveSettings:
    """The settings in force now.

    Read `current` at each use: dynamic reload replaces it as a whole.
    """

    def __init__(self, settings: Settings) -> None:
        self._current = settings
        self._listeners: list[Callable[[Settings], None]] = []

    @property
    def current(self) -> Settings:
        """The settings in force."""
        return self._current

    def replace(self, settings: Settings) -> None:
        """Put new settings in force and tell everybody who asked to be told."""
        self._current = settings
        for listener in self._listeners:
            listener(settings)

    def subscribe(self, listener: Callable[[Settings], None]) -> None:
        """Call `listener` with the new settings after each replacement."""
        self._listeners.append(listener)
