"""`python -m benchmarks.simulation SOCKET PLACE KERNELS`: serve until SIGTERM."""

import argparse
import asyncio
import signal
from pathlib import Path

from aiohttp import web

from benchmarks.simulation.agents import Agents
from benchmarks.simulation.cluster import Cluster
from benchmarks.simulation.engine import Engine
from benchmarks.simulation.kernel import AGENT_PORT, CONTROL_ADDRESS, Place, make_kernel


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    parser.add_argument("socket", type=Path, help="where the engine is to listen")
    parser.add_argument("place", choices=list(Place), help="what its kernels are")
    parser.add_argument("kernels", type=int, help="how many there are")
    options = parser.parse_args()
    asyncio.run(_serve(options.socket, Place(options.place), options.kernels))


async def _serve(socket: Path, place: Place, kernels: int) -> None:
    cluster = Cluster(place, kernels)
    agents = Agents(cluster)
    engine = Engine(cluster)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)

    async def calls(_request: web.Request) -> web.Response:
        return web.json_response(cluster.calls)

    async def begin_flow(request: web.Request) -> web.Response:
        wanted = await request.json()
        agents.begin_flow(wanted["kernels"], wanted["rate"])
        return web.Response(status=204)

    async def end_flow(_request: web.Request) -> web.Response:
        await agents.end_flow()
        return web.json_response({"sent": cluster.sent})

    async def canned(request: web.Request) -> web.Response:
        return web.json_response(text="x" * int(request.query["bytes"]))

    app = web.Application()
    app.add_routes(agents.routes())
    app.add_routes(
        [
            web.get("/simulation/calls", calls),
            web.get("/simulation/canned", canned),
            web.put("/simulation/flow", begin_flow),
            web.delete("/simulation/flow", end_flow),
        ]
    )
    front = web.AppRunner(app, access_log=None)
    back = web.AppRunner(engine.application(), access_log=None)
    await front.setup()
    await back.setup()
    assert front.server is not None
    addresses = [make_kernel(number).address for number in cluster.numbers]
    await loop.create_server(front.server, [*addresses, CONTROL_ADDRESS], AGENT_PORT, backlog=512)
    await web.UnixSite(back, str(socket)).start()
    await stopped.wait()
    await agents.end_flow()
    await engine.close()


if __name__ == "__main__":
    main()
