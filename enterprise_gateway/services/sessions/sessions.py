"""Jupyter sessions: a path tied to a kernel.

They live in the annotations of their kernels, so they are where the kernel's state is, and end with
the kernel.
"""

import asyncio
import contextlib
import functools
import uuid
import weakref
from collections.abc import Callable

import msgspec

from enterprise_gateway.errors import InvalidRequestError, NotFoundError
from enterprise_gateway.services.kernels.kernels import Kernels
from enterprise_gateway.services.kernels.launches import StartRequest
from enterprise_gateway.services.kernels.records import KernelModel
from enterprise_gateway.services.sessions.annotations import (
    Session,
    sessions_in,
    with_session,
    without_session,
)


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
            for kernel, annotations in await self._kernels.annotated()
            for session in sessions_in(annotations)
        ]

    async def get(self, session_id: str) -> SessionModel:
        """Return a session.

        Raises:
            NotFoundError: there is none of that id.
        """
        for model in await self.models():
            if model.id == session_id:
                return model
        raise NotFoundError(f"Session not found: session_id={session_id!r}")

    async def create(
        self, draft: Session, *, kernel_id: str | None, kernel_name: str | None
    ) -> SessionModel:
        """Create a session, or return the one that its path has.

        Args:
            draft: the session, but for its id.
            kernel_id: the kernel, if there is one already.
            kernel_name: the kernelspec to start a kernel of, if there is none.

        Raises:
            InvalidRequestError: there is no such kernel, and no kernelspec is named.
            NotFoundError: there is no such kernelspec.
            LaunchError: the kernel did not come up.
        """
        lock = self._locks.setdefault(draft.path, asyncio.Lock())
        async with lock:
            for model in await self.models():
                if model.path == draft.path:
                    return model
            if kernel_id is not None and await self.has_kernel(kernel_id):
                return await self._tie(draft, kernel_id)
            if kernel_id is not None and kernel_name is None:
                raise InvalidRequestError(f"No such kernel: {kernel_id}")
            return await self._tie_to_new_kernel(draft, kernel_name)

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
