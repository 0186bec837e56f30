"""The contract of process proxies: what launches, observes and removes the workloads of one kind.

A process proxy is the class that a kernelspec names in `metadata.process_proxy.class_name`. There
is one object of a class in a gateway, whatever the number of kernels. It knows nothing of HTTP,
WebSockets or kernel messages, and it holds no state that the engine does not: another gateway
process must be able to go on where this one stopped.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from enterprise_gateway.settings import LiveSettings

ORDERLY_EXIT = "exit code 0"
"""The exit reason of a workload that ended because it was meant to."""


class WorkloadState(Enum):
    """What the engine says of a workload. `STARTING` covers everything before running."""

    STARTING = "starting"
    RUNNING = "running"
    DEAD = "dead"
    GONE = "gone"
    """It was kept after its death, and somebody has removed it. Only `watch` says so."""


@dataclass(frozen=True, slots=True)
class AgentEndpoint:
    """Where a kernel agent listens: a host and port, or a unix socket."""

    host: str = ""
    port: int = 0
    unix_path: str = ""


@dataclass(frozen=True, slots=True)
class Workload:
    """One container or local process that hosts a kernel, as the engine describes it."""

    kernel_id: str
    name: str
    """`<KERNEL_USERNAME>-<kernel id>`, escaped; what an operator sees in `docker ps`."""
    username: str
    """The escaped user name; equal for two workloads exactly if their users are the same."""
    state: WorkloadState
    created: float
    """Seconds since the epoch, by the engine's clock."""
    endpoint: AgentEndpoint | None = None
    """None unless running."""
    exit_reason: str = ""
    """When dead: what the engine knows of it, such as "exit code 137 (out of memory)"."""
    is_tombstone: bool = False
    """When dead: kept for some minutes, so that every gateway process can say why it died."""

    def succeeds(self, other: "Workload") -> bool:
        """Say whether this came after another workload of the same kernel.

        Engines know whole seconds.
        """
        return self.created - other.created >= 1.0


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """Everything a process proxy needs to launch one kernel."""

    kernel_id: str
    kernel_name: str
    """The kernelspec's name."""
    username: str
    argv: tuple[str, ...]
    """The kernelspec's argv with `{kernel_id}`, `{response_address}` and their like still in it."""
    env: Mapping[str, str] = field(repr=False)
    """The kernel's environment, complete but for what the process proxy itself adds."""
    resource_dir: str
    """The kernelspec's folder: `{resource_dir}` in argv."""
    config: Mapping[str, object]
    """`metadata.process_proxy.config` of the kernelspec."""
    agent_settings: Mapping[str, object]
    """`EG_AGENT_SETTINGS` of the wire contract."""
    agent_token: str = field(repr=False)
    timeout: float
    """Seconds from now until the kernel must be ready."""
    cwd: str = ""
    """Working directory that the client asked for; "" leaves it to the proxy."""


class BaseProcessProxyABC(ABC):
    """Launches, observes and removes workloads of one kind.

    All methods may be called concurrently, and cancelled: a cancelled `launch` leaves nothing
    behind. Errors are those of `enterprise_gateway.errors`; `UnavailableError` means that the
    engine does not answer, and nothing may be concluded from it about any workload.
    """

    def __init__(self, settings: LiveSettings) -> None:
        """Store the settings; nothing is contacted yet."""
        self.settings = settings

    async def start(self) -> None:  # noqa: B027 - a hook: not every kind has something to acquire
        """Acquire connections.

        Called once: when the gateway starts, or, for a class that a kernelspec names only later,
        when it is named; then other methods may be called while this one is under way.
        """

    async def close(self) -> None:  # noqa: B027 - as start
        """Release connections and helper processes. Workloads go on."""

    @abstractmethod
    async def check(self) -> None:
        """Raise `UnavailableError` if the engine cannot be reached. Called by `/readyz`."""

    @abstractmethod
    async def launch(self, request: LaunchRequest) -> Workload:
        """Launch a kernel and wait until its agent reported that it is ready.

        Returns at the first of: the agent's report, the death of the workload, the failure of the
        launch command, the deadline.

        Raises:
            LaunchError: with the cause; the workload is removed by then.
            LaunchTimeoutError: the deadline passed; likewise.
            InvalidRequestError, ForbiddenError: the request is refused; nothing was made.
        """

    @abstractmethod
    async def observe(self, kernel_id: str) -> Workload | None:
        """Return the kernel's workload as the engine has it now, or None. One engine call."""

    @abstractmethod
    async def list(self) -> list[Workload]:
        """Return every workload of this kind, dead ones included."""

    async def created(self, workload: Workload) -> float:
        """Return when a workload was created, as exactly as the engine knows.

        Docker's lists have whole seconds, which do not say which of two kernels was first.

        Raises:
            NotFoundError: it is gone.
        """
        return workload.created

    async def launched_with(self, workload: Workload) -> Mapping[str, str]:  # noqa: ARG002 - for those who know
        """Return the environment that the workload was launched with, {} if unknown.

        One engine call.
        """
        return {}

    @abstractmethod
    def watch(self) -> AsyncIterator[Workload]:
        """Yield every workload once, then each again whenever its state changes, for ever.

        A workload that disappeared is yielded with state `DEAD`; one that was kept after its death
        with `GONE`, if that ends what clients are told of it. Reconnects by itself when the engine
        went away.
        """

    @abstractmethod
    async def read_log(self, kernel_id: str, max_bytes: int) -> str:
        """Return the tail of what the workload printed, "" if nothing is known of it."""

    @abstractmethod
    async def remove(self, kernel_id: str) -> None:
        """Remove the workload by force. Removing what is gone is no error."""

    async def sweep(self, workload: Workload) -> None:
        """Remove a workload like `remove`, but none that came after it under the same kernel id."""
        present = await self.observe(workload.kernel_id)
        if present is not None and not present.succeeds(workload):
            await self.remove(workload.kernel_id)
