"""The webhook, against a real receiver that verifies with the reference library."""

import asyncio
import logging
from contextlib import suppress

import pytest
from harness.gateways.webhook_receiver import KEY, VERIFIER, Receiver
from standardwebhooks import WebhookVerificationError

from enterprise_gateway.services.events import webhook as webhook_module
from enterprise_gateway.services.events.bus import EventBus, Subscription
from enterprise_gateway.services.events.events import Requested
from enterprise_gateway.services.events.signature import signed_headers
from enterprise_gateway.services.events.webhook import Webhook

DEADLINE = 60.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have retries follow one another at once."""
    monkeypatch.setattr(webhook_module, "FIRST_PAUSE_SECONDS", 0.001)


async def post_all(url: str, *ids: str) -> Subscription:
    """Post events, and return when each was taken or lost."""
    bus = EventBus()
    subscription = bus.subscribe("webhook", 100)
    for each in ids:
        bus.publish(Requested(id=each, time="", owner="ann"))
    bus.close()
    async with asyncio.timeout(DEADLINE):
        await Webhook(url, KEY).run(subscription)
    return subscription


async def test_events_arrive_signed_and_in_order() -> None:
    """Each is a request of its own that the reference library verifies."""
    receiver = Receiver()
    async with receiver.serve() as url:
        subscription = await post_all(url, "a", "b", "c")
    assert receiver.taken == ["a", "b", "c"]
    assert subscription.take_dropped() == 0


async def test_receiver_that_fails_gets_the_event_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With the same id, until it takes it; later events wait. The log has one line."""
    receiver = Receiver(500, 429, 503, 200)
    async with receiver.serve() as url:
        subscription = await post_all(url, "a", "b")
    assert receiver.attempts == ["a", "a", "a", "a", "b"]
    assert receiver.taken == ["a", "b"]
    assert subscription.take_dropped() == 0
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "event_webhook_url takes no events" in warnings[0].message


@pytest.mark.parametrize("status", [400, 404, 410, 302, 307])
async def test_refused_event_holds_up_no_other(status: int) -> None:
    """It is lost, and counted; redirects are not followed."""
    receiver = Receiver(status)
    async with receiver.serve() as url:
        subscription = await post_all(url, "a", "b")
    assert receiver.attempts == ["a", "b"]
    assert receiver.taken == ["b"]
    assert subscription.take_dropped() == 1


async def test_receiver_that_is_away_gets_later_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """One event is tried for a bounded time, whether connections are refused or time out."""
    monkeypatch.setattr(webhook_module, "DELIVERY_SECONDS", 0.05)
    monkeypatch.setattr(webhook_module, "ATTEMPT_SECONDS", 0.05)
    receiver = Receiver()
    async with receiver.serve() as url:
        receiver.silence.clear()
        subscription = await post_all(url, "a", "b")
        assert set(receiver.attempts) == {"a", "b"}
        receiver.silence.set()
    assert subscription.take_dropped() == 2
    assert (await post_all(url, "c", "d")).take_dropped() == 2  # there is no listener any more


async def test_secret_of_the_url_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """A password in it, or a token in its path."""
    with suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            await Webhook("http://user:hidden-word@127.0.0.1:1/hidden-path", KEY).run(_one())
    assert caplog.records
    assert "hidden" not in caplog.text


def _one() -> Subscription:
    bus = EventBus()
    subscription = bus.subscribe("webhook", 1)
    bus.publish(Requested(id="a", time="", owner="ann"))
    return subscription


def test_old_or_changed_request_is_not_verified() -> None:
    """A receiver refuses what an eavesdropper sends again later, or changes."""
    for body, now in ((b"{}", 1_700_000_000), (b'{"id": "forged"}', None)):
        headers = signed_headers(KEY, "a", now or _now(), b"{}")
        with pytest.raises(WebhookVerificationError):
            VERIFIER.verify(body, dict(headers))
    VERIFIER.verify(b"{}", dict(signed_headers(KEY, "a", _now(), b"{}")))


def _now() -> int:
    import time  # noqa: PLC0415 - the test above must not use the clock otherwise

    return int(time.time())
