"""The connection to a Docker engine: requests and event streams with deadlines for all of them.

What is asked of the engine is in `docker_containers` and `docker_services`.
"""

import asyncio
import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import aiodocker
import aiohttp
import msgspec
from aiodocker.events import DockerEvents

from enterprise_gateway.errors import (
    ConfigurationError,
    ConflictError,
    GatewayError,
    NotFoundError,
    UnavailableError,
)
from enterprise_gateway.services.keepalive import keep_alive
from enterprise_gateway.settings import DockerSettings

DEFAULT_HOST = "unix:///var/run/docker.sock"
REQUEST_TIMEOUT = 10.0
"""Seconds until an engine that does not answer counts as unreachable."""
_CONCURRENT_REQUESTS = 16
_UNREACHABLE = 900
"""What aiodocker has in place of a status if there was no answer."""
_NO_MANAGER = "is not a swarm manager"
"""Part of the engine's answer 503 to everything about a swarm that it does not manage."""
_NOT_YET = "is being prepared"
"""The same answer has it if the engine is a manager that has not found the others yet."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class NotAManagerError(ConfigurationError):
    """The engine manages no swarm: it is in none, or a worker."""


class DockerEngine:
    """A connection to one engine.

    Lives on one event loop; `open` before use.
    """

    def __init__(self, settings: DockerSettings) -> None:
        self._settings = settings
        self.host = settings.host or DEFAULT_HOST
        self._docker: aiodocker.Docker | None = None
        self._obstacle = "The connection to the Docker engine is closed."
        self._requests = asyncio.Semaphore(_CONCURRENT_REQUESTS)
        self._answers = True

    def open(self) -> None:
        """Prepare the connection; the engine is not contacted yet.

        An address that cannot be used is an engine that cannot be reached: it keeps nobody from
        local kernels, so it is told to whoever asks for the engine.
        """
        try:
            connector, url = _connector(self.host, self._settings)
        except (OSError, ValueError) as exc:
            self._obstacle = f"DOCKER_HOST={self.host} is unusable: {exc}."
            return
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT)
        session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        self._docker = aiodocker.Docker(url, connector, session, timeout)

    async def close(self) -> None:
        """Close the connection; twice is fine."""
        if self._docker is not None:
            await self._docker.close()
            await self._docker.session.close()
            self._docker = None

    async def ping(self) -> None:
        """Raise `UnavailableError` if the engine does not answer."""
        async with self.request() as docker:
            await docker.version()

    async def network(self, name: str) -> Mapping[str, Any]:
        """Return what the engine knows of a network.

        Raises:
            NotFoundError: it has none of that name.
        """
        return await self.fetch(f"networks/{name}", dict[str, Any])

    async def fetch(
        self,
        path: str,
        kind: type[T],
        *,
        filters: Mapping[str, Sequence[str]] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> T:
        """Return the answer to `GET /path`, as far as `kind` has fields for it.

        Decoding a thousand services this way keeps the event loop for some milliseconds; making
        dictionaries of all that the engine says, as aiodocker does, takes several times longer.
        """
        query = {**(params or {}), **({"filters": json.dumps(filters)} if filters else {})}
        async with (
            self.request() as docker,
            docker._query(path, params=query) as response,  # noqa: SLF001 - nothing public gives the bytes
        ):
            return msgspec.json.decode(await response.read(), type=kind)

    async def head(self, path: str, params: Mapping[str, str]) -> Mapping[str, str] | None:
        """Return the headers of the answer to `HEAD /path`, None if it is 404.

        aiodocker looks for the words of an error in a body, which no answer to HEAD has.
        """
        async with (
            self.request() as docker,
            docker.session.head(docker._canonicalize_url(path), params=params) as response,  # noqa: SLF001 - see above
        ):
            if response.status == HTTPStatus.NOT_FOUND:
                return None
            if not response.ok:
                raise aiodocker.DockerError(response.status, f"HEAD {path}: {response.reason}")
            return response.headers

    @asynccontextmanager
    async def request(
        self, *, deadline: float = REQUEST_TIMEOUT
    ) -> AsyncIterator[aiodocker.Docker]:
        """Give the means to ask the engine something, with a deadline in seconds.

        Raises:
            NotFoundError, ConflictError: the engine says so.
            NotAManagerError: likewise.
            UnavailableError: it does not answer, or cannot do it now.
        """
        with self.translated():
            async with asyncio.timeout(deadline), self._requests:
                yield self.connected()

    @asynccontextmanager
    async def events(
        self, filters: Mapping[str, Sequence[str]], since: float
    ) -> AsyncIterator[AsyncIterator[Mapping[str, Any]]]:
        """Follow the engine's events; the iterator ends when the connection does.

        Args:
            filters: as `GET /events` takes them.
            since: seconds since the epoch; what the engine remembers from then on comes first.
        """
        events = DockerEvents(self.connected())  # type: ignore[no-untyped-call] # it has no annotations
        subscriber = events.channel.subscribe()
        receiving = asyncio.create_task(
            events.run(filters=json.dumps(filters), since=str(int(since)))
        )

        async def received() -> AsyncIterator[Mapping[str, Any]]:
            while (event := await subscriber.get()) is not None:  # type: ignore[no-untyped-call] # as above
                yield event
            with self.translated():
                await receiving

        try:
            yield received()
        finally:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)

    def connected(self) -> aiodocker.Docker:
        """Return the client itself, for what has no deadline."""
        if self._docker is None:
            raise UnavailableError(self._obstacle)
        return self._docker

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what aiodocker raises into this project's errors."""
        try:
            yield
        except aiodocker.DockerError as exc:
            raise _error_for(exc, self.host) from exc
        except TimeoutError as exc:
            raise UnavailableError(
                f"The Docker engine at {self.host} did not answer in time."
            ) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise UnavailableError(
                f"The connection to the Docker engine at {self.host} broke: {exc}."
            ) from exc

    def note_silence(self, error: UnavailableError) -> None:
        """Log once that whoever follows the engine has lost it."""
        if self._answers:
            _log.warning("%s Trying again until it can.", error)
        self._answers = False

    def note_answer(self) -> None:
        """Log once that it is back."""
        if not self._answers:
            _log.info("The Docker engine answers again")
        self._answers = True


def _error_for(error: aiodocker.DockerError, host: str) -> GatewayError:
    if error.status == _UNREACHABLE:
        return UnavailableError(
            f"The Docker engine at {host} cannot be reached. "
            "Is it running, and may the gateway's user use it?"
        )
    words = f"The Docker engine says: {error.message}"
    if _NO_MANAGER in error.message and _NOT_YET not in error.message:
        return NotAManagerError(words)
    kinds = {404: NotFoundError, 409: ConflictError}
    return kinds.get(error.status, UnavailableError)(words)


def _connector(host: str, settings: DockerSettings) -> tuple[aiohttp.BaseConnector, str]:
    """Return how to connect, and the URL that requests begin with.

    The pool is unlimited: streams hold connections as long as containers run, and must not keep
    requests waiting, whose number `DockerEngine` limits.
    """
    scheme, _, address = host.partition("://")
    if scheme == "unix":
        return aiohttp.UnixConnector(address, limit=0), "unix://localhost"
    if scheme not in ("tcp", "http", "https"):
        raise ValueError("it must begin with unix:// or tcp://")
    if not settings.tls_verify and scheme != "https":
        return aiohttp.TCPConnector(limit=0, socket_factory=_lasting_socket), f"http://{address}"
    certificates = Path(settings.cert_path) if settings.cert_path else Path.home() / ".docker"
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    connector = aiohttp.TCPConnector(limit=0, ssl=context, socket_factory=_lasting_socket)
    return connector, f"https://{address}"


def _lasting_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Return a socket that notices when its peer's machine is no more.

    Nothing would be written to a stream of events, so nothing else would tell.
    """
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    keep_alive(made)
    return made
