"""Jupyter sessions: a path tied to a kernel.

They are stored in the annotations of their kernels, so they live and end with them.
"""

import asyncio
import contextlib
import functools
import re
import time
import uuid
import weakref
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

import msgspec

from enterprise_gateway.errors import (
    ConflictError,
    ForbiddenError,
    NotFoundError,
    UnavailableError,
)
from enterprise_gateway.services.kernels.access.rights import KernelAccess, Right
from enterprise_gateway.services.kernels.agents.state import Annotations
from enterprise_gateway.services.kernels.kernels import AnnotatedKernel, Kernels
from enterprise_gateway.services.kernels.ownership import NotTheirsError
from enterprise_gateway.services.kernels.planning.launches import StartRequest
from enterprise_gateway.services.kernels.registry.models import KernelModel
from enterprise_gateway.services.processproxies.workloads.names import escape_username
from enterprise_gateway.services.request_scope import note_hidden, set_kernel
from enterprise_gateway.services.sessions import claims
from enterprise_gateway.services.sessions.annotations import (
    Session,
    SessionStore,
)
from enterprise_gateway.services.sessions.claims import Decision
from enterprise_gateway.services.users import SHARED, User
from enterprise_gateway.settings import LiveSettings

_ADDRESSABLE = re.compile(r"\w+(-\w+){4}")
"""Kernel ids that URLs accept, as in jupyter_server's services/kernels/handlers.py."""

POLL_SECONDS = 0.05
"""The pause between two checks of the claims that other replicas have to a path."""


class NotebookModel(msgspec.Struct, frozen=True):
    """The part of a session of type notebook that old clients read."""

    path: str
    name: str | None


class _Place(NamedTuple):
    """Where a session is: a path has one for each user, among the kernels that a user may see."""

    path: str
    user: User
    owner: str | None
    """Whose it is, as in the names of workloads; None: any user's."""
    shared: str | None
    """The kernel that the user names and has by a share: who joins it joins its session, too."""

    def has(self, kernel: AnnotatedKernel, session: Session) -> bool:
        """Say whether a session of a kernel is there."""
        if session.path != self.path:
            return False
        return self.owner in {None, _owner(kernel, session)} or self.shared == kernel.model.id


class SessionModel(msgspec.Struct, frozen=True):
    """A session as REST shows it, the model of jupyter_server's `/api/sessions`."""

    id: str
    path: str
    name: str | None
    type: str
    kernel: KernelModel
    notebook: NotebookModel | msgspec.UnsetType = msgspec.UNSET


class Sessions:
    """All sessions of all kernels.

    A session belongs to the owner of its kernel, or to the one who made it by a share of the
    kernel, and a path has one session of each user. So those with whom a kernel is shared cannot
    have its owner open it at a path that the owner has not given it. A user of all kernels, as the
    holder of the shared token is, finds the paths of all users.
    """

    def __init__(self, kernels: Kernels, live: LiveSettings) -> None:
        self._kernels = kernels
        self._live = live
        self._verified: weakref.WeakKeyDictionary[Annotations, list[Session]] = (
            weakref.WeakKeyDictionary()
        )
        """The valid sessions of annotations: they are authenticated once."""
        self._locks: weakref.WeakValueDictionary[object, asyncio.Lock] = (
            weakref.WeakValueDictionary()
        )
        """By place while a session is created, by id while one is changed or deleted."""

    async def models(self, user: User) -> list[SessionModel]:
        """Return the sessions that are a user's.

        Front ends open a path with the listed session that has it. So those of others on kernels
        that are there by a share are left out.
        """
        return [
            session_model(session, kernel.model)
            for kernel, session in await self._all(user, listed=True)
            if not session.claimed and user.may_use(_owner(kernel, session))
        ]

    def answering(self, session: SessionModel) -> AbstractAsyncContextManager[None]:
        """Claim a session's kernel for the client whose answer is written in this context.

        The audit log names that kernel, whichever others were looked at.
        """
        owner = self._kernels.ownership.owner_of(session.kernel.id)
        set_kernel(session.kernel.id, owner or "")
        return self._kernels.answering(session.kernel.id)

    async def get(self, session_id: str, user: User, right: Right = Right.READ) -> SessionModel:
        """Return a session as it is now, whichever replica created or changed it.

        Args:
            session_id: the session.
            user: who asks.
            right: what they want to do with its kernel.

        Raises:
            NotFoundError: there is no such session that the user may see.
            ForbiddenError: the user may see its kernel, and no more.
            UnavailableError: it is not known, and a required engine does not answer.
        """
        kernel, session = await self._find(session_id, user, right)
        return session_model(session, kernel.model)

    async def _find(
        self, session_id: str, user: User, right: Right
    ) -> tuple[AnnotatedKernel, Session]:
        """Return a session as it is now, and its kernel; see `get`."""
        kernels = [
            kernel.model.id
            for kernel, session in await self._all(user, listed=False)
            if session.id == session_id
        ]
        for kernel_id in (*kernels[:1], None):
            await self._kernels.refresh(kernel_id)
            for kernel, session in await self._all(user, listed=False):
                if session.id == session_id and not session.claimed:
                    set_kernel(kernel.model.id, kernel.owner)
                    kernel.access.require(right)
                    self._kernels.claim(kernel.model.id)
                    return kernel, session
        raise NotFoundError(f"Session not found: session_id={session_id!r}")

    async def create(
        self, draft: Session, user: User, *, kernel_id: str | None, kernel_name: str | None
    ) -> SessionModel:
        """Create a session, or return the one that its path has or gets at the same time.

        Args:
            draft: the session, but for its id.
            user: who asks for it, and gets the kernel. The kernels of others are to them as if they
                were not there.
            kernel_id: the kernel; if it does not exist, one is started under this id. An id that no
                URL accepts is ignored, as is any that the user may not choose.
            kernel_name: the kernelspec to start a kernel of, None for the default one.

        Raises:
            InvalidRequestError: there is no such kernel, and its id is not a UUID.
            NotFoundError: there is no such kernelspec.
            ForbiddenError: the kernel is shared with the user read-only.
            LaunchError: the kernel did not come up.
            UnavailableError: another replica began to create it and did not finish.
        """
        access = None
        if kernel_id is not None:
            with contextlib.suppress(NotFoundError):
                access = await self._find_access(user, kernel_id)
        is_shared = access is not None and bool(access.grant)
        if is_shared:
            draft = msgspec.structs.replace(draft, user=escape_username(user.username))
        owner = draft.user or self._owner(user, access, kernel_id)
        place = _Place(draft.path, user, owner, kernel_id if is_shared else None)
        async with self._locks.setdefault((draft.path, place.owner), asyncio.Lock()):
            for kernel, session in await self._stored(place):
                if not session.claimed:
                    self._kernels.claim(kernel.model.id)
                    return session_model(session, kernel.model)
            if kernel_id is not None and access is not None:
                access.require(Right.WRITE)
                return await self._claim(draft, place, kernel_id)
            may_choose = user.may_use_all and _ADDRESSABLE.fullmatch(kernel_id or "")
            start = StartRequest(kernel_name, kernel_id if may_choose else None)
            return await self._claim_with_new_kernel(draft, place, start)

    async def has_kernel(self, kernel_id: str, user: User) -> bool:
        """Say whether there is such a kernel of a user's.

        The audit log tells if it is another user's.

        Raises:
            ForbiddenError: it is shared with the user read-only.
        """
        try:
            access = await self._find_access(user, kernel_id)
        except NotTheirsError as exc:
            note_hidden(exc.kernel_id, exc.owner)
            return False
        except NotFoundError:
            return False
        access.require(Right.WRITE)
        return True

    async def _find_access(self, user: User, kernel_id: str) -> KernelAccess:
        """Return a user's right to a kernel.

        Raises:
            NotFoundError: there is no such kernel.
            NotTheirsError: the user has no right to it.
        """
        access = await self._kernels.ownership.admit(user, kernel_id)
        await self._kernels.get(kernel_id)
        return access

    async def update(
        self,
        session_id: str,
        change: Callable[[SessionModel], Session],
        user: User,
        *,
        kernel_id: str | None,
        kernel_name: str | None,
    ) -> SessionModel:
        """Change a session; changes of the same session are made one after the other.

        A kernel that it leaves is ended, unless another session uses it, or it was there by a
        share.

        Args:
            session_id: the session.
            change: makes the new session from the present one.
            user: who asks for it, and gets the kernel if another one is started.
            kernel_id: another kernel for it, which the user may use.
            kernel_name: the kernelspec to start another kernel of, if `kernel_id` is None.

        Raises:
            NotFoundError: there is no such session, or no such kernelspec.
            ForbiddenError: it is another user's, and would get another path or kernel.
            LaunchError: the other kernel did not come up; the session is as it was.
        """
        async with self._locks.setdefault(session_id, asyncio.Lock()):
            kernel, session = await self._find(session_id, user, Right.WRITE)
            before = kernel.model.id
            changed = change(session_model(session, kernel.model))
            moves = kernel_name is not None if kernel_id is None else kernel_id != before
            if moves or changed.path != session.path:
                _check_may_move(user, _owner(kernel, session))
            if not moves:
                changed = msgspec.structs.replace(changed, user=session.user)
                model = await self._write(changed, before)
            elif kernel_id is not None:
                access = await self._kernels.ownership.admit(user, kernel_id)
                guest = escape_username(user.username) if access.grant else ""
                changed = msgspec.structs.replace(changed, user=guest)
                model = await self._write(changed, kernel_id)
            else:
                model = await self._write_with_new_kernel(changed, kernel_name, user)
            if model.kernel.id != before:
                await self._release_kernel(before, session)
        return model

    async def delete(self, session_id: str, user: User) -> None:
        """End a session and its kernel, after changes of the session that are under way.

        Raises:
            NotFoundError: it has gone meanwhile, or its kernel has.
        """
        async with self._locks.setdefault(session_id, asyncio.Lock()):
            session = await self.get(session_id, user, Right.WRITE)
            await self._kernels.shutdown(session.kernel.id)

    def _owner(self, user: User, access: KernelAccess | None, kernel_id: str | None) -> str | None:
        """Return whose a session will be that a user creates, None if that does not matter.

        Args:
            user: the user.
            access: their right to the kernel that they name; None: one will be started.
            kernel_id: that kernel.
        """
        if user.may_act_for_all:
            return None
        if access is None or kernel_id is None:
            return escape_username(user.username)
        return access.owner or self._kernels.ownership.owner_of(kernel_id)

    async def _stored(self, place: "_Place") -> list[tuple[AnnotatedKernel, Session]]:
        """Return the sessions and claims of a place, freshly read, with their kernels.

        Those of a kernel that the user has by a share, and names, come first.
        """
        annotated = await self._kernels.annotated(place.user, listed=False, fresh=True)
        found = [each for each in self._read(annotated) if place.has(*each)]
        return sorted(found, key=lambda each: each[0].model.id != place.shared)

    async def _all(self, user: User, *, listed: bool) -> list[tuple[AnnotatedKernel, Session]]:
        """Return the sessions and claims that a user may see, with their kernels.

        Args:
            user: the user.
            listed: leave out those of kernels that no client knows yet.
        """
        return self._read(await self._kernels.annotated(user, listed=listed))

    def _read(self, annotated: list[AnnotatedKernel]) -> list[tuple[AnnotatedKernel, Session]]:
        return [
            (kernel, session)
            for kernel in annotated
            for session in self._sessions_in(kernel.annotations, kernel.model.id)
        ]

    def _sessions_in(self, annotations: Annotations, kernel_id: str) -> list[Session]:
        sessions = self._verified.get(annotations)
        if sessions is None:
            sessions = self._store(kernel_id).sessions_in(annotations.document)
            self._verified[annotations] = sessions
        return sessions

    def _store(self, kernel_id: str) -> SessionStore:
        return SessionStore(self._live.current.cluster_secret, kernel_id)

    async def _claim(self, draft: Session, place: "_Place", kernel_id: str) -> SessionModel:
        """Create a session for a path that other replicas may want at the same time."""
        claim = msgspec.structs.replace(draft, claimed=time.time())
        deadline = asyncio.get_running_loop().time() + claims.STALE_SECONDS
        await self._write(claim, kernel_id)
        try:
            while True:
                now = time.time()
                others = [
                    other
                    for _, other in await self._stored(place)
                    if other.id != claim.id and claims.holds_path(other, now)
                ]
                decision = claims.decide_claim(claim, others)
                if decision is not Decision.WAIT or asyncio.get_running_loop().time() > deadline:
                    break
                await asyncio.sleep(POLL_SECONDS)
            if decision is not Decision.WITHDRAW:
                return await self._write(draft, kernel_id)
        except BaseException:
            await self._withdraw(claim, kernel_id)
            raise
        await self._withdraw(claim, kernel_id)
        return await self._await_other(place)

    async def _withdraw(self, claim: Session, kernel_id: str) -> None:
        change = functools.partial(self._store(kernel_id).without_session, claim.id)
        with contextlib.suppress(NotFoundError, ConflictError, UnavailableError):
            await self._kernels.annotate(kernel_id, change)

    async def _await_other(self, place: "_Place") -> SessionModel:
        """Wait for the session that another replica creates for a path, and return it."""
        while True:
            others = [
                (kernel, other)
                for kernel, other in await self._stored(place)
                if claims.holds_path(other, time.time())
            ]
            if not others:
                raise UnavailableError(
                    f"Another gateway gave up creating a session for {place.path}. Try again.",
                    retry_after=1.0,
                )
            for kernel, other in others:
                if not other.claimed:
                    self._kernels.claim(kernel.model.id)
                    return session_model(other, kernel.model)
            # Only the other replica knows when it has finished, and it does not tell.
            await asyncio.sleep(POLL_SECONDS)

    async def _claim_with_new_kernel(
        self, draft: Session, place: "_Place", start: StartRequest
    ) -> SessionModel:
        kernel = await self._kernels.start_kernel(start, place.user)
        try:
            model = await self._claim(draft, place, kernel.id)
        except BaseException:
            await self._kernels.shutdown(kernel.id)  # goes on even if this is cancelled once more
            raise
        if model.kernel.id != kernel.id:
            with contextlib.suppress(NotFoundError):
                await self._kernels.shutdown(kernel.id)
        return model

    async def _write(self, session: Session, kernel_id: str) -> SessionModel:
        change = functools.partial(self._store(kernel_id).with_session, session)
        kernel = await self._kernels.annotate(kernel_id, change)
        return session_model(session, kernel)

    async def _write_with_new_kernel(
        self, session: Session, kernel_name: str | None, user: User
    ) -> SessionModel:
        kernel = await self._kernels.start_kernel(StartRequest(kernel_name), user)
        try:
            return await self._write(session, kernel.id)
        except BaseException:
            await self._kernels.shutdown(kernel.id)  # goes on even if this is cancelled once more
            raise

    async def _release_kernel(self, kernel_id: str, left: Session) -> None:
        """End a kernel that a session has left, unless it is used, or another user's."""
        others = [
            session
            for kernel, session in await self._all(SHARED, listed=False)
            if kernel.model.id == kernel_id and session.id != left.id and not session.claimed
        ]
        with contextlib.suppress(NotFoundError):
            if others or left.user:
                change = functools.partial(self._store(kernel_id).without_session, left.id)
                await self._kernels.annotate(kernel_id, change)
            else:
                await self._kernels.shutdown(kernel_id)


def new_session_id() -> str:
    """Return the id for a new session."""
    return str(uuid.uuid4())


def _owner(kernel: AnnotatedKernel, session: Session) -> str:
    """Return whose a session is, as in the names of workloads."""
    return session.user or kernel.owner


def _check_may_move(user: User, owner: str) -> None:
    """Check that a user may give a session another path or kernel.

    Raises:
        ForbiddenError: It is another user's, who would open that path with it.
    """
    if not user.may_use(owner):
        raise ForbiddenError(
            "This session is another user's: only they can give it another path or kernel. Create "
            "a session of your own at that path."
        )


def session_model(session: Session, kernel: KernelModel) -> SessionModel:
    """Return the REST model of a session."""
    return SessionModel(
        id=session.id,
        path=session.path,
        name=session.name,
        type=session.type,
        kernel=kernel,
        notebook=NotebookModel(session.path, session.name)
        if session.type == "notebook"
        else msgspec.UNSET,
    )
