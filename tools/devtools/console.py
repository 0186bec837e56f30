"""Output for the person at the terminal, one line a step with its time; commands and waits."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

POLL_SECONDS = 0.05


class SetupError(Exception):
    """A requirement is missing; the message names it and says what to do."""


def say(text: str) -> None:
    """Print a line to stderr, where it does not mix with what a program prints."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Announce `what`, and say how long it took."""
    say(f"{what} …")
    begin = time.monotonic()
    yield
    say(f"  {time.monotonic() - begin:.1f} s")


def run(command: Sequence[str], *, env: dict[str, str] | None = None) -> str:
    """Return what a command printed.

    Raises:
        SetupError: it is missing or failed; carries the last lines of its output.
    """
    try:
        done = subprocess.run(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError as exc:
        raise SetupError(f"{command[0]} is not installed") from exc
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-15:])
        raise SetupError(f"{' '.join(command)} failed ({done.returncode}):\n{tail}")
    return done.stdout.strip()


def wait_until(probe: Callable[[], object], timeout: float, what: str) -> None:
    """Call `probe` until it returns something true.

    Raises:
        SetupError: it did not in `timeout` seconds; names `what`.
    """
    deadline = time.monotonic() + timeout
    while not probe():
        if time.monotonic() > deadline:
            raise SetupError(f"{what}: not within {timeout:.0f} s")
        time.sleep(POLL_SECONDS)
