"""Requests as careful clients make them: tried again where that is safe."""

import itertools
import logging
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from typing import Any, Self

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

ATTEMPTS = 6
BACKOFF = 0.1
"""Seconds before the second attempt; twice as long before each further one."""
TIMEOUT = 240.0
PAUSE = 0.2
"""Seconds between two turns of a load."""

IDEMPOTENT = Retry(
    total=ATTEMPTS,
    allowed_methods={"GET", "DELETE", "PUT", "PATCH"},
    status_forcelist={502, 503, 504},
    backoff_factor=BACKOFF,
)
"""RFC 9110 section 9.2.2; a PATCH of a session sets what it names, so twice is as good as once."""
START = Retry(
    total=ATTEMPTS,
    read=False,
    allowed_methods={"POST"},
    status_forcelist=(),
    backoff_factor=BACKOFF,
)
"""A POST: again only if no connection was made, or the answer is 503 with `Retry-After`."""

logger = logging.getLogger(__name__)


class RestClient:
    """A client of several gateways that takes the next one for each request."""

    def __init__(self, urls: Sequence[str], token: str) -> None:
        self._urls = itertools.cycle(urls)
        self._http = make_session(token, IDEMPOTENT)
        self._posts = make_session(token, START)
        self._posts.headers["Connection"] = "close"
        self.requests = 0
        self.retries = 0

    def ask(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """Make a request; `path` begins with a slash.

        Raises:
            requests.RequestException: all attempts failed.
        """
        http = self._posts if method == "POST" else self._http
        response = http.request(method, next(self._urls) + path, timeout=TIMEOUT, **arguments)
        self.requests += 1
        self.retries += len(response.raw.retries.history)
        return response

    def get(self, path: str) -> Any:
        """Return the JSON of a GET that must succeed."""
        response = self.ask("GET", path)
        assert response.status_code == 200, response.text
        return response.json()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
        self._posts.close()


def make_session(token: str, retry: Retry) -> requests.Session:
    """Return a session that retries so."""
    session = requests.Session()
    session.headers["Authorization"] = f"token {token}"
    session.mount("http://", HTTPAdapter(max_retries=retry))
    return session


class RestLoad:
    """Makes requests all the time, and keeps what a careful client could not get done."""

    def __init__(self, url: str, token: str, username: str, kernels: Collection[str]) -> None:
        """`kernels` must be found again and again; others are started and deleted."""
        self.failures: list[str] = []
        self.starts = 0
        self._url = url
        self._token = token
        self._body = {"name": "python_docker", "env": {"KERNEL_USERNAME": username}}
        self._kernels = kernels
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(turn,))
            for turn in (self._look, self._start_and_delete)
        ]
        self.clients: list[RestClient] = []

    def __enter__(self) -> Self:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, when the requests under way are answered."""
        self._is_over.set()
        for thread in self._threads:
            thread.join()
        logger.info("%s", self)

    def __str__(self) -> str:
        """Return one line for a report."""
        made = sum(client.requests for client in self.clients)
        retries = sum(client.retries for client in self.clients)
        return (
            f"{made} requests, {self.starts} starts among them; {retries} retries,"
            f" {len(self.failures)} failures"
        )

    def _repeat(self, turn: Callable[[RestClient], None]) -> None:
        with closing(RestClient([self._url], self._token)) as client:
            self.clients.append(client)
            while not self._is_over.wait(PAUSE):
                try:
                    turn(client)
                except requests.RequestException as error:
                    self.failures.append(f"after {client.requests} requests: {error!r}")

    def _look(self, client: RestClient) -> None:
        for kernel_id in self._kernels:
            self._judge(client.ask("GET", f"/api/kernels/{kernel_id}"), 200)
        listed = client.ask("GET", "/api/kernels")
        self._judge(listed, 200)
        missing = set(self._kernels) - {model["id"] for model in listed.json()}
        self.failures.extend(f"{kernel_id} was not listed" for kernel_id in missing)

    def _start_and_delete(self, client: RestClient) -> None:
        started = client.ask("POST", "/api/kernels", json=self._body)
        self._judge(started, 201)
        if started.status_code == 201:
            self.starts += 1
            path = f"/api/kernels/{started.json()['id']}"
            self._judge(client.ask("GET", path), 200)
            self._judge(client.ask("DELETE", path), 204)

    def _judge(self, response: requests.Response, expected: int) -> None:
        if response.status_code != expected:
            request = f"{response.request.method} {response.request.path_url}"
            self.failures.append(f"{request}: {response.status_code} {response.text}")
