"""Requests as careful clients make them: tried again where that is safe."""

import itertools
from collections.abc import Sequence
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

ATTEMPTS = 6
BACKOFF = 0.1
"""Seconds before the second attempt; twice as long before each further one."""
TIMEOUT = 90.0

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
