"""`/api/kernels`.

Shapes and status codes as in jupyter_server's services/kernels/handlers.py, with the `env` and
`kernel_id` of Enterprise Gateway.
"""

import functools

import msgspec
from aiohttp import web

from enterprise_gateway.errors import ForbiddenError
from enterprise_gateway.services.kernels.access.shares import Share, check_shares
from enterprise_gateway.services.kernels.kernels import Kernels
from enterprise_gateway.services.kernels.ownership import ACCESS
from enterprise_gateway.services.kernels.planning.launches import StartRequest
from enterprise_gateway.services.kernels.registry.models import with_access
from enterprise_gateway.services.request_scope import note_detail
from enterprise_gateway.services.rest import (
    check_listing,
    decode_body,
    json_response,
    write_response,
)
from enterprise_gateway.services.users import USER
from enterprise_gateway.settings import LiveSettings


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
        web.get(f"{one}/shares", functools.partial(get_shares, kernels)),
        web.put(f"{one}/shares", functools.partial(put_shares, kernels)),
    ]


async def list_kernels(kernels: Kernels, live: LiveSettings, request: web.Request) -> web.Response:
    """Answer the models of the user's kernels, if the settings allow to list them."""
    check_listing(live)
    return json_response(await kernels.models(request[USER]))


async def start_kernel(kernels: Kernels, live: LiveSettings, request: web.Request) -> web.Response:
    """Start a kernel; answers when it is ready."""
    start = await decode_body(request, StartRequest)
    if start.has_kernel_id and not request[USER].may_use_all:
        # whether that id is free would tell whether another user has such a kernel
        raise ForbiddenError(
            "Only admins and clients with the shared token may choose the id of a kernel: leave "
            "kernel_id and KERNEL_ID out, and take the id from the answer."
        )
    model = await kernels.start_kernel(start, request[USER])
    async with kernels.answering(model.id):
        location = f"{live.current.server.base_url}api/kernels/{model.id}"
        response = json_response(model, status=201, headers={"Location": location})
        return await write_response(request, response)


async def get_kernel(kernels: Kernels, request: web.Request) -> web.Response:
    """Answer the model of one kernel."""
    model = await kernels.get(request.match_info["kernel_id"])
    return json_response(with_access(model, request[ACCESS]))


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
    model = await kernels.restart(request.match_info["kernel_id"])
    return json_response(with_access(model, request[ACCESS]))


async def get_shares(kernels: Kernels, request: web.Request) -> web.Response:
    """Answer with whom a kernel is shared."""
    return json_response(await kernels.shares(request.match_info["kernel_id"]))


async def put_shares(kernels: Kernels, request: web.Request) -> web.Response:
    """Share a kernel with the users and groups in the body, and with no others."""
    shares = await decode_body(request, list[Share])
    check_shares(shares)
    note_detail("shares", msgspec.to_builtins(shares))
    return json_response(await kernels.share(request.match_info["kernel_id"], shares))
