"""The delays that only tests change."""

import dataclasses

from enterprise_gateway.settings import LiveSettings


def change_delays(live: LiveSettings, **seconds: float) -> None:
    """Change delays of a gateway that runs; `seconds` are fields of `DelaySettings`."""
    delays = dataclasses.replace(live.current.delays, **seconds)
    live.replace(dataclasses.replace(live.current, delays=delays))
