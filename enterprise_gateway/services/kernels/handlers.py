"""`/api/kernels`.

Shapes and status codes as in jupyter_server's services/kernels/handlers.py, with the `env` and
`kernel_id` of Enterprise Gateway.
"""

import functools

from aiohttp import web

from enterprise_gateway.services.kernels.kernels import Kernels
from enterprise_gateway.services.kernels.planning.launches import StartRequest, start_as
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
    ]


async def list_kernels(kernels: Kernels, live: LiveSettings, request: web.Request) -> web.Response:
    """Answer the models of all kernels, if the settings allow to list them."""
    del request
    check_listing(live)
    return json_response(await kernels.models())


async def start_kernel(kernels: Kernels, live: LiveSettings, request: web.Request) -> web.Response:
    """Start a kernel; answers when it is ready."""
    start = start_as(request[USER], await decode_body(request, StartRequest))
    model = await kernels.start_kernel(start, request[USER].groups)
    async with kernels.answering(model.id):
        location = f"{live.current.server.base_url}api/kernels/{model.id}"
        response = json_response(model, status=201, headers={"Location": location})
        return await write_response(request, response)


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
