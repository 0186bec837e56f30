"""What the kernel could read of the agent, and what the agent says of it."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence

AGENT = (sys.executable, "-m", "kernel_agent")
TOKEN = "8c1f2d7e"
FAULTY = "EG_AGENT_SETTINGS"
"""Makes the agent end as soon as it has hidden itself."""
UNKNOWN_OPTION = """
from kernel_agent.system import exposure, prctl
prctl.PR_SET_DUMPABLE = 9999
exposure.hide_secrets()
"""


def complaints(command: Sequence[str]) -> list[str]:
    """Return what a process with the token says, but for its end."""
    env = {**os.environ, "EG_AGENT_TOKEN": TOKEN, FAULTY: "["}
    done = subprocess.run(command, env=env, stderr=subprocess.PIPE, text=True, check=False)
    assert TOKEN not in done.stderr
    return [line for line in done.stderr.splitlines() if FAULTY not in line]


def test_agent_says_where_its_token_is_shown() -> None:
    """By an init, or another program that stays above it and was given the same environment."""
    (line,) = complaints(["/bin/sh", "-c", '"$@"; exit 3', "sh", *AGENT])
    assert re.fullmatch(r"kernel_agent: .* the agent's token in /proc/\d+/environ", line)


def test_agent_that_hides_itself_says_nothing() -> None:
    """It is all that was given the token."""
    assert complaints(AGENT) == []


def test_agent_that_cannot_hide_says_so() -> None:
    """As where Linux does not know the call."""
    assert "cannot be hidden" in complaints([sys.executable, "-c", UNKNOWN_OPTION])[0]
