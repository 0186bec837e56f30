"""`/api/kernels/<id>/execute` and `/api/kernels/<id>/executions`.

The agent answers these requests. The gateway finds it, and passes the client's request and the
agent's answer on: it reads neither bodies nor records.
"""

import asyncio
import logging
import time
from http import HTTPStatus
from urllib.parse import quote, urlencode

from aiohttp import web

from enterprise_gateway.errors import (
    GatewayError,
    InvalidRequestError,
    NotFoundError,
    UnavailableError,
)
from enterprise_gateway.services.kernels.access.rights import identify_client
from enterprise_gateway.services.kernels.agents.agent import Output
from enterprise_gateway.services.kernels.kernels import Kernels
from enterprise_gateway.services.kernels.ownership import ACCESS
from enterprise_gateway.services.users import USER
from enterprise_gateway.web.dead_kernels import DEATH_SECONDS, explain_death
from enterprise_gateway.web.errors import ErrorResponse
from enterprise_gateway.web.executions.ending import STREAM_TYPES, Ending

CLOSE_SECONDS = 1.0
"""How long a slow client may take to receive unsent data when the gateway stops."""

_TYPES = STREAM_TYPES | {"application/json"}
_FORWARDED = ("Accept", "Idempotency-Key", "Last-Event-ID")
_REFUSALS = frozenset({400, 403, 404, 405, 406, 409, 413, 422})
"""Statuses of an agent's that are about the client's request."""
_STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""The second has nginx pass each record on at once."""

_log = logging.getLogger(__name__)


class Executions:
    """The requests about executions that pass through this gateway."""

    def __init__(self, kernels: Kernels) -> None:
        self._kernels = kernels
        self._streams: dict[asyncio.Transport, asyncio.Future[None]] = {}
        self._is_closed = False

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of this module, relative to the base URL."""
        kernel = "/api/kernels/{kernel_id}"
        one = f"{kernel}/executions/{{msg_id}}"
        return [
            web.post(f"{kernel}/execute", self._execute),
            web.get(f"{kernel}/executions", self._list, allow_head=False),
            web.get(one, self._follow, allow_head=False),
            web.post(f"{one}/input", self._answer_prompt),
        ]

    async def close(self) -> None:
        """Cut every stream, so that clients continue it through the next gateway.

        Later ones are refused.
        """
        self._is_closed = True
        streams = dict(self._streams)
        for transport in streams:
            transport.close()
        if streams:
            await asyncio.wait(streams.values(), timeout=CLOSE_SECONDS)
        for transport in streams:
            transport.abort()

    async def _execute(self, request: web.Request) -> web.StreamResponse:
        """Execute code, and stream the messages of the kernel."""
        return await self._pass(request, "/v1/execute")

    async def _list(self, request: web.Request) -> web.StreamResponse:
        """List the executions that the kernel's agent remembers."""
        return await self._pass(request, "/v1/executions")

    async def _follow(self, request: web.Request) -> web.StreamResponse:
        """Stream an execution from a record on."""
        after = request.query.get("after")
        query = "" if after is None else f"?{urlencode({'after': after})}"
        return await self._pass(request, f"{_path(request)}{query}")

    async def _answer_prompt(self, request: web.Request) -> web.StreamResponse:
        """Answer the prompt of an execution."""
        return await self._pass(request, f"{_path(request)}/input")

    async def _pass(self, request: web.Request, path: str) -> web.StreamResponse:
        if self._is_closed:
            raise UnavailableError("This gateway is shutting down", retry_after=1.0)
        body = await request.read()  # it may take longer than a kernel is kept awake
        agent = await self._kernels.live_agent(request.match_info["kernel_id"])
        client = identify_client(request[USER], request[ACCESS], time.time())
        if client:
            path += f"{'&' if '?' in path else '?'}{urlencode(client)}"
        async with agent.output(request.method, path, body, _forwarded_headers(request)) as output:
            if output.status == HTTPStatus.NO_CONTENT:
                return web.Response(status=HTTPStatus.NO_CONTENT)
            if output.status != HTTPStatus.OK:
                return await _refuse(output, is_of_kernel="msg_id" not in request.match_info)
            if output.content_type not in _TYPES:
                raise UnavailableError("The kernel's agent sent an answer of an unknown type")
            return await self._stream(request, output)

    async def _stream(self, request: web.Request, output: Output) -> web.StreamResponse:
        response = web.StreamResponse(headers=_STREAM_HEADERS)
        response.content_type = output.content_type
        transport = request.transport
        if transport is None or self._is_closed:
            raise ConnectionResetError("the client is gone, or the gateway is stopping")
        ending = Ending(output.content_type)
        ended = self._streams[transport] = asyncio.get_running_loop().create_future()
        try:
            await response.prepare(request)
            try:
                while data := await output.next_data():
                    ending.feed(data)
                    await response.write(data)
            except UnavailableError as exc:
                explanation = await self._explain_end(request)
                if explanation is None or not ending.is_between_records:
                    # without the end that HTTP demands, the client knows that it has not all
                    raise ConnectionResetError("the agent's answer was cut") from exc
                await response.write(ending.records(explanation))
            await response.write_eof()
        finally:
            del self._streams[transport]
            ended.set_result(None)
        return response

    async def _explain_end(self, request: web.Request) -> str | None:
        """Return why the kernel has ended; None: it has not, as far as the gateway can tell."""
        try:
            dead = await self._kernels.find_dead(request.match_info["kernel_id"], DEATH_SECONDS)
        except NotFoundError:
            return "The kernel has ended, and was removed."
        except GatewayError:
            return None
        return explain_death(dead.reason) if dead is not None else None


def _path(request: web.Request) -> str:
    return f"/v1/executions/{quote(request.match_info['msg_id'], safe='')}"


def _forwarded_headers(request: web.Request) -> dict[str, str]:
    headers = {}
    for name in _FORWARDED:
        value = ", ".join(request.headers.getall(name, []))
        if not (value.isascii() and value.isprintable()):
            raise InvalidRequestError(f"The header {name} is not printable ASCII")
        if value or name in request.headers:
            headers[name] = value
    return headers


async def _refuse(output: Output, *, is_of_kernel: bool) -> web.Response:
    """Return the answer for a client whose request an agent refused.

    Args:
        output: the agent's answer.
        is_of_kernel: whether the resource is there for every kernel, so that 404 tells of an agent
            that knows no executions.
    """
    message = await output.refusal()
    if output.status == HTTPStatus.NOT_FOUND and is_of_kernel:
        return ErrorResponse(
            HTTPStatus.NOT_IMPLEMENTED,
            "The kernel's agent is older than this gateway and cannot do this: start a new kernel.",
        )
    if output.status in _REFUSALS:
        return ErrorResponse(HTTPStatus(output.status), message)
    raise UnavailableError(f"The kernel's agent refused the request. {message}".rstrip())
