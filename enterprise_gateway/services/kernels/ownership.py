"""Whose kernels are whose: finds a user's right to a kernel, and keeps the shares of kernels.

A kernel's owner is the user in the name of its workload, which a gateway wrote, and never what its
agent says.
"""

import asyncio
import contextlib
import logging
import uuid
import weakref

from aiohttp import web

from enterprise_gateway.errors import GatewayError, NotFoundError, UnavailableError
from enterprise_gateway.services.kernels.access.rights import (
    ALL,
    KernelAccess,
    Right,
    decide_right,
)
from enterprise_gateway.services.kernels.access.shares import Grant, GrantStore
from enterprise_gateway.services.kernels.agents.agent import (
    ANSWER_SECONDS,
    Agent,
    RefusedError,
)
from enterprise_gateway.services.kernels.agents.state import Annotations
from enterprise_gateway.services.kernels.registry.records import Record
from enterprise_gateway.services.kernels.registry.registry import Registry
from enterprise_gateway.services.kernels.registry.reservations import Launching
from enterprise_gateway.services.processproxies.workloads.names import escape_username
from enterprise_gateway.services.tasks import BackgroundTasks
from enterprise_gateway.services.users import User
from enterprise_gateway.settings import LiveSettings

FIRST_STATE_SECONDS = 2.0
"""How long to wait for the shares of a kernel that has just been found."""
MAX_CREDENTIALS = 1000
"""In one request to an agent."""
MAX_REVOCATIONS_AT_ONCE = 64
"""Requests to agents that are asked for the first time; as many again are retried."""
FIRST_REVOKE_SECONDS = 1.0
"""How long an agent may take at first: those that are silent hold up the others for no longer."""
REVOKE_ATTEMPTS = 5
REVOKE_PAUSE_SECONDS = 0.5

ACCESS: web.RequestKey[KernelAccess] = web.RequestKey("kernel_access", KernelAccess)
"""The right of a request's user to the kernel in its path, set before the handler is called."""

_log = logging.getLogger(__name__)


class NotTheirsError(NotFoundError):
    """The kernel is another user's. The client is told what it is told of an unknown one.

    Attributes:
        kernel_id: the kernel.
        owner: its user as in the name of its workload.
    """

    def __init__(self, kernel_id: str, owner: str) -> None:
        super().__init__(f"Kernel does not exist: {kernel_id}")
        self.kernel_id = kernel_id
        self.owner = owner


class Ownership:
    """Knows the rights of users to kernels."""

    def __init__(self, live: LiveSettings, registry: Registry) -> None:
        self._live = live
        self._registry = registry
        self._tasks = BackgroundTasks()
        self._revoked: set[str] = set()
        self._first_revocations = asyncio.Semaphore(MAX_REVOCATIONS_AT_ONCE)
        self._retried_revocations = asyncio.Semaphore(MAX_REVOCATIONS_AT_ONCE)
        self._verified: weakref.WeakKeyDictionary[Annotations, tuple[Grant, ...]] = (
            weakref.WeakKeyDictionary()
        )
        """The valid shares of annotations: they are authenticated once."""

    async def close(self) -> None:
        """Stop telling agents of revocations."""
        await self._tasks.cancel()

    async def admit(self, user: User, kernel_id: str) -> KernelAccess:
        """Return a user's right to a kernel that they name.

        A kernel that is not theirs costs what an id costs that no kernel has: the engine is asked
        for one that it does not have.

        Raises:
            NotFoundError: There is no such kernel.
            NotTheirsError: The user has no right to it.
            UnavailableError: An engine that may have it does not answer, or it is not known with
                whom it is shared.
        """
        if user.may_use_all:
            return ALL
        access = await self._find_access(user, kernel_id)
        if access is None:
            raise NotFoundError(f"Kernel does not exist: {kernel_id}")
        if access.right is Right.NONE:
            # an engine may take longer to find a kernel than to find none
            await self._registry.lookup.locate(str(uuid.uuid4()))
            raise NotTheirsError(kernel_id, access.owner)
        return access

    def owner_of(self, kernel_id: str) -> str | None:
        """Return a kernel's user as in the name of its workload, None if it is not known here."""
        record = self._registry.get(kernel_id)
        return record.workload.username if record is not None else None

    def access_to(self, user: User, record: Record) -> KernelAccess:
        """Return a user's right to a kernel that this replica knows."""
        if user.may_use_all:
            return ALL
        return decide_right(user, record.workload.username, self.grants_of(record))

    def grants_of(self, record: Record) -> tuple[Grant, ...]:
        """Return the valid shares of a kernel, as far as its agent has told them."""
        if record.state is None:
            return ()
        annotations = record.state.annotations
        grants = self._verified.get(annotations)
        if grants is None:
            grants = self.store(record).grants_in(annotations.document)
            self._verified[annotations] = grants
        return grants

    def store(self, record: Record) -> GrantStore:
        """Return what reads and writes the shares of a kernel."""
        secret = self._live.current.cluster_secret
        return GrantStore(secret, record.kernel_id, record.workload.username)

    def revoke(self, credential: str) -> None:
        """Begin to close what was opened with a credential that is valid no more.

        Each replica may do so. The agents close the connections, whichever replica or load balancer
        they go through, and refuse those that are being opened.

        Args:
            credential: `User.credential`.
        """
        self._revoked.add(credential)
        # it begins when the caller has told all that one change has revoked
        self._tasks.begin_once(self._tell_agents, self._tell_agents)

    async def _find_access(self, user: User, kernel_id: str) -> KernelAccess | None:
        """Return a user's right to a kernel, None if there is no such kernel.

        Raises:
            UnavailableError: An engine does not answer, or the kernel is another user's and its
                agent has not told its shares. Clients forget a kernel that is said to be gone.
        """
        launching = self._registry.launches.get(kernel_id)
        if launching is not None:
            return self._access_to_launching(user, launching)
        try:
            record = await self._registry.find(kernel_id)
        except NotFoundError:
            return None
        if record.is_pooled:
            return KernelAccess(Right.NONE)
        access = self.access_to(user, record)
        if access.right is not Right.NONE or record.state is not None:
            return access
        if record.agent is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(record.is_known.wait(), FIRST_STATE_SECONDS)
        return self._access_by_share(user, record)

    def _access_to_launching(self, user: User, launching: Launching) -> KernelAccess:
        """Return a user's right to a kernel that is launched here, perhaps again."""
        owner = escape_username(launching.launch.username)
        access = decide_right(user, owner, ())
        former = self._registry.get(launching.launch.kernel_id)
        if access.right is Right.NONE and former is not None and former.workload.username == owner:
            return self._access_by_share(user, former)
        return access

    def _access_by_share(self, user: User, record: Record) -> KernelAccess:
        """Return the right of a user who is not a kernel's owner.

        Raises:
            UnavailableError: Its agent has not told its shares.
        """
        if record.state is None:
            raise UnavailableError(
                f"With whom kernel {record.kernel_id} is shared is not known: its agent does not "
                "answer. Try again.",
                retry_after=1.0,
            )
        return self.access_to(user, record)

    async def _tell_agents(self) -> None:
        revoked, self._revoked = sorted(self._revoked), set()
        for start in range(0, len(revoked), MAX_CREDENTIALS):
            part = revoked[start : start + MAX_CREDENTIALS]
            for record in self._registry:
                if record.agent is not None and not _has_nothing_open(record):
                    self._tasks.begin(self._revoke(record, record.agent, part))

    async def _revoke(self, record: Record, agent: Agent, credentials: list[str]) -> None:
        """Task root: tell an agent that credentials have been revoked.

        One that is known to be silent waits with those that are retried.
        """
        failure: GatewayError | None = None
        for attempt in range(REVOKE_ATTEMPTS):
            if agent.gone.done():
                return
            turn, seconds = self._retried_revocations, ANSWER_SECONDS
            if attempt == 0 and not agent.is_failing:
                turn, seconds = self._first_revocations, FIRST_REVOKE_SECONDS
            try:
                async with turn:
                    await self._registry.wake(record)
                    await agent.revoke(credentials, seconds)
            except RefusedError as exc:
                failure = exc
                break
            except GatewayError as exc:
                failure = exc
                await asyncio.sleep(REVOKE_PAUSE_SECONDS * 2**attempt)
            else:
                return
        _log.warning(
            "Kernel %s: WebSockets that a revoked credential opened may still be open: %s End the "
            "kernel to close them.",
            record.kernel_id,
            failure,
        )


def _has_nothing_open(record: Record) -> bool:
    """Say whether nothing can be revoked: a paused kernel, which gets no connections meanwhile."""
    return record.is_paused and record.state is not None and not record.state.has_connections
