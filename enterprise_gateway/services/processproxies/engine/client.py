"""The connection to a Docker engine: requests with deadlines, and event streams.

The calls themselves are in `containers`, `services` and `images`.
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
from typing import Any, Protocol, TypeVar

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
REQUEST_SECONDS = 10.0
"""How long an engine may take to answer before it counts as unreachable."""
_CONCURRENT_REQUESTS = 16
_UNREACHABLE = 900
"""The status that aiodocker invents if there was no answer."""
_NO_MANAGER = "is not a swarm manager"
"""Part of the engine's answer 503 to requests about a swarm that it does not manage."""
_NOT_YET = "is being prepared"
"""Also part of that answer if the engine is a manager that is still looking for the others."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class EngineWorkloads(Protocol):
    """The containers, or the Swarm services, of one cluster of gateways.

    Methods take the engine's id of a workload, or its name, and may raise `UnavailableError`.
    """

    async def labels(self, engine_id: str, /) -> Mapping[str, str]:
        """Return the labels of a workload.

        Raises:
            NotFoundError: it is gone.
        """

    async def environment(self, engine_id: str, /) -> dict[str, str]:
        """Return the variables that a workload was created with, without those of its image.

        Raises:
            NotFoundError: it is gone.
        """

    async def log_tail(self, engine_id: str, /, max_lines: int) -> str:
        """Return the last lines that a workload printed, "" if it is gone."""

    async def remove(self, engine_id: str, /) -> None:
        """Remove a workload by force; removing one that is gone is no error."""


class NotAManagerError(ConfigurationError):
    """The engine manages no swarm: it is in none, or is a worker."""


class DockerEngine:
    """A connection to one engine.

    Lives on one event loop; `open` before use.
    """

    def __init__(self, settings: DockerSettings, home: Path = Path("/")) -> None:
        """Store the settings.

        Args:
            settings: where the engine is.
            home: the folder whose `.docker` holds the certificates if the settings name no folder.
        """
        self._settings = settings
        self._home = home
        self.host = settings.host or DEFAULT_HOST
        self._docker: aiodocker.Docker | None = None
        self._obstacle = "The connection to the Docker engine is closed."
        self._requests = asyncio.Semaphore(_CONCURRENT_REQUESTS)
        self._answers = True

    def open(self) -> None:
        """Prepare the connection; the engine is not contacted yet.

        An unusable address is treated like an engine that cannot be reached: requests fail, but
        local kernels can be started.
        """
        try:
            connector, url = _connector(self.host, self._settings, self._home)
        except (OSError, ValueError) as exc:
            self._obstacle = f"DOCKER_HOST={self.host} is unusable: {exc}."
            return
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        self._docker = aiodocker.Docker(url, connector, session, timeout)

    async def close(self) -> None:
        """Close the connection; closing it twice does no harm."""
        if self._docker is not None:
            await self._docker.close()
            await self._docker.session.close()
            self._docker = None

    async def ping(self) -> None:
        """Raise `UnavailableError` if the engine does not answer."""
        async with self.request() as docker:
            await docker.version()

    async def network(self, name: str) -> Mapping[str, Any]:
        """Return a network, `GET /networks/NAME`.

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
        """Return the answer to `GET /path`, decoded into the fields that `kind` declares.

        Decoding a thousand services this way blocks the event loop for some milliseconds. Decoding
        every field into dictionaries, as aiodocker does, takes several times longer.
        """
        query = {**(params or {}), **({"filters": json.dumps(filters)} if filters else {})}
        async with (
            self.request() as docker,
            docker._query(path, params=query) as response,  # noqa: SLF001 - nothing public gives the bytes
        ):
            return msgspec.json.decode(await response.read(), type=kind)

    async def head(self, path: str, params: Mapping[str, str]) -> Mapping[str, str] | None:
        """Return the headers of the answer to `HEAD /path`, None if it is 404.

        aiodocker would look for an error message in the body, and an answer to HEAD has none.
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
    async def posted(
        self, path: str, *, params: Mapping[str, str], headers: Mapping[str, str]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Send `POST /path`, and yield the lines of the answer, which may take any time.

        The iterator raises `UnavailableError` if the connection breaks.
        """
        with self.translated():
            docker = self.connected()
            async with (
                docker._query(  # noqa: SLF001 - see `fetch`
                    path, "POST", params=params, headers=headers, timeout=None
                ) as response,
                response,
            ):
                yield aiter(response.content)

    @asynccontextmanager
    async def request(
        self, *, deadline: float = REQUEST_SECONDS
    ) -> AsyncIterator[aiodocker.Docker]:
        """Yield the client for one request, which has a deadline in seconds.

        Raises:
            NotFoundError, ConflictError, NotAManagerError: the engine answers so.
            UnavailableError: it does not answer, or cannot carry out the request now.
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
            since: seconds since the epoch; remembered events from then on come first.
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
        """Return the client, for requests without a deadline."""
        if self._docker is None:
            raise UnavailableError(self._obstacle)
        return self._docker

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Translate aiodocker's errors into this project's."""
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

    def log_silence(self, error: UnavailableError) -> None:
        """Log, once, that the engine no longer answers."""
        if self._answers:
            _log.warning("%s Trying again until it answers.", error)
        self._answers = False

    def log_answer(self) -> None:
        """Log, once, that the engine answers again."""
        if not self._answers:
            _log.info("The Docker engine answers again")
        self._answers = True


def _error_for(error: aiodocker.DockerError, host: str) -> GatewayError:
    if error.status == _UNREACHABLE:
        return UnavailableError(
            f"The Docker engine at {host} cannot be reached. "
            "Is it running, and may the gateway's user use it?"
        )
    if error.message.lstrip().startswith("<"):
        # an HTML page: from a load balancer or proxy in between
        return UnavailableError(f"The Docker engine at {host} is away (status {error.status}).")
    words = f"The Docker engine says: {error.message}"
    if _NO_MANAGER in error.message and _NOT_YET not in error.message:
        return NotAManagerError(words)
    kinds = {404: NotFoundError, 409: ConflictError}
    return kinds.get(error.status, UnavailableError)(words)


def is_encrypted(host: str, settings: DockerSettings) -> bool:
    """Return whether the connection to the engine uses TLS."""
    scheme = host.partition("://")[0]
    return scheme == "https" or (settings.tls_verify and scheme != "unix")


def _connector(
    host: str, settings: DockerSettings, home: Path
) -> tuple[aiohttp.BaseConnector, str]:
    """Return how to connect, and the URL that requests begin with.

    The pool is unlimited: streams hold connections as long as containers run, and must not make
    requests wait. `DockerEngine` limits the number of the latter.
    """
    scheme, _, address = host.partition("://")
    if scheme == "unix":
        return aiohttp.UnixConnector(address, limit=0), "unix://localhost"
    if scheme not in ("tcp", "http", "https"):
        raise ValueError("it must begin with unix:// or tcp://")
    if not is_encrypted(host, settings):
        return aiohttp.TCPConnector(limit=0, socket_factory=_lasting_socket), f"http://{address}"
    certificates = Path(settings.cert_path) if settings.cert_path else home / ".docker"
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    connector = aiohttp.TCPConnector(limit=0, ssl=context, socket_factory=_lasting_socket)
    return connector, f"https://{address}"


def _lasting_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Return a socket with keep-alive, so that a stream of events ends if its peer's machine dies.

    Nothing is written to such a stream, so there is no other sign.
    """
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    keep_alive(made)
    return made
