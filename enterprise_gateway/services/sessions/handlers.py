"""`/api/sessions`.

Shapes and status codes as in jupyter_server's services/sessions/handlers.py.
"""

import functools

import msgspec
from aiohttp import web

from enterprise_gateway.errors import InvalidRequestError, LaunchError, NotFoundError
from enterprise_gateway.services.kernels.access.rights import Right
from enterprise_gateway.services.rest import (
    check_listing,
    decode_body,
    json_response,
    write_response,
)
from enterprise_gateway.services.sessions.annotations import Session, Text
from enterprise_gateway.services.sessions.sessions import SessionModel, Sessions, new_session_id
from enterprise_gateway.services.users import USER
from enterprise_gateway.settings import LiveSettings


class KernelBody(msgspec.Struct):
    """The kernel for a session. An id goes before a name."""

    id: str | None = None
    name: str | None = None


class NotebookBody(msgspec.Struct):
    """The place where old clients put the path and name of a session."""

    path: Text | None = None
    name: Text | None = None


class SessionBody(msgspec.Struct):
    """The body of POST and PATCH."""

    path: Text | None = None
    name: Text | msgspec.UnsetType | None = msgspec.UNSET
    type: Text | None = None
    kernel: KernelBody | None = None
    notebook: NotebookBody | None = None

    def __post_init__(self) -> None:
        """Convert the old form."""
        if self.notebook is not None:
            self.type = "notebook"
            self.path = self.path or self.notebook.path or self.notebook.name


def routes(sessions: Sessions, live: LiveSettings) -> list[web.RouteDef]:
    """Return the routes of this folder, relative to the base URL."""
    one = "/api/sessions/{session_id}"
    return [
        web.get("/api/sessions", functools.partial(list_sessions, sessions, live)),
        web.post("/api/sessions", functools.partial(create_session, sessions, live)),
        web.get(one, functools.partial(get_session, sessions)),
        web.patch(one, functools.partial(patch_session, sessions)),
        web.delete(one, functools.partial(delete_session, sessions)),
    ]


async def list_sessions(
    sessions: Sessions, live: LiveSettings, request: web.Request
) -> web.Response:
    """Answer the sessions of the user's kernels, if the settings allow to list them."""
    check_listing(live)
    return json_response(await sessions.models(request[USER]))


async def create_session(
    sessions: Sessions, live: LiveSettings, request: web.Request
) -> web.Response:
    """Create a session, and a kernel for it if none is named; a path has one session at most."""
    body = await decode_body(request, SessionBody)
    if not body.path:
        raise InvalidRequestError("Missing field in JSON data: path")
    if not body.type:
        raise InvalidRequestError("Missing field in JSON data: type")
    kernel = body.kernel or KernelBody()
    name = None if body.name is msgspec.UNSET else body.name
    draft = Session(new_session_id(), body.path, name, body.type)
    try:
        model = await sessions.create(
            draft, request[USER], kernel_id=kernel.id, kernel_name=kernel.name
        )
    except NotFoundError:
        return _kernelspec_missing(kernel.name)
    async with sessions.answering(model):
        location = f"{live.current.server.base_url}api/sessions/{model.id}"
        response = json_response(model, status=201, headers={"Location": location})
        return await write_response(request, response)


async def get_session(sessions: Sessions, request: web.Request) -> web.Response:
    """Answer one session."""
    return json_response(await sessions.get(request.match_info["session_id"], request[USER]))


async def patch_session(sessions: Sessions, request: web.Request) -> web.Response:
    """Rename a session, or give it another kernel."""
    body = await decode_body(request, SessionBody)
    session_id = request.match_info["session_id"]
    user = request[USER]
    await sessions.get(session_id, user, Right.WRITE)

    def change(before: SessionModel) -> Session:
        return Session(
            id=before.id,
            path=body.path or before.path,
            name=before.name if body.name is msgspec.UNSET else body.name,
            type=body.type or before.type,
        )

    kernel = body.kernel or KernelBody()
    if kernel.id is not None and not await sessions.has_kernel(kernel.id, user):
        raise InvalidRequestError(f"No such kernel: {kernel.id}")
    try:
        model = await sessions.update(
            session_id, change, user, kernel_id=kernel.id, kernel_name=kernel.name
        )
    except NotFoundError:
        return _kernelspec_missing(kernel.name)
    except LaunchError as exc:
        return _not_started(
            f"The '{kernel.name}' kernel could not be started: {exc}",
            f"Error starting kernel {kernel.name}",
        )
    async with sessions.answering(model):
        return await write_response(request, json_response(model))


async def delete_session(sessions: Sessions, request: web.Request) -> web.Response:
    """End a session and its kernel; 410 if the kernel has gone meanwhile."""
    user = request[USER]
    session = await sessions.get(request.match_info["session_id"], user, Right.WRITE)
    try:
        await sessions.delete(session.id, user)
    except NotFoundError:
        return json_response(
            {"reason": "Gone", "message": "Kernel deleted before session"}, status=410
        )
    return web.Response(status=204)


def _kernelspec_missing(name: str | None) -> web.Response:
    return _not_started(
        f"The '{name}' kernel is not available. Please pick another suitable kernel instead, or "
        "install that kernel.",
        f"{name} not found",
    )


def _not_started(message: str, short_message: str) -> web.Response:
    """Return the answer that front ends show in a dialogue: 501, as jupyter_server does."""
    return json_response(
        {"reason": "Not Implemented", "message": message, "short_message": short_message},
        status=501,
    )
