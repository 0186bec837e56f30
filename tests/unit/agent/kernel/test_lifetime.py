"""The longest life of a kernel."""

import asyncio

import pytest

from kernel_agent.kernel.lifetime import Lifetime, describe_seconds


@pytest.mark.parametrize(
    ("max_age", "warning", "expected"),
    [
        (0.2, 0.1, ["warned 0.1", "ended"]),
        (0.1, 300.0, ["warned 0.1", "ended"]),
        (0.1, 0.0, ["ended"]),
        (0.0, 300.0, []),
    ],
)
async def test_warning_comes_before_the_end(
    max_age: float, warning: float, expected: list[str]
) -> None:
    """At once if the whole life is shorter; neither comes once it is stopped."""
    events: list[str] = []
    ended = asyncio.Event()

    def warn(seconds: float) -> None:
        events.append(f"warned {seconds}")

    def end() -> None:
        events.append("ended")
        ended.set()

    lifetime = Lifetime(max_age, warning, warn, end)
    lifetime.start()
    if expected:
        await ended.wait()
    assert events == expected
    lifetime.start()
    lifetime.stop()
    await asyncio.sleep(0)
    assert events == expected


@pytest.mark.parametrize(
    ("seconds", "text"), [(28800, "8 h"), (5400, "90 min"), (300, "5 min"), (45.4, "45 s")]
)
def test_times_are_told_in_the_largest_unit(seconds: float, text: str) -> None:
    """As one would say them."""
    assert describe_seconds(seconds) == text
