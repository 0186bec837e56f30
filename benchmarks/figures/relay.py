"""How fast output gets from a kernel to a client, and what it costs the gateway and the agent."""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from uuid import uuid4

from benchmarks import kernelspecs, places, processes
from benchmarks.bench import Bench
from benchmarks.client.channel import Channel
from benchmarks.client.protocol import execute_request
from benchmarks.places import Place
from benchmarks.report import Bound, Figure, Target
from benchmarks.servers import Column
from jupyter_wire.messages import Codec
from jupyter_wire.websocket import Count

ROUNDS = 5
FLOOD_SECONDS = 90.0
SMALL_BYTES = 200
LARGE_BYTES = 1024 * 1024
SMALL_MESSAGES = {Column.ENTERPRISE_GATEWAY: 600, Column.JUPYTER_SERVER: 6000}
LARGE_MESSAGES = {Column.ENTERPRISE_GATEWAY: 60, Column.JUPYTER_SERVER: 60}
IPYKERNEL_MESSAGES = {Column.ENTERPRISE_GATEWAY: 600}
"""Peers get as many as they move in some seconds."""
LINES = {0.002: 1000, 0.02: 200}
"""How many lines are printed, by the seconds between them: first such that are gathered on their
way, then such that travel alone."""


@dataclass(frozen=True)
class Flood:
    """The messages that a kernel sends: how many, and by which code."""

    messages: int
    code: str
    marker: bytes


def order_from_flood_kernel(messages: int, size: int) -> Flood:
    """What makes `flood_kernel` send."""
    marker = uuid4().hex
    code = json.dumps({"messages": messages, "bytes": size, "marker": marker})
    return Flood(messages, code, marker.encode())


def order_from_ipykernel(messages: int, size: int) -> Flood:
    """Return code with which ipykernel sends one message a call, which print does not.

    The marker is not in the code, since the kernel echoes that.
    """
    head, tail = uuid4().hex, uuid4().hex
    code = (
        "publish = get_ipython().display_pub.publish\n"
        f"for _ in range({messages}): publish({{'text/plain': 'x' * {size}}})\n"
        f"publish({{'text/plain': '{head}' + '{tail}'}})"
    )
    return Flood(messages, code, (head + tail).encode())


def lines_from_ipykernel(messages: int, pause: float) -> Flood:
    """Return code with which ipykernel prints and flushes lines, with pauses between them."""
    head, tail = uuid4().hex, uuid4().hex
    code = (
        "import time\n"
        f"for number in range({messages}):\n"
        "    print('line', number, flush=True)\n"
        f"    time.sleep({pause})\n"
        f"print('{head}' + '{tail}')"
    )
    return Flood(messages, code, (head + tail).encode())


@dataclass
class Path:
    """One way from a kernel to the client.

    Attributes:
        server_pids: whose CPU time counts as the server's.
        balancer_pids: likewise the load balancer's, if there is one.
        agent_pids: likewise the agent's; of the floor, the client itself.
    """

    column: Column
    channel: Channel
    server_pids: list[int]
    agent_pids: list[int]
    balancer_pids: list[int] = field(default_factory=list)


def measure(bench: Bench) -> list[Figure]:
    """Floods of small and of large messages in both codecs, then what a real kernel sends."""
    found = []
    for codec in Codec:
        found += _measure_small(bench, codec)
    for codec in Codec:
        found += _measure_large(bench, codec)
    figures = _ipykernel_figures(places.LOCAL)
    _measure_ipykernel(bench, places.local(bench, kernelspecs.PYTHON), figures)
    found += figures
    figures = _ipykernel_figures(places.CONTAINER)
    _measure_ipykernel(bench, places.containers(bench, figures), figures)
    found += figures
    for pause in LINES:
        found += _measure_lines(bench, pause)
    return found


def _measure_small(bench: Bench, codec: Codec) -> list[Figure]:
    kind = f"flood kernel, {codec}"
    figures = [
        Figure(f"small iopub messages, {kind}", "1/s", Target(Bound.AT_LEAST, 15_000)),
        Figure(f"server CPU per small message, {kind}", "µs", Target(Bound.AT_MOST, 4)),
        Figure(f"agent CPU per small message, {kind} (floor: to read it)", "µs"),
    ]
    measure_small(bench, places.local(bench, kernelspecs.FLOOD), codec, figures, 60_000)
    return figures


def measure_small(
    bench: Bench, place: Place, codec: Codec, figures: list[Figure], usual: int
) -> None:
    """Have flood kernels send small messages.

    Args:
        bench: the run.
        place: of flood kernels.
        codec: of the WebSockets.
        figures: rate, CPU time of the server, CPU time of the agent, and perhaps that of the load
            balancer.
        usual: how many; peers get fewer.
    """

    def note(path: Path) -> None:
        messages = SMALL_MESSAGES.get(path.column, usual // 3 if bench.is_quick else usual)
        _flood(path, order_from_flood_kernel(messages, SMALL_BYTES), figures, _messages)

    _measure_paths(bench, place, codec, figures, note)


def _measure_large(bench: Bench, codec: Codec) -> list[Figure]:
    kind = f"flood kernel, {codec}"
    figures = [
        Figure(f"1 MB messages, {kind}", "MB/s", Target(Bound.AT_LEAST, 350)),
        Figure(f"server CPU per MB, {kind}", "µs"),
        Figure(f"agent CPU per MB, {kind} (floor: to read it)", "µs"),
    ]
    usual = 100 if bench.is_quick else 400

    def note(path: Path) -> None:
        messages = LARGE_MESSAGES.get(path.column, usual)
        _flood(path, order_from_flood_kernel(messages, LARGE_BYTES), figures, _megabytes)

    _measure_paths(bench, places.local(bench, kernelspecs.FLOOD), codec, figures, note)
    return figures


def _ipykernel_figures(label: str) -> list[Figure]:
    kind = f"ipykernel, {label}, v1"
    return [
        Figure(f"small iopub messages, {kind}", "1/s"),
        Figure(f"server CPU per small message, {kind}", "µs"),
        Figure(f"agent CPU per small message, {kind} (floor: to read it)", "µs"),
    ]


def _measure_ipykernel(bench: Bench, place: Place, figures: list[Figure]) -> None:
    def note(path: Path) -> None:
        messages = IPYKERNEL_MESSAGES.get(path.column, 6000)
        _flood(path, order_from_ipykernel(messages, SMALL_BYTES), figures, _messages)

    _measure_paths(bench, place, Codec.V1, figures, note)


def _measure_lines(bench: Bench, pause: float) -> list[Figure]:
    kind = f"ipykernel prints one every {pause * 1000:g} ms, local, v1"
    figures = [
        Figure(f"small iopub messages, {kind}", "1/s"),
        Figure(f"server CPU per small message, {kind}", "µs", Target(Bound.AT_MOST, 40)),
        Figure(
            f"agent CPU per small message, {kind} (floor: to read it)",
            "µs",
            Target(Bound.AT_MOST, 70),
        ),
    ]

    def note(path: Path) -> None:
        _flood(path, lines_from_ipykernel(LINES[pause], pause), figures, _messages)

    _measure_paths(bench, places.local(bench, kernelspecs.PYTHON), Codec.V1, figures, note)
    return figures


def _measure_paths(
    bench: Bench, place: Place, codec: Codec, figures: list[Figure], note: Callable[[Path], None]
) -> None:
    """Open all paths, then measure each in turn, round by round."""
    with ExitStack() as stack:
        paths = []
        for column in place.kernels:
            with bench.noting(column, *figures):
                paths.append(_open_path(stack, place, column, codec))
        if place.bare and Column.FLOOR in bench.columns:
            with bench.noting(Column.FLOOR, *figures):
                direct = place.dial(stack.enter_context(place.bare(bench.folder / "bare")))
                stack.callback(direct.close)
                direct.wait_until_live()
                direct.settle()
                paths.append(Path(Column.FLOOR, direct, [], []))
        for _ in range(bench.rounds(ROUNDS)):
            for path in paths:
                if path.column not in figures[0].remarks:
                    with bench.noting(path.column, *figures):
                        note(path)


def _open_path(stack: ExitStack, place: Place, column: Column, codec: Codec) -> Path:
    server = stack.enter_context(place.serve(column))
    kernel_id = server.start_kernel(place.kernels[column])
    channel = stack.enter_context(server.connect(kernel_id, codec))
    channel.settle()
    agents = processes.agent_pids([kernel_id])
    return Path(column, channel, server.pids(), agents, server.balancer_pids)


def _messages(count: Count) -> float:
    return count.messages


def _megabytes(count: Count) -> float:
    return count.payload_bytes / 1e6


def _flood(
    path: Path, flood: Flood, figures: list[Figure], amount: Callable[[Count], float]
) -> None:
    """Have a flood sent; note its rate, and the server's and the agent's CPU time by `amount`."""
    rate, server, agent, *balancers = figures
    server_cpu = processes.cpu_seconds(path.server_pids)
    agent_cpu = processes.cpu_seconds(path.agent_pids)
    balancer_cpu = processes.cpu_seconds(path.balancer_pids)
    client_cpu = time.process_time()
    path.channel.send(execute_request(flood.code, path.channel.session))
    count = path.channel.count_until(flood.marker, time.monotonic() + FLOOD_SECONDS)
    client_cpu = time.process_time() - client_cpu
    server_cpu = processes.cpu_seconds(path.server_pids) - server_cpu
    agent_cpu = processes.cpu_seconds(path.agent_pids) - agent_cpu
    balancer_cpu = processes.cpu_seconds(path.balancer_pids) - balancer_cpu
    rate.add(path.column, amount(count) / count.seconds)
    if count.messages < flood.messages:
        lost = flood.messages - count.messages
        rate.losses[path.column] = rate.losses.get(path.column, 0) + lost
    if path.column is Column.FLOOR:
        agent.add(path.column, client_cpu / amount(count) * 1e6)
    else:
        server.add(path.column, server_cpu / amount(count) * 1e6)
    if path.agent_pids:
        agent.add(path.column, agent_cpu / amount(count) * 1e6)
    if path.balancer_pids:
        for balancer in balancers:
            balancer.add(path.column, balancer_cpu / amount(count) * 1e6)
    path.channel.settle()
