"""The launch queue: a bounded number at once, the users in turn."""

import asyncio
import random

import pytest

from enterprise_gateway.errors import LaunchError, LaunchTimeoutError, UnavailableError
from enterprise_gateway.services.kernels.starts.attempts import Attempt, explain_wait
from enterprise_gateway.services.kernels.starts.launch_queue import LaunchQueue
from enterprise_gateway.services.processproxies.steps import Step, StepRecorder


class Crowd:
    """Tasks that take a slot, and hold it until they are told to end."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.max_waiting = 0
        self.queue = LaunchQueue(lambda: self.limit, lambda: self.max_waiting)
        self.begun: list[int] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.ends: list[asyncio.Event] = []

    async def add(self, count: int, user: str = "ann", *, is_background: bool = False) -> None:
        """Have that many more, of one user."""
        for _ in range(count):
            self.ends.append(asyncio.Event())
            taking = self._take(len(self.tasks), user, is_background=is_background)
            self.tasks.append(asyncio.create_task(taking))
        await settle()

    async def end(self, number: int) -> None:
        """Have one give its slot back."""
        self.ends[number].set()
        await settle()

    async def leave(self, number: int) -> None:
        """Cancel one."""
        self.tasks[number].cancel()
        await settle()

    async def _take(self, number: int, user: str, *, is_background: bool) -> None:
        async with self.queue.slot(user, str(number), is_background=is_background):
            self.begun.append(number)
            await self.ends[number].wait()


async def settle() -> None:
    """Let all tasks do what they can."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(20))
async def test_place_in_the_queue_is_known(seed: int) -> None:
    """As many get a slot before a launch as is said."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    crowd = Crowd(1)
    for _ in range(12):
        await crowd.add(1, chance.choice(["ann", "bob", "eve"]))
    assert crowd.queue.ahead("0") is None
    said = [crowd.queue.ahead(str(number)) for number in range(1, 12)]
    assert sorted(ahead for ahead in said if ahead is not None) == list(range(11))
    for _ in range(11):
        await crowd.end(crowd.begun[-1])
    assert [crowd.begun.index(number) - 1 for number in range(1, 12)] == said


async def test_first_come_first_served() -> None:
    """No more than the limit at once, in the order of arrival."""
    crowd = Crowd(2)
    await crowd.add(5)
    assert (crowd.begun, crowd.queue.running, crowd.queue.waiting) == ([0, 1], 2, 3)
    await crowd.end(1)
    assert crowd.begun == [0, 1, 2]
    await crowd.end(0)
    await crowd.end(2)
    assert (crowd.begun, crowd.queue.running, crowd.queue.waiting) == ([0, 1, 2, 3, 4], 2, 0)
    await crowd.end(3)
    await crowd.end(4)
    assert crowd.queue.running == 0


async def test_users_get_slots_in_turn() -> None:
    """Who starts many kernels delays each of the others by one of them, not by all."""
    crowd = Crowd(1)
    await crowd.add(4, "many")
    await crowd.add(2, "few")
    await crowd.add(1, "one")
    for number in (0, 1, 4, 6, 2, 5):
        assert crowd.begun[-1] == number
        await crowd.end(number)
    assert crowd.begun == [0, 1, 4, 6, 2, 5, 3]


async def test_full_queue_refuses_at_once() -> None:
    """503, and when to try again; a place that is left can be taken."""
    crowd = Crowd(1)
    crowd.max_waiting = 2
    await crowd.add(4)
    with pytest.raises(UnavailableError, match="2 kernels to start already") as caught:
        await crowd.tasks[3]
    assert caught.value.retry_after
    await crowd.leave(1)
    await crowd.add(1, "ben")
    await crowd.end(0)
    await crowd.end(2)
    assert crowd.begun == [0, 2, 4]


async def test_user_who_fills_the_queue_refuses_no_other() -> None:
    """Each has an equal share of it then; many who have a single place fill it as well."""
    crowd = Crowd(1)
    crowd.max_waiting = 4
    await crowd.add(5, "many")
    await crowd.add(3, "few")
    assert crowd.queue.waiting == 6
    await crowd.add(1, "many")
    users = [f"user-{number}" for number in range(20)]
    for user in users:
        await crowd.add(1, user)
    refused = [number for number, task in enumerate(crowd.tasks) if task.done()]
    assert {7, 8} <= set(refused)
    assert crowd.queue.waiting <= 2 * crowd.max_waiting
    for number in refused:
        assert isinstance(crowd.tasks[number].exception(), UnavailableError)


async def test_cancelled_launch_holds_no_slot() -> None:
    """Neither while it waits, nor while it runs."""
    crowd = Crowd(1)
    await crowd.add(4)
    await crowd.leave(1)
    assert crowd.queue.waiting == 2
    await crowd.leave(0)
    assert crowd.begun == [0, 2]
    await crowd.end(2)
    assert crowd.begun == [0, 2, 3]


async def test_slot_of_a_launch_cancelled_at_once_goes_to_the_next() -> None:
    """It got the slot and was cancelled in the same moment: the slot is not lost."""
    crowd = Crowd(1)
    await crowd.add(3)
    crowd.ends[0].set()
    await asyncio.sleep(0)  # the slot is given to the next, which has not run yet
    crowd.tasks[1].cancel()
    await settle()
    assert crowd.begun[-1] == 2
    assert crowd.queue.running == 1


async def test_no_limit_is_no_wait_and_a_new_limit_holds_from_then_on() -> None:
    """The setting may change while launches are under way."""
    crowd = Crowd(0)
    await crowd.add(9)
    assert crowd.queue.running == 9
    crowd.limit = 1
    await crowd.add(1)
    assert crowd.queue.waiting == 1
    for number in range(9):
        await crowd.end(number)
    assert crowd.begun[-1] == 9


async def test_launches_in_the_background_come_after_those_of_all_users() -> None:
    """However long they have waited, and though each user's turn would come after theirs."""
    crowd = Crowd(1)
    await crowd.add(1, "ann")
    await crowd.add(2, "pool", is_background=True)
    await crowd.add(2, "ann")
    await crowd.add(1, "bob")
    assert (crowd.queue.waiting, crowd.queue.ahead("3")) == (3, 0)
    for number in (0, 3, 5, 4, 1, 2):
        assert crowd.begun[-1] == number
        await crowd.end(number)
    assert (crowd.begun, crowd.queue.running) == ([0, 3, 5, 4, 1, 2], 0)


@pytest.mark.parametrize(("limit", "in_background"), [(1, 1), (2, 1), (4, 3), (0, 5)])
async def test_launches_in_the_background_leave_a_slot_to_users(
    limit: int, in_background: int
) -> None:
    """If there are two; those that wait for another take no user's place, nor fill the queue."""
    crowd = Crowd(limit)
    crowd.max_waiting = 1
    await crowd.add(5, "pool", is_background=True)
    assert crowd.queue.running == in_background
    await crowd.add(1, "ann")
    assert crowd.begun[-1] == (5 if limit != 1 else 0)
    assert crowd.queue.waiting == (limit == 1)
    for number in range(6):
        await crowd.end(number)
    assert (sorted(crowd.begun), crowd.queue.running) == (list(range(6)), 0)


async def test_launch_in_the_background_that_is_cancelled_holds_no_slot() -> None:
    """Neither while it waits, nor while it runs."""
    crowd = Crowd(2)
    await crowd.add(3, "pool", is_background=True)
    await crowd.leave(1)
    await crowd.leave(0)
    assert (crowd.begun, crowd.queue.running) == ([0, 2], 1)


@pytest.mark.parametrize("seed", range(20))
async def test_slots_are_never_lost(seed: int) -> None:
    """In any order of ends and departures."""
    choose = random.Random(seed)  # noqa: S311 - no secret
    crowd = Crowd(3)
    for number in range(40):
        await crowd.add(1, f"user {number % 4}", is_background=number % 4 == 0)
    left = list(range(40))
    while left:
        number = left.pop(choose.randrange(len(left)))
        if number in crowd.begun and choose.random() < 0.5:
            crowd.ends[number].set()
        else:
            crowd.tasks[number].cancel()
        if choose.random() < 0.7:
            await asyncio.sleep(0)
        assert crowd.queue.running <= 3
    await settle()
    assert (crowd.queue.running, crowd.queue.waiting) == (0, 0)


def test_launch_that_took_too_long_says_how_long_it_had_waited() -> None:
    """So the cause is clear: this kernel is not slow, there are many of them."""
    with pytest.raises(LaunchTimeoutError, match=r"not ready\. Before that it had waited 12 s"):  # noqa: SIM117 - the inner is under test
        with explain_wait(attempt_that_waited(12.4)):
            raise LaunchTimeoutError("It was not ready.")
    for error, waited in ((LaunchTimeoutError("slow"), 0.5), (LaunchError("slow"), 12.4)):
        with pytest.raises(LaunchError, match=r"^slow$"), explain_wait(attempt_that_waited(waited)):
            raise error


def attempt_that_waited(seconds: float) -> Attempt:
    """Return an attempt whose turn has come."""
    now = 0.0
    attempt = Attempt(steps=StepRecorder(lambda: now))
    attempt.steps.begin(Step.QUEUE)
    now = seconds
    attempt.steps.begin(Step.PREPARE)
    return attempt


async def test_closing_refuses_queued_launches() -> None:
    """Launches under way go on; another replica takes the others."""
    crowd = Crowd(1)
    await crowd.add(3)
    await crowd.add(1, "pool", is_background=True)
    crowd.queue.close()
    await crowd.add(1)
    await crowd.end(0)
    outcomes = await asyncio.gather(*crowd.tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), *[UnavailableError] * 4]
    assert (crowd.begun, crowd.queue.running, crowd.queue.waiting) == ([0], 0, 0)
