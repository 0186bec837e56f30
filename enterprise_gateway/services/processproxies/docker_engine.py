"""The part of the Docker Engine API that process proxies need, with deadlines for all of it."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiodocker
import aiohttp
from aiodocker.events import DockerEvents

from enterprise_gateway.errors import (
    ConflictError,
    GatewayError,
    NotFoundError,
    UnavailableError,
)
from enterprise_gateway.services.processproxies.docker_workloads import KERNEL_LABELS, is_of_cluster
from enterprise_gateway.settings import DockerSettings

DEFAULT_HOST = "unix:///var/run/docker.sock"
REQUEST_TIMEOUT = 10.0
"""Seconds until an engine that does not answer counts as unreachable."""
REMOVE_TIMEOUT = 30.0
_CONCURRENT_REQUESTS = 16
_UNREACHABLE = 900
"""What aiodocker has in place of a status if there was no answer."""
_EVENTS = ("create", "start", "oom", "die", "destroy")


class DockerEngine:
    """A connection to one engine, which shows the containers of one cluster of gateways.

    Lives on one event loop; `open` before use.
    """

    def __init__(self, settings: DockerSettings, cluster_id: str) -> None:
        self._settings = settings
        self._cluster_id = cluster_id
        self.host = settings.host or DEFAULT_HOST
        self._docker: aiodocker.Docker | None = None
        self._obstacle = "The connection to the Docker engine is closed."
        self._requests = asyncio.Semaphore(_CONCURRENT_REQUESTS)

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
        async with self._request() as docker:
            await docker.version()

    async def containers(self, kernel_id: str | None = None) -> list[Mapping[str, Any]]:
        """Return the containers of all kernels, or of one, as `GET /containers/json` has them."""
        of_one = [] if kernel_id is None else [f"kernel_id={kernel_id}"]
        filters = {"label": [*KERNEL_LABELS, *of_one]}
        async with self._request() as docker:
            found = await docker.containers.list(all=True, filters=json.dumps(filters))
        keys = ("Id", "Names", "Labels", "State", "Status", "Created", "NetworkSettings")
        return [
            {key: container[key] for key in keys}
            for container in found
            if is_of_cluster(container["Labels"], self._cluster_id)
        ]

    async def container(self, container_id: str) -> Mapping[str, Any]:
        """Return what the engine knows of one container, `GET /containers/ID/json`.

        Raises:
            NotFoundError: it is gone.
        """
        async with self._request() as docker:
            inspected: Mapping[str, Any] = await docker.containers.container(container_id).show()
        return inspected

    async def network(self, name: str) -> Mapping[str, Any]:
        """Return what the engine knows of a network.

        Raises:
            NotFoundError: it has none of that name.
        """
        async with self._request() as docker:
            found = await docker.networks.get(name)
            inspected: Mapping[str, Any] = await found.show()
        return inspected

    async def remove(self, container_id: str) -> None:
        """Remove a container by force and wait until it is gone; gone already is no error."""
        try:
            async with self._request(deadline=REMOVE_TIMEOUT) as docker:
                await docker.containers.container(container_id).delete(force=True, v=True)
        except NotFoundError:
            return
        except ConflictError:  # somebody else, such as the engine after an exit, is removing it
            with contextlib.suppress(NotFoundError):
                async with self._request(deadline=REMOVE_TIMEOUT) as docker:
                    await docker.containers.container(container_id).wait(condition="removed")

    async def log_tail(self, container_id: str, max_lines: int) -> str:
        """Return the last lines that a container printed, "" if it is gone."""
        try:
            async with self._request() as docker:
                lines = await docker.containers.container(container_id).log(
                    stdout=True, stderr=True, tail=str(max_lines)
                )
        except (NotFoundError, ConflictError):
            return ""
        return "".join(lines)

    async def output(self, container_id: str) -> AsyncIterator[bytes]:
        """Yield what a container printed and prints, until it ends.

        To be called as soon as the container is created: one that the engine removes when it ends
        takes its log with it.
        """
        with self._translated():
            container = self._connected().containers.container(container_id)
            async with container.attach(stdout=True, stderr=True, logs=True) as stream:
                while message := await stream.read_out():
                    yield message.data

    @asynccontextmanager
    async def events(self, since: float) -> AsyncIterator[AsyncIterator[Mapping[str, Any]]]:
        """Follow the events of the kernels' containers; the iterator ends when the connection does.

        Args:
            since: seconds since the epoch; what the engine remembers from then on comes first.
        """
        events = DockerEvents(self._connected())  # type: ignore[no-untyped-call] # it has no annotations
        filters = {"type": ["container"], "label": KERNEL_LABELS, "event": _EVENTS}
        subscriber = events.channel.subscribe()
        receiving = asyncio.create_task(
            events.run(filters=json.dumps(filters), since=str(int(since)))
        )

        async def received() -> AsyncIterator[Mapping[str, Any]]:
            while (event := await subscriber.get()) is not None:  # type: ignore[no-untyped-call] # as above
                if is_of_cluster(event["Actor"]["Attributes"], self._cluster_id):
                    yield event
            with self._translated():
                await receiving

        try:
            yield received()
        finally:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)

    def _connected(self) -> aiodocker.Docker:
        if self._docker is None:
            raise UnavailableError(self._obstacle)
        return self._docker

    @asynccontextmanager
    async def _request(
        self, *, deadline: float = REQUEST_TIMEOUT
    ) -> AsyncIterator[aiodocker.Docker]:
        with self._translated():
            async with asyncio.timeout(deadline), self._requests:
                yield self._connected()

    @contextmanager
    def _translated(self) -> Iterator[None]:
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


def _error_for(error: aiodocker.DockerError, host: str) -> GatewayError:
    if error.status == _UNREACHABLE:
        return UnavailableError(
            f"The Docker engine at {host} cannot be reached. "
            "Is it running, and may the gateway's user use it?"
        )
    kinds = {404: NotFoundError, 409: ConflictError}
    return kinds.get(error.status, UnavailableError)(f"The Docker engine says: {error.message}")


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
        return aiohttp.TCPConnector(limit=0), f"http://{address}"
    certificates = Path(settings.cert_path) if settings.cert_path else Path.home() / ".docker"
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    return aiohttp.TCPConnector(limit=0, ssl=context), f"https://{address}"
