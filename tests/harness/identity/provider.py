"""A real OpenID Connect provider, as a process of its own; each start of it has a new key."""

import subprocess
import sys
import urllib.parse
from pathlib import Path

import requests

from harness.gateways.gateway import find_free_port
from harness.waiting import wait_until

REDIRECT = "http://localhost/callback"


class Provider:
    """The package `oidc-provider-mock`, which signs everyone in."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "provider.log"
        self._port = find_free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def issuer(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, and return when it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "oidc_provider_mock", "--port", str(self._port)],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(self._answers, what="the provider answers")

    def stop(self) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def sign_in(self, subject: str, client: str) -> str:
        """Return the ID token that a user gets who signs in for a client."""
        answer = requests.post(
            f"{self.issuer}/oauth2/authorize",
            params={
                "response_type": "code",
                "client_id": client,
                "redirect_uri": REDIRECT,
                "scope": "openid",
            },
            data={"sub": subject},
            allow_redirects=False,
            timeout=60,
        )
        location = urllib.parse.urlsplit(answer.headers["Location"])
        answer = requests.post(
            f"{self.issuer}/oauth2/token",
            data={
                "grant_type": "authorization_code",
                "code": urllib.parse.parse_qs(location.query)["code"][0],
                "redirect_uri": REDIRECT,
                "client_id": client,
                "client_secret": "any",
            },
            timeout=60,
        )
        answer.raise_for_status()
        return str(answer.json()["id_token"])

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text(errors="replace")
        try:
            return requests.get(f"{self.issuer}/jwks", timeout=5).ok
        except OSError:
            return False
