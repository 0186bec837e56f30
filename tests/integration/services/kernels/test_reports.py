"""What the operator is told: failed starts, deaths, restarts, launches that wait."""

import asyncio
import logging
import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from harness.engines.fake_engine import FakeEngine
from harness.gateways.service import Service
from harness.waiting import eventually

from enterprise_gateway.errors import LaunchError, UnavailableError

STATES = ("starting", "idle", "busy", "restarting", "terminating", "dead")


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the gateway's warnings so far."""
    caplog.set_level(logging.INFO)
    return lambda: [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("enterprise_gateway.services")
        and record.levelno == logging.WARNING
    ]


async def metrics(service: Service) -> dict[str, float]:
    """Return the metrics."""
    page = (await service.ask("GET", "/metrics")).raw.decode()
    lines = [line.rpartition(" ") for line in page.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


async def deaths(service: Service) -> float:
    """Return how many deaths were counted."""
    page = await metrics(service)
    return sum(value for name, value in page.items() if name.startswith("eg_kernel_deaths_total"))


def until(service: Service, name: str, value: float) -> Awaitable[None]:
    """Wait until a metric has a value."""

    async def has_value() -> bool:
        return (await metrics(service)).get(name) == value

    return eventually(has_value, what=f"{name} {value}")


@pytest.mark.parametrize(
    ("body", "failure", "says", "error", "kernel_name"),
    [
        (
            {},
            LaunchError("image x:\nnot found"),
            r"step prepare .*: image x: not found",
            "LaunchError",
            "python3",
        ),
        (
            {},
            UnavailableError("the engine is away"),
            "the engine is away",
            "UnavailableError",
            "python3",
        ),
        (
            {"name": "no-such"},
            None,
            "step admission .*no-such not found",
            "NotFoundError",
            "",
        ),
        ({"env": {"KERNEL_USERNAME": "root"}}, None, "not authorized", "ForbiddenError", "python3"),
        ({"kernel_id": "x"}, None, "not a UUID", "InvalidRequestError", "python3"),
    ],
)
async def test_failed_start_is_one_line(
    service: Service,
    engine: FakeEngine,
    warnings: Callable[[], list[str]],
    body: dict[str, Any],
    failure: Exception | None,
    says: str,
    error: str,
    kernel_name: str,
) -> None:
    """With id, kernelspec, user, step, duration of each step, and cause."""
    engine.failure = failure
    answer = await service.ask("POST", "/api/kernels", json=body)
    assert answer.status >= 400
    (line,) = warnings()
    assert re.search(says, line)
    assert "\n" not in line
    assert re.search(r"failed in step \w+ after \d+\.\d\d s: admission \d", line)
    if failure is not None:
        assert f"Kernel {engine.requests[0].kernel_id} (python3) of user tester" in line
    label = f'eg_kernel_start_failures_total{{error="{error}",kernel_name="{kernel_name}"}}'
    assert (await metrics(service))[label] == 1


async def test_start_is_one_line_and_measured(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """With the duration of each step, in the log and in the metrics."""
    caplog.set_level(logging.INFO)
    kernel_id = await service.start_kernel()
    (line,) = [line for line in caplog.messages if "started in" in line]
    seconds = r"\d+\.\d\d"
    steps = [f"{step} {seconds}" for step in ("admission", "queue", "prepare", "check")]
    expected = rf"Kernel {kernel_id} \(python3\) started in {seconds} s: {', '.join(steps)}"
    assert re.fullmatch(expected, line)
    page = await metrics(service)
    assert page['eg_kernel_start_step_seconds_count{step="prepare"}'] == 1


async def test_restart_is_one_line_and_measured(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """By the agent, which has restarted the kernel in place."""
    caplog.set_level(logging.INFO)
    kernel_id = await service.start_kernel()
    assert (await service.ask("POST", f"/api/kernels/{kernel_id}/restart")).status == 200
    line = f"Kernel {kernel_id} was restarted in 1.50 s: end 0.50, kernel 1.00"
    assert line in caplog.messages


async def test_start_whose_client_leaves_is_one_line(
    service: Service, engine: FakeEngine, warnings: Callable[[], list[str]]
) -> None:
    """The client may have waited too long."""
    engine.gate.clear()
    start = asyncio.create_task(service.start_kernel())

    async def is_launching() -> bool:
        return bool(engine.requests)

    await eventually(is_launching)
    start.cancel()
    label = 'eg_kernel_start_failures_total{error="ClientLeft",kernel_name="python3"}'
    await until(service, label, 1)
    (line,) = warnings()
    assert re.search(r"in step prepare after .* prepare 0\.\d\d: its client left$", line)


async def test_death_is_one_line_and_counted(
    service: Service, engine: FakeEngine, warnings: Callable[[], list[str]]
) -> None:
    """By its reason, and once, though agent and engine report it."""
    first, second, third = [await service.start_kernel() for _ in range(3)]
    reason = {"message": "killed by SIGKILL (out of memory)", "out_of_memory": True}
    engine.agents[first].end(reason)
    await until(service, 'eg_kernel_deaths_total{reason="out_of_memory"}', 1)
    await engine.kill(first, "exit code 3")
    await engine.kill(second, "exit code 139")
    await until(service, 'eg_kernel_deaths_total{reason="signal"}', 1)
    assert (await service.ask("DELETE", f"/api/kernels/{third}")).status == 204
    assert await deaths(service) == 2
    assert [line for line in warnings() if first in line] == [
        f"Kernel {first} died: killed by SIGKILL (out of memory)"
    ]
    assert len([line for line in warnings() if second in line]) == 1
    assert not [line for line in warnings() if third in line]


async def test_automatic_restart_is_one_line_and_counted(
    service: Service, engine: FakeEngine, warnings: Callable[[], list[str]]
) -> None:
    """One that a client asked for is not."""
    kernel_id = await service.start_kernel()
    agent = engine.agents[kernel_id]
    assert (await service.ask("POST", f"/api/kernels/{kernel_id}/restart")).status == 200
    reason = {"message": "the kernel exited with code 3", "exit_code": 3}
    agent.change(execution_state="restarting", restarts=2, reason=reason)
    agent.change(execution_state="idle")
    agent.change(execution_state="busy")
    await until(service, 'eg_kernel_restarts_total{reason="exit_code"}', 1)
    await until(service, 'eg_kernels{execution_state="busy"}', 1)
    assert warnings() == [
        f"Kernel {kernel_id} was restarted by its agent: the kernel exited with code 3"
    ]
    assert await deaths(service) == 0


async def test_metrics_are_there_from_the_start_and_without_the_engine(
    service: Service, engine: FakeEngine
) -> None:
    """Absent kernels are 0, and an engine that is away is reported."""
    page = await metrics(service)
    assert [page[f'eg_kernels{{execution_state="{state}"}}'] for state in STATES] == [0] * 6
    assert page['eg_engine_reachable{proxy="FakeEngine"}'] == 1
    assert page["eg_launches_in_progress"] == page["eg_launches_waiting"] == 0
    engine.is_down = True
    assert (await metrics(service))['eg_engine_reachable{proxy="FakeEngine"}'] == 0


async def test_launches_wait_for_their_turn(service: Service, engine: FakeEngine) -> None:
    """Two at once, in the order of arrival; queued kernels are starting, cancelled ones skipped."""
    kernels = replace(service.live.current.kernels, max_concurrent_launches=2)
    service.live.replace(replace(service.live.current, kernels=kernels))
    engine.gate.clear()
    ids = [str(uuid.uuid4()) for _ in range(6)]
    starts = []
    for number, kernel_id in enumerate(ids):
        starts.append(asyncio.create_task(service.start_kernel(kernel_id=kernel_id)))
        await until(service, "eg_launches_in_progress", min(number + 1, 2))
        await until(service, "eg_launches_waiting", max(number - 1, 0))
    assert [request.kernel_id for request in engine.requests] == ids[:2]
    assert (await service.get(f"/api/kernels/{ids[5]}"))["execution_state"] == "starting"
    twice = await service.ask("POST", "/api/kernels", json={"kernel_id": ids[5]})
    assert twice.status == 409
    starts[3].cancel()
    await until(service, "eg_launches_waiting", 3)
    engine.gate.set()
    await asyncio.gather(*starts, return_exceptions=True)
    launched = [request.kernel_id for request in engine.requests]
    assert launched == [each for each in ids if each != ids[3]]
    page = await metrics(service)
    assert page["eg_launches_in_progress"] == page["eg_launches_waiting"] == 0
    assert len(await service.get("/api/kernels")) == 5
