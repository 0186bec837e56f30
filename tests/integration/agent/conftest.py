"""Agents for one test or for all tests of a module."""

from collections.abc import AsyncIterator, Iterator

import pytest
from harness.agents.agent import Agent

LOG_TAIL_CHARS = 10_000


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the log of every agent that a failed test used."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Agent) and value.log_path.exists():
                report.sections.append(("agent log", value.log()[-LOG_TAIL_CHARS:]))
    return report


@pytest.fixture
async def agent() -> AsyncIterator[Agent]:
    """An agent with ipykernel and default settings, ready."""
    async with Agent() as running:
        await running.until_state("idle")
        yield running
