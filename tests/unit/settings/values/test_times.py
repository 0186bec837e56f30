"""When kernels end, as people write it for users and groups."""

import pytest

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.settings.resources import parse_times


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_kernel_age=5", "NAME: KEY=VALUE"),
        ("ann: max_kernel_age", "KEY=VALUE"),
        ("ann: max_kernel_age=5 max_kernel_age=6", "each key once"),
        ("ann: max_kernel_age=-1", "max_kernel_age"),
        ("ann: max_kernel_age=1h", "max_kernel_age"),
        ("ann: cull_busy=maybe", "cull_busy"),
        ("ann: cull_interval=5", "cull_interval"),
        ("*: max_kernel_age=5", "only for names"),
    ],
)
def test_times_that_are_none_are_refused(text: str, words: str) -> None:
    """The message names the option and says what is wrong."""
    with pytest.raises(ConfigurationError, match="user_times") as refusal:
        parse_times("user_times", [text])
    assert words in str(refusal.value)
