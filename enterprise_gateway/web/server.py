"""The composition of the gateway, and the server that listens for it."""

import asyncio
import errno
import logging
import random
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial

from aiohttp import web

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.api import handlers as api
from enterprise_gateway.services.kernels import handlers as kernel_handlers
from enterprise_gateway.services.kernelspecs import handlers as kernelspec_handlers
from enterprise_gateway.services.sessions import handlers as session_handlers
from enterprise_gateway.settings import LiveSettings, ServerSettings
from enterprise_gateway.web.accesslog import AccessLog
from enterprise_gateway.web.auth import Gate
from enterprise_gateway.web.authorization import Authorizer, is_permitted
from enterprise_gateway.web.channels import Channels
from enterprise_gateway.web.cors import cors_headers
from enterprise_gateway.web.draining import DRAIN, Drain, longest_request_seconds
from enterprise_gateway.web.errors import answer_errors
from enterprise_gateway.web.protocol import COMMON_HEADERS, Connection
from enterprise_gateway.web.services import Services
from enterprise_gateway.web.tls import make_ssl_context
from enterprise_gateway.web.tokens import TOKEN_PREFIX

SHUTDOWN_SECONDS = 3.0
"""What a request has to end once the gateway does not wait for it any more."""
CLEANUP_SECONDS = 15.0
"""What the gateway gives itself to end what it has begun, before it leaves what hangs."""

_SEQUENTIAL_PORTS = 5
_RANDOM_PORT_SPREAD = 2
_ALL_INTERFACES = frozenset({"", "*"})
_PORT_TAKEN = frozenset({errno.EADDRINUSE, errno.EACCES})

_log = logging.getLogger(__name__)


def build(live: LiveSettings, authorizer: Authorizer | None = None) -> web.Application:
    """Compose the whole gateway. Nothing is contacted before the application starts."""
    services = Services(live)
    kernels = services.kernels
    channels = Channels(kernels)
    drain = Drain()
    drain.closers.append(channels.close)
    routes = [
        *api.routes(
            kernels, services.proxies, partial(is_permitted, authorizer), lambda: drain.is_stopping
        ),
        *kernel_handlers.routes(kernels, live),
        *kernelspec_handlers.routes(services.kernelspecs, live),
        *session_handlers.routes(services.sessions, live),
        *channels.routes(),
    ]

    async def run_services(_app: web.Application) -> AsyncIterator[None]:
        async with services.running():
            await kernels.start()
            yield

    app = make_application(live, routes, authorizer, drain)
    app.cleanup_ctx.append(run_services)
    return app


def make_application(
    live: LiveSettings,
    routes: list[web.RouteDef],
    authorizer: Authorizer | None = None,
    drain: Drain | None = None,
) -> web.Application:
    """Make an application of routes relative to the base URL: mounted, guarded, errors in shape."""
    server = live.current.server
    drain = drain or Drain()
    app = web.Application(
        client_max_size=server.max_body_bytes,
        middlewares=[drain.middleware, answer_errors, Gate(live, authorizer).middleware],
    )
    app[DRAIN] = drain
    app.add_routes(mount(routes, server.base_url))

    async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(COMMON_HEADERS)
        response.headers.update(cors_headers(live.current.access))

    app.on_response_prepare.append(add_headers)
    return app


def mount(routes: list[web.RouteDef], base_url: str) -> list[web.RouteDef]:
    """Put routes under the base URL, and once more under the path-prefix form of the token."""
    base = base_url.rstrip("/")
    return [
        web.RouteDef(route.method, prefix + route.path, route.handler, route.kwargs)
        for prefix in (base, base + TOKEN_PREFIX)
        for route in routes
    ]


def ports_to_try(port: int, retries: int) -> Iterator[int]:
    """Yield the ports to try, as Jupyter servers do: five in sequence, then near by at random."""
    yield port
    for offset in range(1, min(retries, _SEQUENTIAL_PORTS - 1) + 1):
        yield min(65535, port + offset)
    spread = _RANDOM_PORT_SPREAD * (retries + 1)
    for _ in range(retries + 1 - _SEQUENTIAL_PORTS):
        yield max(1, min(65535, port + random.randint(-spread, spread)))  # noqa: S311 - no secret


@asynccontextmanager
async def serve(app: web.Application, live: LiveSettings) -> AsyncIterator[int]:
    """Serve an application; yields the port.

    On the way out the gateway stops accepting, closes its WebSockets and finishes the requests in
    progress. Whoever cancels that ends them.

    Raises:
        ConfigurationError: The TLS files are wrong, or no port is free.
    """
    server = live.current.server
    context = make_ssl_context(server)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        listener = await _listen(runner, server, context, app[DRAIN])
        try:
            yield listener.sockets[0].getsockname()[1]
        finally:
            listener.close()
            await app[DRAIN].finish(longest_request_seconds(live.current.kernels))
    finally:
        try:
            async with asyncio.timeout(CLEANUP_SECONDS):
                await runner.cleanup()
        except TimeoutError:
            _log.warning("What had not ended after %.0f s is left to itself.", CLEANUP_SECONDS)


async def _listen(
    runner: web.AppRunner, server: ServerSettings, context: ssl.SSLContext | None, drain: Drain
) -> asyncio.Server:
    if runner.server is None:
        raise AssertionError("a runner that is set up has a server")
    loop = asyncio.get_running_loop()
    factory = partial(Connection, runner.server, drain, loop=loop, access_log_class=AccessLog)
    host = None if server.ip in _ALL_INTERFACES else server.ip
    for port in ports_to_try(server.port, server.port_retries):
        try:
            return await loop.create_server(factory, host, port, ssl=context, reuse_address=True)
        except OSError as exc:
            if exc.errno not in _PORT_TAKEN:
                raise ConfigurationError(f"Cannot listen on {server.ip}: {exc}.") from exc
            _log.info("Port %d is not available, trying another.", port)
    raise ConfigurationError(
        f"No port is free: tried {server.port} and {server.port_retries} others."
    )
