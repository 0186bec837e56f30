"""Jupyter sessions: a path tied to a kernel.

They live in the annotations of their kernels, so they are where the kernel's state is, and end with
the kernel.
"""

import asyncio
import contextlib
import functools
import time
import uuid
import weakref
from collections.abc import Callable

import msgspec

from enterprise_gateway.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    UnavailableError,
)
from enterprise_gateway.services.kernels.kernels import Kernels
from enterprise_gateway.services.kernels.launches import StartRequest
from enterprise_gateway.services.kernels.records import KernelModel
from enterprise_gateway.services.sessions import claims
from enterprise_gateway.services.sessions.annotations import (
    Session,
    sessions_in,
    with_session,
    without_session,
)
from enterprise_gateway.services.sessions.claims import Verdict

LOOK_SECONDS = 0.05
"""Between two looks at what other gateway processes make of a path."""


class NotebookModel(msgspec.Struct, frozen=True):
    """What old clients look at in a session of type notebook."""

    path: str
    name: str


class SessionModel(msgspec.Struct, frozen=True):
    """A session as REST shows it, the model of jupyter_server's `/api/sessions`."""

    id: str
    path: str
    name: str
    type: str
    kernel: KernelModel
    notebook: NotebookModel | msgspec.UnsetType = msgspec.UNSET


class Sessions:
    """All sessions of all kernels."""

    def __init__(self, kernels: Kernels) -> None:
        self._kernels = kernels
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        """By path while a session is made, by id while one is changed or ended."""

    async def models(self) -> list[SessionModel]:
        """Return all sessions."""
        return [
            session_model(session, kernel)
            for kernel, session in await self._stored()
            if not session.claimed
        ]

    async def get(self, session_id: str) -> SessionModel:
        """Return a session as it is now, whichever gateway process made or changed it.

        Raises:
            NotFoundError: there is none of that id.
            UnavailableError: it is not known, and neither is whether there is one.
        """
        kernels = [
            kernel.id for kernel, session in await self._stored() if session.id == session_id
        ]
        for kernel_id in (*kernels[:1], None):
            await self._kernels.ask(kernel_id)
            for model in await self.models():
                if model.id == session_id:
                    return model
        raise NotFoundError(f"Session not found: session_id={session_id!r}")

    async def create(
        self, draft: Session, *, kernel_id: str | None, kernel_name: str | None
    ) -> SessionModel:
        """Create a session, or return the one that its path has, or gets at the same time.

        Args:
            draft: the session, but for its id.
            kernel_id: the kernel, if there is one already.
            kernel_name: the kernelspec to start a kernel of, if there is none.

        Raises:
            InvalidRequestError: there is no such kernel, and no kernelspec is named.
            NotFoundError: there is no such kernelspec.
            LaunchError: the kernel did not come up.
            UnavailableError: another gateway process began to make it, and did not come to an end.
        """
        lock = self._locks.setdefault(draft.path, asyncio.Lock())
        async with lock:
            for kernel, session in await self._stored(draft.path):
                if not session.claimed:
                    return session_model(session, kernel)
            if kernel_id is not None and await self.has_kernel(kernel_id):
                return await self._claim(draft, kernel_id)
            if kernel_id is not None and kernel_name is None:
                raise InvalidRequestError(f"No such kernel: {kernel_id}")
            return await self._claim_with_new_kernel(draft, kernel_name)

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
        *,
        kernel_id: str | None,
        kernel_name: str | None,
    ) -> SessionModel:
        """Change a session; changes of the same session are made one after the other.

        A kernel that it leaves is ended, unless another session uses it.

        Args:
            session_id: the session.
            change: makes the session as it shall be of the present one.
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
                model = await self._tie(changed, kernel_id)
            elif kernel_name is not None:
                model = await self._tie_to_new_kernel(changed, kernel_name)
            else:
                model = await self._tie(changed, before)
            if model.kernel.id != before:
                await self._leave(before, session_id)
        return model

    async def delete(self, session_id: str) -> None:
        """End a session, and its kernel; waits for a change of it that is under way.

        Raises:
            NotFoundError: it has gone meanwhile, or its kernel has.
        """
        async with self._locks.setdefault(session_id, asyncio.Lock()):
            await self._kernels.shutdown((await self.get(session_id)).kernel.id)

    async def _stored(self, path: str | None = None) -> list[tuple[KernelModel, Session]]:
        """Return what is stored, of all paths, or freshly of one: claims are among it."""
        return [
            (kernel, session)
            for kernel, annotations in await self._kernels.annotated(fresh=path is not None)
            for session in sessions_in(annotations)
            if path in {None, session.path}
        ]

    async def _claim(self, draft: Session, kernel_id: str) -> SessionModel:
        """Make a session of a path that other gateway processes may want at the same time."""
        claim = msgspec.structs.replace(draft, claimed=time.time())
        deadline = asyncio.get_running_loop().time() + claims.STALE_SECONDS
        await self._tie(claim, kernel_id)
        try:
            while True:
                now = time.time()
                others = [
                    (kernel, other)
                    for kernel, other in await self._stored(claim.path)
                    if other.id != claim.id and claims.counts(other, now)
                ]
                verdict = claims.judge(claim, [other for _, other in others])
                if verdict is not Verdict.WAIT or asyncio.get_running_loop().time() > deadline:
                    break
                await asyncio.sleep(LOOK_SECONDS)
            if verdict is not Verdict.WITHDRAW:
                return await self._tie(draft, kernel_id)
        except BaseException:
            await self._withdraw(claim, kernel_id)
            raise
        await self._withdraw(claim, kernel_id)
        return await self._settled(claim.path)

    async def _withdraw(self, claim: Session, kernel_id: str) -> None:
        change = functools.partial(without_session, claim.id)
        with contextlib.suppress(NotFoundError, ConflictError, UnavailableError):
            await self._kernels.annotate(kernel_id, change)

    async def _settled(self, path: str) -> SessionModel:
        """Return the session that another gateway process makes of a path."""
        while True:
            others = [
                (kernel, other)
                for kernel, other in await self._stored(path)
                if claims.counts(other, time.time())
            ]
            if not others:
                raise UnavailableError(f"No session was made for {path}", retry_after=1.0)
            for kernel, other in others:
                if not other.claimed:
                    return session_model(other, kernel)
            # Only the other gateway process could tell when it has come to an end.
            await asyncio.sleep(LOOK_SECONDS)

    async def _claim_with_new_kernel(self, draft: Session, kernel_name: str | None) -> SessionModel:
        kernel = await self._kernels.start_kernel(StartRequest(kernel_name))
        try:
            model = await self._claim(draft, kernel.id)
        except BaseException:
            await self._kernels.shutdown(kernel.id)  # goes on even if this is cancelled once more
            raise
        if model.kernel.id != kernel.id:
            with contextlib.suppress(NotFoundError):
                await self._kernels.shutdown(kernel.id)
        return model

    async def _tie(self, session: Session, kernel_id: str) -> SessionModel:
        kernel = await self._kernels.annotate(kernel_id, functools.partial(with_session, session))
        return session_model(session, kernel)

    async def _tie_to_new_kernel(self, session: Session, kernel_name: str | None) -> SessionModel:
        kernel = await self._kernels.start_kernel(StartRequest(kernel_name))
        try:
            return await self._tie(session, kernel.id)
        except BaseException:
            await self._kernels.shutdown(kernel.id)  # goes on even if this is cancelled once more
            raise

    async def _leave(self, kernel_id: str, session_id: str) -> None:
        others = [
            model
            for model in await self.models()
            if model.kernel.id == kernel_id and model.id != session_id
        ]
        with contextlib.suppress(NotFoundError):
            if others:
                change = functools.partial(without_session, session_id)
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
