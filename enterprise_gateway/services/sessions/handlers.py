"""`/api/sessions`.

Shapes and status codes as in jupyter_server's services/sessions/handlers.py.
"""

import functools
from typing import Annotated

import msgspec
from aiohttp import web

from enterprise_gateway.errors import InvalidRequestError, LaunchError, NotFoundError
from enterprise_gateway.services.bodies import decode_body, json_response
from enterprise_gateway.services.kernels.handlers import check_listing
from enterprise_gateway.services.sessions.annotations import Session
from enterprise_gateway.services.sessions.sessions import SessionModel, Sessions, new_session_id
from enterprise_gateway.settings import LiveSettings

Text = Annotated[str, msgspec.Meta(max_length=4096)]


class KernelBody(msgspec.Struct):
    """Which kernel a session is to have; an id goes before a name."""

    id: str | None = None
    name: str | None = None


class NotebookBody(msgspec.Struct):
    """Where old clients put the path and name of a session."""

    path: Text | None = None
    name: Text | None = None


class SessionBody(msgspec.Struct):
    """The body of POST and PATCH."""

    path: Text | None = None
    name: Text | None = None
    type: Text | None = None
    kernel: KernelBody | None = None
    notebook: NotebookBody | None = None

    def __post_init__(self) -> None:
        """Understand the old form."""
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
    """Answer all sessions, if the settings allow to list them."""
    del request
    check_listing(live)
    return json_response(await sessions.models())


async def create_session(
    sessions: Sessions, live: LiveSettings, request: web.Request
) -> web.Response:
    """Create a session, starting a kernel if none is named; a path has one session at most."""
    body = await decode_body(request, SessionBody)
    if not body.path:
        raise InvalidRequestError("Missing field in JSON data: path")
    if not body.type:
        raise InvalidRequestError("Missing field in JSON data: type")
    kernel = body.kernel or KernelBody()
    draft = Session(new_session_id(), body.path, body.name or "", body.type)
    try:
        model = await sessions.create(draft, kernel_id=kernel.id, kernel_name=kernel.name)
    except NotFoundError:
        return _kernelspec_missing(kernel.name)
    location = f"{live.current.server.base_url}api/sessions/{model.id}"
    return json_response(model, status=201, headers={"Location": location})


async def get_session(sessions: Sessions, request: web.Request) -> web.Response:
    """Answer one session."""
    return json_response(await sessions.get(request.match_info["session_id"]))


async def patch_session(sessions: Sessions, request: web.Request) -> web.Response:
    """Rename a session, or give it another kernel."""
    body = await decode_body(request, SessionBody)
    session_id = request.match_info["session_id"]
    await sessions.get(session_id)

    def change(before: SessionModel) -> Session:
        return Session(
            id=before.id,
            path=body.path or before.path,
            name=before.name if body.name is None else body.name,
            type=body.type or before.type,
        )

    kernel = body.kernel or KernelBody()
    if kernel.id is not None and not await sessions.has_kernel(kernel.id):
        raise InvalidRequestError(f"No such kernel: {kernel.id}")
    try:
        model = await sessions.update(
            session_id, change, kernel_id=kernel.id, kernel_name=kernel.name
        )
    except NotFoundError:
        return _kernelspec_missing(kernel.name)
    except LaunchError as exc:
        return _not_started(
            f"The '{kernel.name}' kernel could not be started: {exc}",
            f"Error starting kernel {kernel.name}",
        )
    return json_response(model)


async def delete_session(sessions: Sessions, request: web.Request) -> web.Response:
    """End a session and its kernel; 410 if the kernel has gone meanwhile."""
    session = await sessions.get(request.match_info["session_id"])
    try:
        await sessions.delete(session.id)
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
    """Return the answer that front ends show in a dialogue: 501, as jupyter_server."""
    return json_response(
        {"reason": "Not Implemented", "message": message, "short_message": short_message},
        status=501,
    )
