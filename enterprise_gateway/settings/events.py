"""Settings of the events of kernels."""

from dataclasses import dataclass
from functools import partial

from enterprise_gateway.settings import parse
from enterprise_gateway.settings.option import option


@dataclass(frozen=True, slots=True)
class EventSettings:
    """Where events are told. Read at the start only."""

    log: str = option(
        "File to which the events of kernels are appended, one JSON object a line; it may be moved"
        " away at any time. `log`: the gateway's own log. By default they are not written.",
        default="",
        name="event_log",
        env=("EG_EVENT_LOG",),
    )
    webhook_url: str = option(
        "URL (http or https) to which each event is posted as JSON, signed with the secret of"
        " `event_webhook_secret_file`. By default none is.",
        default="",
        name="event_webhook_url",
        parse=partial(parse.http_url, "event_webhook_url"),
        env=("EG_EVENT_WEBHOOK_URL",),
    )
