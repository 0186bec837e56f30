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
from prometheus_client import CollectorRegistry, Counter, disable_created_metrics

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.api import handlers as api
from enterprise_gateway.services.api.events import EventStreams
from enterprise_gateway.services.composition import GatewayServices
from enterprise_gateway.services.events import sinks
from enterprise_gateway.services.kernels import handlers as kernel_handlers
from enterprise_gateway.services.kernels.ownership import Ownership
from enterprise_gateway.services.kernelspecs import handlers as kernelspec_handlers
from enterprise_gateway.services.request_scope import REQUEST_ID_HEADER
from enterprise_gateway.services.sessions import handlers as session_handlers
from enterprise_gateway.settings import LiveSettings, ServerSettings
from enterprise_gateway.web.access.authentication import Authentication
from enterprise_gateway.web.access.authorization import Authorizer, is_permitted
from enterprise_gateway.web.access.cors import cors_headers
from enterprise_gateway.web.access.identity.identities import Identities
from enterprise_gateway.web.access.identity.json_client import JSONClient
from enterprise_gateway.web.access.middleware import AuthMiddleware
from enterprise_gateway.web.access.ownership import OWNERSHIP, OwnershipMiddleware
from enterprise_gateway.web.access.xheaders import is_trusted
from enterprise_gateway.web.accesslog import SCOPE, AccessLog
from enterprise_gateway.web.audit import AuditLog
from enterprise_gateway.web.channels.handlers import Channels
from enterprise_gateway.web.connections.addresses import listen_host
from enterprise_gateway.web.connections.listener import Listener
from enterprise_gateway.web.connections.protocol import COMMON_HEADERS, Connection, with_scope
from enterprise_gateway.web.connections.tls import make_ssl_context
from enterprise_gateway.web.draining import DRAIN, RequestDrain, longest_request_seconds
from enterprise_gateway.web.errors import answer_errors
from enterprise_gateway.web.executions.handlers import Executions
from enterprise_gateway.web.home import handlers as home
from enterprise_gateway.web.home.hub_sign_in import CALLBACK_PATH, HubSignIn
from enterprise_gateway.web.mount import mount

SHUTDOWN_SECONDS = 3.0
"""How long a request may take to end once the gateway has cancelled it."""
CLEANUP_SECONDS = 15.0
"""How long the services may take to close before the gateway exits without them."""

IDENTITIES = web.AppKey("identities", Identities)

_SEQUENTIAL_PORTS = 5
_RANDOM_PORT_SPREAD = 2
_PORT_TAKEN = frozenset({errno.EADDRINUSE, errno.EACCES})

_log = logging.getLogger(__name__)


def build(live: LiveSettings, authorizer: Authorizer | None = None) -> web.Application:
    """Compose the whole gateway. Nothing is contacted before the application starts."""
    identities = Identities(live)
    services = GatewayServices(live, identities.account)
    kernels = services.kernels
    channels = Channels(kernels, live.current.balancer_secret)
    executions = Executions(kernels)
    streams = EventStreams(services.events)
    drain = RequestDrain()
    drain.closers += [kernels.refuse_launches, channels.close, executions.close, streams.close]
    permits = partial(is_permitted, authorizer)
    routes = [
        *home.routes(kernels, live, permits),
        *api.routes(kernels, services.proxies, permits, lambda: drain.is_stopping),
        *streams.routes(),
        *kernel_handlers.routes(kernels, live),
        *kernelspec_handlers.routes(services.kernelspecs, live),
        *session_handlers.routes(services.sessions, live),
        *channels.routes(),
        *executions.routes(),
    ]

    async def run_services(_app: web.Application) -> AsyncIterator[None]:
        async with sinks.running(services.events, live.current), services.running():
            await kernels.start()
            await services.kernelspecs.report_local_kernels()
            services.images.start()
            yield

    # these would double the series of each counter
    disable_created_metrics()  # type: ignore[no-untyped-call] # it has no annotations
    app = make_application(
        live,
        routes,
        authorizer,
        drain,
        kernels.metrics,
        ownership=kernels.ownership,
        identities=identities,
    )
    app[OWNERSHIP] = kernels.ownership
    identities.revocations.subscribe(kernels.ownership.revoke)
    identities.revocations.subscribe(streams.revoke)
    app.cleanup_ctx.append(run_services)
    return app


def make_application(
    live: LiveSettings,
    routes: list[web.RouteDef],
    authorizer: Authorizer | None = None,
    drain: RequestDrain | None = None,
    metrics: CollectorRegistry | None = None,
    *,
    ownership: Ownership | None = None,
    identities: Identities | None = None,
) -> web.Application:
    """Make an application of routes relative to the base URL, with access checks and errors.

    Without `ownership` it serves no route of a kernel: their handlers need it.
    """
    server = live.current.server
    answers = Counter("eg_http_responses", "HTTP responses.", ["status"], registry=metrics)
    drain = drain or RequestDrain()
    identities = identities or Identities(live)
    sign_in = _make_sign_in(live, identities.client)
    public_paths = api.PUBLIC_PATHS
    if sign_in is not None:
        routes = [*routes, sign_in.route()]
        public_paths |= {CALLBACK_PATH}
    authentication = Authentication(live, identities)
    access = AuthMiddleware(live, authentication, authorizer, public_paths)
    audit = AuditLog(server.base_url)
    app = web.Application(
        client_max_size=server.max_body_bytes,
        middlewares=[
            drain.middleware,
            home.ErrorPages(live, sign_in).middleware,
            audit.middleware,
            answer_errors,
            access.middleware,
            *([OwnershipMiddleware(ownership).middleware] if ownership is not None else []),
        ],
    )
    app[DRAIN] = drain
    app[IDENTITIES] = identities
    app.cleanup_ctx.append(identities.running)
    app.add_routes(mount(routes, server.base_url))
    app.add_routes(home.redirects(server.base_url))

    async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
        answers.labels(response.status).inc()
        drain.close_after(response)
        response.headers[REQUEST_ID_HEADER] = request[SCOPE].request_id
        response.headers.update(COMMON_HEADERS)
        response.headers.update(cors_headers(live.current.access))

    app.on_response_prepare.extend([add_headers, audit.on_prepare])
    return app


def _make_sign_in(live: LiveSettings, client: JSONClient) -> HubSignIn | None:
    identity = live.current.identity
    if not identity.jupyterhub_public_url:
        return None
    return HubSignIn(identity, live.current.server.base_url, client)


def ports_to_try(port: int, retries: int) -> Iterator[int]:
    """Yield the ports to try, as Jupyter servers do: five in sequence, then random ones near by."""
    yield port
    for offset in range(1, min(retries, _SEQUENTIAL_PORTS - 1) + 1):
        yield min(65535, port + offset)
    spread = _RANDOM_PORT_SPREAD * (retries + 1)
    for _ in range(retries + 1 - _SEQUENTIAL_PORTS):
        yield max(1, min(65535, port + random.randint(-spread, spread)))  # noqa: S311 - no secret


@asynccontextmanager
async def serve(app: web.Application, live: LiveSettings) -> AsyncIterator[int]:
    """Serve an application; yields the port.

    On exit the gateway stops accepting, closes its WebSockets and finishes the requests in
    progress. Cancelling the exit cancels them.

    Raises:
        ConfigurationError: The TLS files cannot be loaded, or no port is free.
    """
    server = live.current.server
    context = make_ssl_context(server)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        listener = await _listen(runner, server, context, app[DRAIN])
        try:
            yield listener.port
        finally:
            await listener.close()
            await app[DRAIN].finish(longest_request_seconds(live.current.kernels))
    finally:
        try:
            async with asyncio.timeout(CLEANUP_SECONDS):
                await runner.cleanup()
        except TimeoutError:
            _log.warning(
                "The services did not close within %.0f s; exiting without them.", CLEANUP_SECONDS
            )


async def _listen(
    runner: web.AppRunner,
    server: ServerSettings,
    context: ssl.SSLContext | None,
    drain: RequestDrain,
) -> Listener:
    if runner.server is None:
        raise AssertionError("a runner that is set up has a server")
    loop = asyncio.get_running_loop()
    runner.server.request_handler = with_scope(runner.server.request_handler)
    make = partial(Connection, runner.server, drain, loop=loop, access_log_class=AccessLog)
    host = listen_host(server.ip)
    for port in ports_to_try(server.port, server.port_retries):
        try:
            bound = await loop.create_server(
                asyncio.Protocol, host, port, reuse_address=True, start_serving=False
            )
            # asyncio binds each address of the host; the listener accepts
            sockets = [each.dup() for each in bound.sockets]
            bound.close()
            return Listener(sockets, make, context=context, is_proxy=partial(is_trusted, server))
        except OSError as exc:
            if exc.errno not in _PORT_TAKEN:
                raise ConfigurationError(f"Cannot listen on {server.ip}: {exc}.") from exc
            _log.info("Port %d is not available, trying another.", port)
    raise ConfigurationError(
        f"No port is free: tried {server.port} and {server.port_retries} others."
    )
