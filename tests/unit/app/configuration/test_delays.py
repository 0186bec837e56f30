"""`EG_TEST_DELAYS`, by which tests shorten the delays of a gateway that runs as a process."""

import pytest

from enterprise_gateway.app.configuration.environment import make_delay_settings
from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.settings import DelaySettings


@pytest.mark.parametrize("environ", [{}, {"EG_TEST_DELAYS": ""}, {"EG_TEST_DELAYS": "{}"}])
def test_no_value_leaves_the_defaults(environ: dict[str, str]) -> None:
    """Compose files pass variables that are not set as empty ones."""
    assert make_delay_settings(environ) == DelaySettings()


def test_named_delays_change_and_others_stay() -> None:
    """Integers and fractions are both numbers of seconds."""
    text = '{"tombstone_seconds": 3, "engine_retry_seconds": 0.01}'
    delays = make_delay_settings({"EG_TEST_DELAYS": text})
    assert delays == DelaySettings(tombstone_seconds=3.0, engine_retry_seconds=0.01)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("3", "must be a JSON object"),
        ("{", "is not JSON"),
        ('{"tombstone": 3}', "tombstone_seconds"),
        ('{"tombstone_seconds": "3"}', "must be seconds"),
        ('{"tombstone_seconds": true}', "must be seconds"),
        ('{"tombstone_seconds": -1}', "must be seconds"),
        ('{"tombstone_seconds": NaN}', "must be seconds"),
        ('{"tombstone_seconds": Infinity}', "must be seconds"),
    ],
)
def test_anything_else_is_refused(text: str, words: str) -> None:
    """A gateway with other delays than the test meant would make the test fail much later."""
    with pytest.raises(ConfigurationError, match=words):
        make_delay_settings({"EG_TEST_DELAYS": text})
