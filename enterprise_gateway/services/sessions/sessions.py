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

import msgspec

from enterprise_gateway.errors import (
    ConflictError,
    NotFoundError,
    UnavailableError,
)
from enterprise_gateway.services.kernels.agents.state import Annotations
from enterprise_gateway.services.kernels.kernels import Kernels
from enterprise_gateway.services.kernels.planning.launches import StartRequest, start_as
from enterprise_gateway.services.kernels.registry.models import KernelModel
from enterprise_gateway.services.sessions import claims
from enterprise_gateway.services.sessions.annotations import (
    Session,
    SessionStore,
)
from enterprise_gateway.services.sessions.claims import Decision
from enterprise_gateway.services.users import User
from enterprise_gateway.settings import LiveSettings

_ADDRESSABLE = re.compile(r"\w+(-\w+){4}")
"""Kernel ids that URLs accept, as in jupyter_server's services/kernels/handlers.py."""

POLL_SECONDS = 0.05
"""The pause between two checks of the claims that other replicas have to a path."""


class NotebookModel(msgspec.Struct, frozen=True):
    """The part of a session of type notebook that old clients read."""

    path: str
    name: str | None


class SessionModel(msgspec.Struct, frozen=True):
    """A session as REST shows it, the model of jupyter_server's `/api/sessions`."""

    id: str
    path: str
    name: str | None
    type: str
    kernel: KernelModel
    notebook: NotebookModel | msgspec.UnsetType = msgspec.UNSET


class Sessions:
    """All sessions of all kernels."""

    def __init__(self, kernels: Kernels, live: LiveSettings) -> None:
        self._kernels = kernels
        self._live = live
        self._verified: weakref.WeakKeyDictionary[Annotations, list[Session]] = (
            weakref.WeakKeyDictionary()
        )
        """The valid sessions of annotations: they are authenticated once."""
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        """By path while a session is created, by id while one is changed or deleted."""

    async def models(self) -> list[SessionModel]:
        """Return all sessions."""
        return [
            session_model(session, kernel)
            for kernel, session in await self._stored(listed=True)
            if not session.claimed
        ]

    def answering(self, session: SessionModel) -> AbstractAsyncContextManager[None]:
        """Claim a session's kernel for the client whose answer is written in this context."""
        return self._kernels.answering(session.kernel.id)

    async def get(self, session_id: str) -> SessionModel:
        """Return a session as it is now, whichever replica created or changed it.

        Raises:
            NotFoundError: there is no such session.
            UnavailableError: it is not known, and a required engine does not answer.
        """
        kernels = [
            kernel.id for kernel, session in await self._stored() if session.id == session_id
        ]
        for kernel_id in (*kernels[:1], None):
            await self._kernels.refresh(kernel_id)
            for kernel, session in await self._stored():
                if session.id == session_id and not session.claimed:
                    self._kernels.claim(kernel.id)
                    return session_model(session, kernel)
        raise NotFoundError(f"Session not found: session_id={session_id!r}")

    async def create(
        self, draft: Session, user: User, *, kernel_id: str | None, kernel_name: str | None
    ) -> SessionModel:
        """Create a session, or return the one that its path has or gets at the same time.

        Args:
            draft: the session, but for its id.
            user: who asks for it, and gets the kernel.
            kernel_id: the kernel; if it does not exist, one is started under this id. An id that no
                URL accepts is ignored.
            kernel_name: the kernelspec to start a kernel of, None for the default one.

        Raises:
            InvalidRequestError: there is no such kernel, and its id is not a UUID.
            NotFoundError: there is no such kernelspec.
            LaunchError: the kernel did not come up.
            UnavailableError: another replica began to create it and did not finish.
        """
        lock = self._locks.setdefault(draft.path, asyncio.Lock())
        async with lock:
            for kernel, session in await self._stored(draft.path):
                if not session.claimed:
                    self._kernels.claim(kernel.id)
                    return session_model(session, kernel)
            if kernel_id is not None and await self.has_kernel(kernel_id):
                return await self._claim(draft, kernel_id)
            wanted = kernel_id if _ADDRESSABLE.fullmatch(kernel_id or "") else None
            start = start_as(user, StartRequest(kernel_name, wanted))
            return await self._claim_with_new_kernel(draft, start)

    async def has_kernel(self, kernel_id: str) -> bool:
        """Say whether there is such a kernel."""
        with contextlib.suppress(NotFoundError):
            await self._kernels.get(kernel_id)
            return True
        return False

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

        A kernel that it leaves is ended, unless another session uses it.

        Args:
            session_id: the session.
            change: makes the new session from the present one.
            user: who asks for it, and gets the kernel if another one is started.
            kernel_id: another kernel for it.
            kernel_name: the kernelspec to start another kernel of, if `kernel_id` is None.

        Raises:
            NotFoundError: there is no such session, or no such kernelspec.
            LaunchError: the other kernel did not come up; the session is as it was.
        """
        async with self._locks.setdefault(session_id, asyncio.Lock()):
            session = await self.get(session_id)
            before = session.kernel.id
            changed = change(session)
            if kernel_id is not None:
                model = await self._write(changed, kernel_id)
            elif kernel_name is not None:
                model = await self._write_with_new_kernel(
                    changed, start_as(user, StartRequest(kernel_name))
                )
            else:
                model = await self._write(changed, before)
            if model.kernel.id != before:
                await self._release_kernel(before, session_id)
        return model

    async def delete(self, session_id: str) -> None:
        """End a session and its kernel, after changes of the session that are under way.

        Raises:
            NotFoundError: it has gone meanwhile, or its kernel has.
        """
        async with self._locks.setdefault(session_id, asyncio.Lock()):
            await self._kernels.shutdown((await self.get(session_id)).kernel.id)

    async def _stored(
        self, path: str | None = None, *, listed: bool = False
    ) -> list[tuple[KernelModel, Session]]:
        """Return the stored sessions and claims with their kernels.

        Args:
            path: only those of this path, freshly read; None: all.
            listed: leave out those of kernels that no client knows yet.
        """
        annotated = await self._kernels.annotated(listed=listed, fresh=path is not None)
        return [
            (kernel, session)
            for kernel, annotations in annotated
            for session in self._sessions_in(annotations, kernel.id)
            if path in {None, session.path}
        ]

    def _sessions_in(self, annotations: Annotations, kernel_id: str) -> list[Session]:
        sessions = self._verified.get(annotations)
        if sessions is None:
            sessions = self._store(kernel_id).sessions_in(annotations.document)
            self._verified[annotations] = sessions
        return sessions

    def _store(self, kernel_id: str) -> SessionStore:
        return SessionStore(self._live.current.cluster_secret, kernel_id)

    async def _claim(self, draft: Session, kernel_id: str) -> SessionModel:
        """Create a session for a path that other replicas may want at the same time."""
        claim = msgspec.structs.replace(draft, claimed=time.time())
        deadline = asyncio.get_running_loop().time() + claims.STALE_SECONDS
        await self._write(claim, kernel_id)
        try:
            while True:
                now = time.time()
                others = [
                    (kernel, other)
                    for kernel, other in await self._stored(claim.path)
                    if other.id != claim.id and claims.holds_path(other, now)
                ]
                decision = claims.decide_claim(claim, [other for _, other in others])
                if decision is not Decision.WAIT or asyncio.get_running_loop().time() > deadline:
                    break
                await asyncio.sleep(POLL_SECONDS)
            if decision is not Decision.WITHDRAW:
                return await self._write(draft, kernel_id)
        except BaseException:
            await self._withdraw(claim, kernel_id)
            raise
        await self._withdraw(claim, kernel_id)
        return await self._await_other(claim.path)

    async def _withdraw(self, claim: Session, kernel_id: str) -> None:
        change = functools.partial(self._store(kernel_id).without_session, claim.id)
        with contextlib.suppress(NotFoundError, ConflictError, UnavailableError):
            await self._kernels.annotate(kernel_id, change)

    async def _await_other(self, path: str) -> SessionModel:
        """Wait for the session that another replica creates for a path, and return it."""
        while True:
            others = [
                (kernel, other)
                for kernel, other in await self._stored(path)
                if claims.holds_path(other, time.time())
            ]
            if not others:
                raise UnavailableError(
                    f"Another gateway gave up creating a session for {path}. Try again.",
                    retry_after=1.0,
                )
            for kernel, other in others:
                if not other.claimed:
                    self._kernels.claim(kernel.id)
                    return session_model(other, kernel)
            # Only the other replica knows when it has finished, and it does not tell.
            await asyncio.sleep(POLL_SECONDS)

    async def _claim_with_new_kernel(self, draft: Session, start: StartRequest) -> SessionModel:
        kernel = await self._kernels.start_kernel(start)
        try:
            model = await self._claim(draft, kernel.id)
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

    async def _write_with_new_kernel(self, session: Session, start: StartRequest) -> SessionModel:
        kernel = await self._kernels.start_kernel(start)
        try:
            return await self._write(session, kernel.id)
        except BaseException:
            await self._kernels.shutdown(kernel.id)  # goes on even if this is cancelled once more
            raise

    async def _release_kernel(self, kernel_id: str, session_id: str) -> None:
        others = [
            session
            for kernel, session in await self._stored()
            if kernel.id == kernel_id and session.id != session_id and not session.claimed
        ]
        with contextlib.suppress(NotFoundError):
            if others:
                change = functools.partial(self._store(kernel_id).without_session, session_id)
                await self._kernels.annotate(kernel_id, change)
            else:
                await self._kernels.shutdown(kernel_id)


def new_session_id() -> str:
    """Return the id for a new session."""
    return str(uuid.uuid4())


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
