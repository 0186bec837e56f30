"""Classes that hold options under the names that Jupyter and Enterprise Gateway give them.

Operators write `c.MappingKernelManager.cull_idle_timeout = 3600` or
`--RemoteMappingKernelManager.cull_interval=60`. The classes here have the names and the inheritance
of jupyter_client, jupyter_server and Enterprise Gateway, and nothing but options: those of the
settings, which `HasOptions` adds, and those without effect.
"""

from traitlets import Unicode
from traitlets.config import LoggingConfigurable

from enterprise_gateway.app.options import HasOptions, ignored


class MultiKernelManager(LoggingConfigurable, metaclass=HasOptions):
    """Defaults of all kernels, as in jupyter_client."""

    default_kernel_name = Unicode(
        "", help="As `EnterpriseGatewayApp.default_kernel_name`, which counts if both are set."
    ).tag(config=True)
    kernel_manager_class = ignored("bring a process proxy of your own")
    shared_context = ignored("the gateway opens no ZMQ sockets")


class MappingKernelManager(MultiKernelManager):
    """Culling and message filters, as in jupyter_server."""

    buffer_offline_messages = ignored("output is always kept for clients that come back")
    untracked_message_types = ignored("the agent decides what counts as activity")
    transport_encryption = ignored("kernels' ZMQ sockets are on loopback only")
    root_dir = ignored("the gateway serves no files")


class AsyncMultiKernelManager(MultiKernelManager):
    """Options of the asynchronous manager of jupyter_client."""

    use_pending_kernels = ignored("a kernel that is being launched is told by its state")


class AsyncMappingKernelManager(MappingKernelManager, AsyncMultiKernelManager):
    """No options of its own; the name is accepted."""


class RemoteMappingKernelManager(AsyncMappingKernelManager):
    """The kernel manager of Enterprise Gateway."""


class ConnectionFileMixin(LoggingConfigurable, metaclass=HasOptions):
    """All options are ignored: the agent of a kernel chooses how it connects to it."""

    connection_file = ignored("the agent writes it")
    control_port = ignored("the agent chooses ports, see port_range")
    hb_port = ignored("the agent chooses ports, see port_range")
    iopub_port = ignored("the agent chooses ports, see port_range")
    shell_port = ignored("the agent chooses ports, see port_range")
    stdin_port = ignored("the agent chooses ports, see port_range")
    ip = ignored("kernels' ZMQ sockets are on loopback only")
    transport = ignored("the agent chooses the transport")


class KernelManager(ConnectionFileMixin):
    """Shutdown and restart of one kernel, as in jupyter_client."""

    cache_ports = ignored("the agent chooses ports, see port_range")
    client_class = ignored("the agent is the kernel's client")
    client_factory = ignored("the agent is the kernel's client")
    transport_encryption = ignored("kernels' ZMQ sockets are on loopback only")


class AsyncKernelManager(KernelManager):
    """No options of its own; the name is accepted."""


class AsyncIOLoopKernelManager(AsyncKernelManager):
    """No options of its own; the name is accepted."""

    restarter_class = ignored("not replaceable")


class RemoteKernelManager(AsyncIOLoopKernelManager):
    """The manager of one kernel in Enterprise Gateway."""


class KernelRestarter(LoggingConfigurable, metaclass=HasOptions):
    """Automatic restarts, as in jupyter_client."""

    time_to_dead = ignored("the death of a kernel is an event, nothing is polled")
    debug = ignored("use log_level")
    random_ports_until_alive = ignored("the agent chooses ports, see port_range")
    stable_start_time = ignored("a kernel that has answered once has started")


class IOLoopKernelRestarter(KernelRestarter):
    """No options of its own; the name is accepted."""


class AsyncIOLoopKernelRestarter(IOLoopKernelRestarter):
    """The restarter of asynchronous managers in jupyter_client."""


class KernelSpecManager(LoggingConfigurable, metaclass=HasOptions):
    """The kernelspecs that are offered, as in jupyter_client."""

    kernel_spec_class = ignored("not replaceable")


class KernelSpecCache(LoggingConfigurable, metaclass=HasOptions):
    """The cache of kernelspecs, as in Enterprise Gateway."""


class KernelSessionManager(LoggingConfigurable):
    """All options are ignored: the engine and the agents know the kernels, nothing is stored."""

    enable_persistence = ignored(
        "no kernel state is stored", env=("EG_KERNEL_SESSION_PERSISTENCE",)
    )
    persistence_root = ignored("no kernel state is stored", env=("EG_PERSISTENCE_ROOT",))


class FileKernelSessionManager(KernelSessionManager):
    """All options are ignored, as those of its parent."""


class WebhookKernelSessionManager(KernelSessionManager):
    """All options are ignored, as those of its parent."""

    webhook_url = ignored("no kernel state is stored", env=("EG_WEBHOOK_URL",))
    webhook_username = ignored("no kernel state is stored", env=("EG_WEBHOOK_USERNAME",))
    webhook_password = ignored("no kernel state is stored", env=("EG_WEBHOOK_PASSWORD",))
    auth_type = ignored("no kernel state is stored", env=("EG_AUTH_TYPE",))


CLASSES: tuple[type[LoggingConfigurable], ...] = (
    RemoteMappingKernelManager,
    RemoteKernelManager,
    AsyncIOLoopKernelRestarter,
    KernelSpecManager,
    KernelSpecCache,
    FileKernelSessionManager,
    WebhookKernelSessionManager,
)
"""The classes that no other inherits from: their options are all there are."""
