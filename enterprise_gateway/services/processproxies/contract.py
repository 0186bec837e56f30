"""The contract of process proxies, which launch, observe and remove the workloads of one kind.

A process proxy is the class that a kernelspec names in `metadata.process_proxy.class_name`. A
gateway has one object of each class, for all kernels. It knows nothing about HTTP, WebSockets or
kernel messages, and keeps no state that its engine does not have: another replica must be able to
take over. Its *engine* is the program or machine that it asks for workloads.

docs/writing-process-proxies.md leads through writing one.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

from enterprise_gateway.services.processproxies.resources import KernelResources, Usage
from enterprise_gateway.services.processproxies.steps import StepRecorder
from enterprise_gateway.settings import LiveSettings

POOL_USERNAME = "enterprise-gateway-pool"
"""Whose kernels those of pools are until a user takes them."""
ORDERLY_EXIT = "exit code 0"
"""The exit reason of a workload that ended because it was asked to.

A workload with exactly this reason has not died: its kernel is forgotten without an error.
"""


class WorkloadState(Enum):
    """The state of a workload. `STARTING` covers everything before running."""

    STARTING = "starting"
    RUNNING = "running"
    DEAD = "dead"
    GONE = "gone"
    """It was kept after its death and has been removed. Only `watch` yields this state.

    A process proxy that keeps no dead workloads has no use for it.
    """


@dataclass(frozen=True, slots=True)
class AgentEndpoint:
    """The address of a kernel agent: a host and port, or a unix socket."""

    host: str = ""
    port: int = 0
    unix_path: str = ""
    public_key: bytes = b""
    """DER of the `SubjectPublicKeyInfo` that it must prove to hold in TLS; b"": it speaks none."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One container or local process that hosts a kernel, as the engine describes it."""

    kernel_id: str
    name: str
    """`<KERNEL_USERNAME>-<kernel id>`, escaped; operators see it in `docker ps`."""
    username: str
    """The escaped user name, distinct for distinct users."""
    state: WorkloadState
    created: float
    """Seconds since the epoch, by the engine's clock; see `succeeds`."""
    endpoint: AgentEndpoint | None = None
    """None unless running."""
    exit_reason: str = ""
    """When dead: the reason as the engine knows it, such as "exit code 137 (out of memory)".

    `ORDERLY_EXIT` is no death. Of any other, if the agent has told no reason of its own, clients
    read this one after "the kernel's workload ended: ", and metrics take the cause from the first
    of these that the text contains (`services/kernels/registry/exits.py`):

    - "out of memory" or "memory limit": out of memory;
    - "exit code 143": stopped from outside;
    - "killed by ", or "exit code N" with N from 129 to 299: a signal;
    - "exit code N": an exit code;
    - "node " as a word: the node was lost;
    - "disappeared", or an empty text: the reason is not known.

    Any other text counts as another cause.
    """
    is_tombstone: bool = False
    """When dead: kept for some minutes, so that every replica can say why it died."""
    image: str = field(default="", compare=False)
    """The image of its container, as the launch script named it; "" if unknown."""
    node: str = field(default="", compare=False)
    """The host name of its Swarm node, "" if unknown or not in a swarm."""

    launch_id: str = ""
    """`LaunchRequest.launch_id`, if the workload carries it; its agent has that launch's token."""
    pool: str = ""
    """`LaunchRequest.pool`. A workload that was taken from its pool keeps it."""
    usage: Usage = field(default_factory=Usage, compare=False)
    """What it counts for in quotas, if the workload carries it: `LaunchRequest.resources.usage`."""
    is_paused: bool = False
    """While it is running: whether its processes are stopped until it is resumed."""

    @property
    def is_pooled(self) -> bool:
        """Whether the engine knows of no user who has taken it from its pool."""
        return bool(self.pool) and self.username == POOL_USERNAME

    def succeeds(self, other: "Workload") -> bool:
        """Return whether this workload was created after another one of the same kernel.

        Times in Docker's lists are whole seconds, so of two that were created less than a second
        apart neither succeeds the other, whatever the process proxy: replicas may take news of the
        second for late news of the first.
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
    """The kernelspec's argv, still with `{kernel_id}`, `{response_address}` and so on."""
    env: Mapping[str, str] = field(repr=False)
    """The kernel's environment, without the variables that the process proxy adds."""
    resource_dir: str
    """The kernelspec's folder: `{resource_dir}` in argv."""
    config: Mapping[str, object]
    """`metadata.process_proxy.config` of the kernelspec."""
    agent_settings: Mapping[str, object]
    """`EG_AGENT_SETTINGS` of the wire contract."""
    agent_token: str = field(repr=False)
    """The agent's token if its workload carries no `launch_id`."""
    timeout: float
    """Seconds from now until the kernel must be ready."""
    cwd: str = ""
    """The working directory that the client asked for, "" to leave it to the process proxy."""
    launch_id: str = ""
    """Unique to this launch of the kernel."""
    launch_token: str = field(default="", repr=False)
    """The agent's token if its workload carries `launch_id`; earlier agents had another one."""
    agent_certificate: str = field(default="", repr=False)
    """`EG_AGENT_CERTIFICATE` of the wire contract, "" for an agent that is to speak no TLS."""
    pool: str = ""
    """The pool that the kernel is for, "" if it is for a user."""
    resources: KernelResources = field(default_factory=KernelResources)
    """What the kernel may take. A process proxy that cannot limit it leaves it alone."""
    steps: StepRecorder = field(default_factory=StepRecorder, repr=False, compare=False)
    """Measures the start: `launch` begins the steps in it that it can tell apart."""

    @property
    def tokens(self) -> frozenset[str]:
        """The tokens with which the agent may report."""
        return frozenset({self.agent_token, self.launch_token} - {""})


@dataclass(frozen=True, slots=True)
class ImagePull:
    """How far the pull of an image has come."""

    image: str
    layers: int
    """How many there are; 0 until the registry has answered."""
    layers_done: int
    bytes: int
    """The size of the layers, as far as it is known. Only downloads count."""
    bytes_done: int
    bytes_per_second: int
    is_size_known: bool
    """Whether `bytes` counts all layers."""


PULLED_BY_NODES = "Node"


@dataclass(frozen=True, slots=True)
class KernelImage:
    """The image that kernels run in."""

    name: str
    is_present: bool
    """Whether the gateway's engine has it; other nodes of a swarm may differ."""
    pull_policy: str
    """`PULLED_BY_NODES` if the nodes of a swarm pull it by themselves."""
    image_id: str = ""
    """The engine's id of what the name stands for now, "" if it has none."""


class BaseProcessProxyABC(ABC):
    """Launches, observes and removes workloads of one kind.

    **Calls.** All methods may be called concurrently, and cancelled: a cancelled `launch` leaves
    nothing behind. Kernel ids come from clients: `observe`, `read_log` and `remove` must bear any
    string, which may be no id at all. Errors are those of `enterprise_gateway.errors`;
    `UnavailableError` means that the engine does not answer, and nothing may be concluded from it
    about any workload.

    **Cleaning up.** A workload that ends by itself is removed without a call of `remove`, with all
    its processes, even those that ignore the end of the agent. This also holds for one that ended
    while no gateway ran: the next gateway removes it. It may be kept for some minutes as a
    tombstone (`Workload.is_tombstone`), or for longer where the operator asks for that
    (`EG_REMOVE_CONTAINER=False`).

    **Secrets.** No token is in an argv, a log or an error.

    **Clusters.** All methods concern only workloads of gateways with the same cluster secret
    (`self.settings.current.cluster_id`): another cluster may use the same engine.
    """

    keeps_pools: ClassVar[bool] = False
    """Whether `assign` works, so that kernelspecs may have `pool_size`."""
    can_pause: ClassVar[bool] = False
    """Whether `pause` and `resume` work, so that `pause_idle_timeout` means something."""

    def __init__(self, settings: LiveSettings) -> None:
        """Store the settings; nothing is contacted yet."""
        self.settings = settings

    async def start(self) -> None:  # noqa: B027 - a hook: not every kind has something to acquire
        """Acquire connections.

        Called once: when the gateway starts or, for a class that a kernelspec names later, when it
        is first named. In the latter case other methods may be called before this one returns.
        """

    def expect_launches(self) -> None:  # noqa: B027 - as start
        """Begin, in the background, what makes later launches faster.

        Called when the gateway starts, for each kernelspec that names the class.
        """

    async def close(self) -> None:  # noqa: B027 - as start
        """Release connections and helper processes. Workloads continue."""

    @abstractmethod
    async def check(self) -> None:
        """Raise `UnavailableError` if the engine cannot be reached.

        Called by `/readyz` and `/metrics`.
        """

    async def prepare(self, request: LaunchRequest) -> None:  # noqa: B027 - a hook: not every kind needs it
        """Wait for what a launch needs and other launches must not wait for, such as an image.

        Called before `launch`, without a place among the launches that may run at once. It takes
        `request.timeout` seconds at most; what has been begun goes on, for the next request.

        Raises:
            PreparingError: it takes longer. The message says how far it has come.
            LaunchError, InvalidRequestError, ForbiddenError, ConfigurationError, UnavailableError:
                as `launch`.
        """

    def preparing(self, request: LaunchRequest) -> ImagePull | None:  # noqa: ARG002 - subclasses use it
        """Return the pull that `prepare` is waiting for, None if there is none."""
        return None

    async def pull_image(self, request: LaunchRequest) -> None:
        """Have the image that this kernel would run in pulled wherever it may run.

        Called in the background and by `images pull`, for no kernel in particular.

        Raises:
            LaunchError, ConfigurationError, UnavailableError: as `prepare`.
        """
        await self.prepare(request)

    async def find_image(self, request: LaunchRequest) -> KernelImage | None:  # noqa: ARG002 - as above
        """Return the image that this kernel would run in, None if it needs none."""
        return None

    @abstractmethod
    async def launch(self, request: LaunchRequest) -> Workload:
        """Launch a kernel and wait until its agent has reported that it is ready.

        Returns at the first of: the agent's report, the death of the workload, the failure of the
        launch command, the deadline. A dead workload of the same id is replaced.

        Raises:
            ConflictError: the id is in use, or another launch of it is under way; neither the
                kernel that has the id nor that launch is touched.
            LaunchError: the launch failed; the workload has been removed. The message includes the
                end of the output of the kernel or the launch command.
            LaunchTimeoutError: the deadline passed; the workload has been removed. The message says
                how far the launch had come, and names `KERNEL_LAUNCH_TIMEOUT`.
            InvalidRequestError, ForbiddenError: the request is refused; nothing was created.
            ConfigurationError: a setting or the kernelspec is wrong; nothing is left.
            UnavailableError: the engine does not answer.
        """

    async def assign(self, workload: Workload, username: str) -> Workload:
        """Give a workload of a pool to a user; return it with its new name and user.

        From then on it is no workload of a pool for any gateway.

        Raises:
            ConflictError: it is none now: another gateway was faster.
            NotFoundError: it is gone.
            UnavailableError: the engine does not answer; it may have been done.
        """
        raise NotImplementedError

    async def pause(self, workload: Workload) -> None:
        """Stop the processes of a workload, its agent among them. Pausing twice is no error.

        Raises:
            ConflictError: this one cannot be paused.
            NotFoundError: it is gone.
            UnavailableError: the engine does not answer; it may have been done.
        """
        raise NotImplementedError

    async def resume(self, workload: Workload) -> None:
        """Have the processes of a workload go on. No error if they are gone.

        Raises:
            UnavailableError: the engine does not answer, or they are not stopped; it may have been
                done.
        """
        raise NotImplementedError

    @abstractmethod
    async def observe(self, kernel_id: str) -> Workload | None:
        """Return the kernel's workload as the engine knows it now, or None. One engine call."""

    @abstractmethod
    async def list(self) -> list[Workload]:
        """Return every workload of this kind and this cluster, dead ones included.

        Below a method of this name, `list[...]` in a class body means the method: use an alias.
        """

    async def created(self, workload: Workload) -> float:
        """Return when a workload was created, in seconds since the epoch, as exactly as possible.

        Limits compare kernels that were created within a second of each other by it. To be
        overridden if `Workload.created` is rounded, as times in Docker's lists are.

        Raises:
            NotFoundError: it is gone.
        """
        return workload.created

    async def launched_with(self, workload: Workload) -> Mapping[str, str]:  # noqa: ARG002 - subclasses use it
        """Return the environment that the workload was launched with, {} if unknown.

        It is the only way in which a replica learns how another one, or an earlier gateway,
        launched a kernel: from the variables of `LaunchRequest.env` and `EG_AGENT_SETTINGS`, which
        has the kernelspec's name. After {} it does not ask again: it refuses to restart the kernel
        once its workload has died (409), and does not know the client's `KERNEL_LAUNCH_TIMEOUT`
        when it decides whether the kernel is an orphan. One engine call.

        Raises:
            UnavailableError: the engine does not answer; this is asked again.
        """
        return {}

    @abstractmethod
    def watch(self) -> AsyncIterator[Workload]:
        """Yield every workload of this cluster once, then each again whenever its state changes.

        This goes on for ever, and reconnects by itself after the engine was away. A workload that
        disappears is yielded with the state `DEAD`. One that was yielded as `DEAD` before, is kept
        and then removed by any replica or operator, is yielded with `GONE`, unless its kernel has
        another living workload by then. Without it the kernel stays `dead` for clients until five
        minutes have passed.
        """

    @abstractmethod
    async def read_log(self, kernel_id: str, max_bytes: int) -> str:
        """Return the tail of the workload's output, "" if there is none."""

    @abstractmethod
    async def remove(self, kernel_id: str) -> None:
        """Remove the workload by force. Removing one that is gone is no error."""

    async def remove_workload(self, workload: Workload) -> None:
        """Remove a workload by force, but not a later one of the same kernel id.

        To be overridden if the engine has ids of its own for workloads: the kernel may be launched
        again between the two calls that are made here.
        """
        present = await self.observe(workload.kernel_id)
        if present is not None and not present.succeeds(workload):
            await self.remove(workload.kernel_id)
