"""The Docker engine to work with: the one the machine offers, or a private one."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from enum import Enum
from pathlib import Path

from docker import DockerClient
from docker.context import ContextAPI
from docker.errors import DockerException
from requests.exceptions import RequestException

from devtools import private_engine
from devtools.console import SetupError, say

PING_TIMEOUT = 5
"""Seconds in which an engine answers a ping, however busy it is."""

REQUEST_TIMEOUT = 600
"""Seconds without a byte from the engine after which a pull or build is given up."""


class EngineChoice(Enum):
    """Which engine the caller wants."""

    ANY = "the machine's own, a private one where none answers"
    PRIVATE = "a private one, even if the machine has its own"
    NONE = "none"


@contextmanager
def engine(choice: EngineChoice) -> Iterator[str | None]:
    """Yield `DOCKER_HOST` for the chosen engine; None if no engine can be used.

    A private engine lives while the context is entered. The machine's own is never stopped.

    Raises:
        SetupError: the engine that a variable names does not answer.
    """
    host = find(os.environ) if choice is EngineChoice.ANY else None
    named = name_choice(os.environ)
    if choice is EngineChoice.ANY and host is None and named:
        raise SetupError(
            f"the Docker engine that {named} names does not answer. Start it, unset the variable, "
            "or say --private-engine for an engine of our own or --no-engine for none"
        )
    with ExitStack() as stack:
        if host:
            say(f"Docker engine: {host}")
        elif choice is not EngineChoice.NONE:
            try:
                host = stack.enter_context(private_engine.lease(private_engine.default_paths()))
            except SetupError as exc:
                say(f"No Docker engine, so kernels are local processes: {exc}")
        yield host


def find(environ: Mapping[str, str]) -> str | None:
    """Return the address of the first engine that answers."""
    return next((host for host in candidates(environ) if answers(host)), None)


def name_choice(environ: Mapping[str, str]) -> str:
    """Return the variable by which the user has chosen an engine, "" if there is none."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        if environ.get(name):
            return f"{name} ({environ[name]})"
    return ""


def candidates(environ: Mapping[str, str]) -> list[str]:
    """Return the addresses where an engine may listen, in the order of the docker command.

    An explicit `DOCKER_HOST` or `DOCKER_CONTEXT` excludes all others, even if none answers there.
    """
    if environ.get("DOCKER_HOST"):
        return [environ["DOCKER_HOST"]]
    context = ContextAPI.get_context(environ.get("DOCKER_CONTEXT"))
    runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    chosen = context.Host if context is not None else None
    if environ.get("DOCKER_CONTEXT"):
        return [chosen] if chosen else []
    usual = ["unix:///var/run/docker.sock", f"unix://{runtime}/docker.sock"]
    return [chosen, *(host for host in usual if host != chosen)] if chosen else usual


def connect(host: str, timeout: int = REQUEST_TIMEOUT) -> DockerClient:
    """Return a client for the engine at `host`, with TLS if `DOCKER_TLS_VERIFY` says so."""
    return DockerClient.from_env(
        environment={**os.environ, "DOCKER_HOST": host}, timeout=timeout, version="auto"
    )


def answers(host: str) -> bool:
    """Whether an engine answers at this address."""
    if host.startswith("unix://") and not Path(host.removeprefix("unix://")).is_socket():
        return False
    try:
        client = connect(host, PING_TIMEOUT)
    except (DockerException, RequestException, ImportError):  # ssh:// needs what is not installed
        return False
    client.close()
    return True
