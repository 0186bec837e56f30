"""Option holders with the class names of Enterprise Gateway, jupyter_server and jupyter_client.

Operators write `c.MappingKernelManager.cull_idle_timeout = 3600` or
`--RemoteMappingKernelManager.cull_interval=60`. The classes here take
such options, in the same inheritance, and nothing else: the objects that do the work are elsewhere.
"""

from traitlets import Any, Bool, Float, Integer, List, Set, Unicode
from traitlets.config import LoggingConfigurable


class MultiKernelManager(LoggingConfigurable):
    """Defaults of all kernels, as jupyter_client has them."""

    default_kernel_name = Unicode(
        "", help="As EnterpriseGatewayApp.default_kernel_name, which wins."
    ).tag(config=True)
    kernel_manager_class = Any(help="Ignored: bring a process proxy of your own.").tag(
        config=True, ignored="bring a process proxy of your own"
    )
    shared_context = Any(help="Ignored: the gateway opens no ZMQ sockets.").tag(
        config=True, ignored="the gateway opens no ZMQ sockets"
    )


class MappingKernelManager(MultiKernelManager):
    """Culling and message filters, as jupyter_server has them."""

    cull_idle_timeout = Integer(
        0, help="Seconds after which an idle kernel is culled; 0 or less: never."
    ).tag(config=True, env=("EG_CULL_IDLE_TIMEOUT",))
    cull_interval = Integer(300, help="An idle kernel is culled at most so many seconds late.").tag(
        config=True, env=("EG_CULL_INTERVAL",)
    )
    cull_connected = Bool(
        default_value=False, help="Also cull kernels with clients connected."
    ).tag(config=True, env=("EG_CULL_CONNECTED",))
    cull_busy = Bool(default_value=False, help="Also cull busy kernels.").tag(
        config=True, env=("EG_CULL_BUSY",)
    )
    kernel_info_timeout = Float(
        60.0, help="Seconds within which a kernel must answer its first kernel_info_request."
    ).tag(config=True, env=("EG_KERNEL_INFO_TIMEOUT",))
    allowed_message_types = List(
        Unicode(), help="If not empty: the only message types that clients may send."
    ).tag(config=True)
    allow_tracebacks = Bool(default_value=True, help="Send tracebacks to clients.").tag(config=True)
    traceback_replacement_message = Unicode(
        "An exception occurred at runtime, which is not shown due to security reasons.",
        help="What clients get instead of a traceback.",
    ).tag(config=True)
    buffer_offline_messages = Any(help="Ignored: output is always kept for clients.").tag(
        config=True, ignored="output is always kept for clients that come back"
    )
    untracked_message_types = Any(help="Ignored: the agent decides.").tag(
        config=True, ignored="the agent decides what counts as activity"
    )
    transport_encryption = Any(help="Ignored: kernels' ZMQ stays on loopback.").tag(
        config=True, ignored="kernels' ZMQ sockets are on loopback only"
    )
    root_dir = Any(help="Ignored: the gateway serves no files.").tag(
        config=True, ignored="the gateway serves no files"
    )


class AsyncMappingKernelManager(MappingKernelManager):
    """A name between, so that options under it are taken."""


class RemoteMappingKernelManager(AsyncMappingKernelManager):
    """What Enterprise Gateway calls its kernel manager."""


class KernelManager(LoggingConfigurable):
    """How one kernel is kept, as jupyter_client has it."""

    autorestart = Bool(default_value=True, help="Restart a kernel that died by itself.").tag(
        config=True
    )
    shutdown_wait_time = Float(
        5.0, min=0.0, help="Seconds that a kernel has to end by itself before it is terminated."
    ).tag(config=True)


class AsyncKernelManager(KernelManager):
    """A name between, so that options under it are taken."""


class AsyncIOLoopKernelManager(AsyncKernelManager):
    """A name between, so that options under it are taken."""


class RemoteKernelManager(AsyncIOLoopKernelManager):
    """What Enterprise Gateway calls the manager of one kernel."""


class KernelRestarter(LoggingConfigurable):
    """How often a kernel is restarted, as jupyter_client has it."""

    restart_limit = Integer(
        5, min=0, help="Consecutive automatic restarts before a kernel is given up as dead."
    ).tag(config=True)
    time_to_dead = Any(help="Ignored: the death of a kernel is an event.").tag(
        config=True, ignored="the death of a kernel is an event, nothing is polled"
    )


class IOLoopKernelRestarter(KernelRestarter):
    """A name between, so that options under it are taken."""


class AsyncIOLoopKernelRestarter(IOLoopKernelRestarter):
    """What jupyter_client calls the restarter of asynchronous managers."""


class KernelSpecManager(LoggingConfigurable):
    """Which kernelspecs are offered, as jupyter_client has it."""

    allowed_kernelspecs = Set(
        Unicode(), help="If not empty: the only kernelspecs that are listed and may be started."
    ).tag(
        config=True,
        env=("EG_ALLOWED_KERNELS", "EG_KERNEL_WHITELIST"),
        deprecated_env=("EG_KERNEL_WHITELIST",),
    )
    whitelist = Set(Unicode(), help="Deprecated: use allowed_kernelspecs.").tag(
        config=True, renamed="allowed_kernelspecs"
    )
    ensure_native_kernel = Bool(
        default_value=True, help="Offer the python3 kernel of the gateway's own environment."
    ).tag(config=True)


class KernelSpecCache(LoggingConfigurable):
    """Whether kernelspecs are kept in memory, as Enterprise Gateway has it."""

    cache_enabled = Bool(
        default_value=True,
        help="Keep kernelspecs in memory; a file that has changed is read again.",
    ).tag(config=True, env=("EG_KERNELSPEC_CACHE_ENABLED",))


class KernelSessionManager(LoggingConfigurable):
    """Ignored as a whole: the engine and the agents know about kernels, so nothing is stored."""

    enable_persistence = Any(help="Ignored: no kernel state is stored.").tag(
        config=True, ignored="no kernel state is stored", env=("EG_KERNEL_SESSION_PERSISTENCE",)
    )
    persistence_root = Any(help="Ignored: no kernel state is stored.").tag(
        config=True, ignored="no kernel state is stored", env=("EG_PERSISTENCE_ROOT",)
    )


class FileKernelSessionManager(KernelSessionManager):
    """Ignored, as its parent."""


class WebhookKernelSessionManager(KernelSessionManager):
    """Ignored, as its parent."""

    webhook_url = Any(help="Ignored: no kernel state is stored.").tag(
        config=True, ignored="no kernel state is stored", env=("EG_WEBHOOK_URL",)
    )
    webhook_username = Any(help="Ignored: no kernel state is stored.").tag(
        config=True, ignored="no kernel state is stored", env=("EG_WEBHOOK_USERNAME",)
    )
    webhook_password = Any(help="Ignored: no kernel state is stored.").tag(
        config=True, ignored="no kernel state is stored", env=("EG_WEBHOOK_PASSWORD",)
    )
    auth_type = Any(help="Ignored: no kernel state is stored.").tag(
        config=True, ignored="no kernel state is stored", env=("EG_AUTH_TYPE",)
    )


CLASSES: tuple[type[LoggingConfigurable], ...] = (
    RemoteMappingKernelManager,
    RemoteKernelManager,
    AsyncIOLoopKernelRestarter,
    KernelSpecManager,
    KernelSpecCache,
    FileKernelSessionManager,
    WebhookKernelSessionManager,
)
"""The leaves of the inheritance: what the application reads."""
