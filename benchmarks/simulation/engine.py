"""The engine: the part of the Docker Engine API that the gateway and its launch scripts use."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Coroutine

from aiohttp import web

from benchmarks.simulation import documents
from benchmarks.simulation.agents import report_ready
from benchmarks.simulation.cluster import Cluster
from benchmarks.simulation.kernel import Place, SimulatedKernel

Describe = Callable[[SimulatedKernel], documents.Document]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_IDENTIFIER = re.compile(r"/(containers|services|networks|tasks|images)/(?!json$|create$)[^/]+")
_WITHOUT_ID = r"/\1/ID"
_VERSION = re.compile(r"^/v[\d.]+")


def call_name(method: str, path: str) -> str:
    """Return the name under which a call is counted: without version and ids."""
    unversioned = _VERSION.sub("", path)
    return f"{method} {_IDENTIFIER.sub(_WITHOUT_ID, unversioned)}"


class Engine:
    """Serves the interface on a unix socket."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._encoded: dict[tuple[Describe, SimulatedKernel, bool], str] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def application(self) -> web.Application:
        """The server, with and without the interface's version in paths."""

        @web.middleware
        async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._cluster.calls[call_name(request.method, request.path)] += 1
            return await handler(request)

        app = web.Application(middlewares=[count])
        routes: list[tuple[str, str, Handler]] = [
            ("GET", "/_ping", self._ping),
            ("HEAD", "/_ping", self._ping),
            ("GET", "/version", self._version),
            ("GET", "/info", self._info),
            ("GET", "/events", self._events),
            ("GET", "/networks/{id}", self._network),
            ("GET", "/images/{name:.+}/json", self._image),
            ("GET", "/containers/json", self._containers),
            ("POST", "/containers/create", self._create_container),
            ("GET", "/containers/{id}/json", self._container),
            ("POST", "/containers/{id}/start", self._start_container),
            ("DELETE", "/containers/{id}", self._remove),
            ("GET", "/services", self._services),
            ("POST", "/services/create", self._create_service),
            ("GET", "/services/{id}", self._service),
            ("DELETE", "/services/{id}", self._remove),
            ("GET", "/tasks", self._list_tasks),
            ("GET", "/nodes", self._nodes),
        ]
        for method, path, handler in routes:
            app.router.add_route(method, path, handler)
            app.router.add_route(method, f"/{{version:v[0-9.]+}}{path}", handler)
        return app

    async def close(self) -> None:
        """Drop reports under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ping(self, _request: web.Request) -> web.Response:
        return web.Response(
            text="OK", headers={"API-Version": str(documents.VERSION["ApiVersion"])}
        )

    async def _version(self, _request: web.Request) -> web.Response:
        return web.json_response(documents.VERSION)

    async def _info(self, _request: web.Request) -> web.Response:
        return web.json_response(documents.info(self._cluster.place))

    async def _network(self, _request: web.Request) -> web.Response:
        return web.json_response(documents.network(self._cluster.place))

    async def _image(self, _request: web.Request) -> web.Response:
        return web.json_response(documents.IMAGE)

    async def _nodes(self, _request: web.Request) -> web.Response:
        self._check_manager()
        return web.json_response(documents.nodes())

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        queue = self._cluster.subscribe()
        try:
            while True:
                await response.write(json.dumps(await queue.get()).encode() + b"\n")
        except ConnectionError:
            return response  # the gateway has ended
        finally:
            self._cluster.unsubscribe(queue)

    async def _containers(self, request: web.Request) -> web.Response:
        if self._cluster.place is not Place.CONTAINERS:
            return web.json_response([])
        return self._list(request, documents.container)

    async def _container(self, request: web.Request) -> web.Response:
        return web.json_response(documents.inspected_container(self._named(request)))

    async def _create_container(self, request: web.Request) -> web.Response:
        body = await request.json()
        kernel = self._cluster.create(
            request.query["name"], body["Env"], body["Labels"], is_running=False
        )
        return web.json_response({"Id": kernel.engine_id, "Warnings": []}, status=201)

    async def _start_container(self, request: web.Request) -> web.Response:
        kernel = self._named(request)
        kernel.is_running = True
        self._cluster.publish(kernel, "start")
        self._spawn(report_ready(kernel.env))
        return web.Response(status=204)

    async def _services(self, request: web.Request) -> web.Response:
        self._check_manager()
        return self._list(request, documents.service)

    async def _service(self, request: web.Request) -> web.Response:
        return web.json_response(documents.service(self._named(request)))

    async def _create_service(self, request: web.Request) -> web.Response:
        self._check_manager()
        body = await request.json()
        env = body["TaskTemplate"]["ContainerSpec"]["Env"]
        kernel = self._cluster.create(body["Name"], env, body["Labels"], is_running=True)
        self._spawn(report_ready(env))
        return web.json_response({"ID": documents.service(kernel)["ID"]}, status=201)

    async def _list_tasks(self, request: web.Request) -> web.Response:
        self._check_manager()
        return self._list(request, documents.task)

    async def _remove(self, request: web.Request) -> web.Response:
        self._cluster.remove(self._named(request))
        return web.Response(status=204)

    def _list(self, request: web.Request, describe: Describe) -> web.Response:
        """Answer a list without encoding it anew, which in Python would hold up the agents."""
        filters = documents.parse_filters(request.query.get("filters", ""))
        parts = []
        for kernel in documents.select(self._cluster, filters):
            key = (describe, kernel, kernel.is_running)
            if key not in self._encoded:
                self._encoded[key] = json.dumps(describe(kernel))
            parts.append(self._encoded[key])
        return web.json_response(text=f"[{','.join(parts)}]")

    def _named(self, request: web.Request) -> SimulatedKernel:
        wanted = request.match_info["id"]
        for kernel in self._cluster:
            if wanted in {kernel.name, kernel.engine_id, documents.service(kernel)["ID"]}:
                return kernel
        raise web.HTTPNotFound(text=json.dumps({"message": f"no such thing: {wanted}"}))

    def _check_manager(self) -> None:
        if self._cluster.place is not Place.SERVICES:
            message = json.dumps({"message": "This node is not a swarm manager."})
            raise web.HTTPServiceUnavailable(text=message)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
