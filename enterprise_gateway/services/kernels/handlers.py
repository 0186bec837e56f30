"""`/api/kernels`.

Shapes and status codes as in jupyter_server's services/kernels/handlers.py, with the `env` and
`kernel_id` of Enterprise Gateway.
"""

import functools
from typing import Any

import msgspec
from aiohttp import web

from enterprise_gateway.errors import ForbiddenError
from enterprise_gateway.services.bodies import decode_body, json_response
from enterprise_gateway.services.kernels.kernels import Kernels
from enterprise_gateway.services.kernels.launches import StartRequest
from enterprise_gateway.settings import LiveSettings


class StartBody(msgspec.Struct):
    """The body of `POST /api/kernels`."""

    name: str | None = None
    path: str | None = None
    """Where the client's notebook is, in a file system that is not the kernel's:
    accepted, not used.
    """
    kernel_id: str | None = None
    env: dict[str, Any] | None = None


def routes(kernels: Kernels, live: LiveSettings) -> list[web.RouteDef]:
    """Return the routes of this folder, relative to the base URL."""
    one = "/api/kernels/{kernel_id}"
    return [
        web.get("/api/kernels", functools.partial(list_kernels, kernels, live)),
        web.post("/api/kernels", functools.partial(start_kernel, kernels, live)),
        web.get(one, functools.partial(get_kernel, kernels)),
        web.delete(one, functools.partial(delete_kernel, kernels)),
        web.post(f"{one}/interrupt", functools.partial(interrupt_kernel, kernels)),
        web.post(f"{one}/restart", functools.partial(restart_kernel, kernels)),
    ]


async def list_kernels(kernels: Kernels, live: LiveSettings, request: web.Request) -> web.Response:
    """Answer the models of all kernels, if the settings allow to list them."""
    del request
    check_listing(live)
    return json_response(await kernels.models())


async def start_kernel(kernels: Kernels, live: LiveSettings, request: web.Request) -> web.Response:
    """Start a kernel; answers when it is ready."""
    body = await decode_body(request, StartBody)
    model = await kernels.start_kernel(StartRequest(body.name, body.kernel_id, body.env or {}))
    location = f"{live.current.server.base_url}api/kernels/{model.id}"
    return json_response(model, status=201, headers={"Location": location})


async def get_kernel(kernels: Kernels, request: web.Request) -> web.Response:
    """Answer the model of one kernel."""
    return json_response(await kernels.get(request.match_info["kernel_id"]))


async def delete_kernel(kernels: Kernels, request: web.Request) -> web.Response:
    """End a kernel; answers when it has ended."""
    await kernels.shutdown(request.match_info["kernel_id"])
    return web.Response(status=204)


async def interrupt_kernel(kernels: Kernels, request: web.Request) -> web.Response:
    """Interrupt a kernel. The body does not matter: some clients send none, some `{}`."""
    await kernels.interrupt(request.match_info["kernel_id"])
    return web.Response(status=204)


async def restart_kernel(kernels: Kernels, request: web.Request) -> web.Response:
    """Restart a kernel; answers when it is ready again. The body does not matter."""
    return json_response(await kernels.restart(request.match_info["kernel_id"]))


def check_listing(live: LiveSettings) -> None:
    """Refuse to list kernels and sessions unless `list_kernels` is set.

    Raises:
        ForbiddenError: it is not.
    """
    if not live.current.access.list_kernels:
        raise ForbiddenError("Forbidden")
