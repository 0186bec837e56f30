"""A real JupyterHub: its API, without a proxy in front and without servers of users."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import requests

from harness.gateways.gateway import find_free_port
from harness.waiting import wait_until

MAKER_TOKEN = "a-token-of-a-service-that-makes-tokens"
GATEWAY_TOKEN = "a-token-of-the-gateway-itself"

_CONFIGURATION = """
import sys

from jupyterhub.proxy import Proxy

class NoProxy(Proxy):
    should_start = False

    async def get_all_routes(self):
        return {{}}

    async def add_route(self, routespec, target, data):
        pass

    async def delete_route(self, routespec):
        pass

c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.hub_ip = "127.0.0.1"
c.JupyterHub.hub_port = {port}
c.JupyterHub.authenticator_class = "dummy"
c.JupyterHub.db_url = "sqlite:///{folder}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{folder}/cookie_secret"
c.JupyterHub.load_groups = {{"ml": {{"users": ["ann"]}}}}
c.JupyterHub.services = [
    {{"name": "maker", "api_token": "{maker}"}},
    {{
        "name": "gateway",
        "api_token": "{gateway}",
        "oauth_redirect_uri": "{gateway_url}/oauth_callback",
        "oauth_no_confirm": True,
    }},
]
c.JupyterHub.load_roles = [
    {{
        "name": "maker",
        "scopes": ["admin:users", "tokens", "access:services!service=gateway"],
        "services": ["maker"],
    }},
    {{"name": "user", "scopes": ["self", "access:services!service=gateway"]}},
]
"""


class Hub:
    """A JupyterHub with the users ann, who is in the group ml, and bob."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = find_free_port()
        self.gateway_port = find_free_port()
        """Where the gateway is to which the Hub sends browsers back."""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL for browsers."""
        return f"http://127.0.0.1:{self._port}/hub"

    @property
    def api_url(self) -> str:
        """The URL of its API."""
        return f"{self.url}/api"

    def start(self) -> None:
        """Start it, and return when it answers."""
        path = self._folder / "jupyterhub_config.py"
        path.write_text(
            _CONFIGURATION.format(
                port=self._port,
                folder=self._folder,
                maker=MAKER_TOKEN,
                gateway=GATEWAY_TOKEN,
                gateway_url=f"http://127.0.0.1:{self.gateway_port}",
            )
        )
        with (self._folder / "hub.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "-f", str(path)],
                cwd=self._folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(self._answers, what="JupyterHub answers")
        for name in ("ann", "bob"):
            if name not in self.usernames():
                self.ask("POST", f"/users/{name}")

    def stop(self) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def make_token(self, username: str, scopes: list[str] | None = None) -> tuple[str, str]:
        """Make a token for a user; return it and its id."""
        body = {} if scopes is None else {"scopes": scopes}
        made = self.ask("POST", f"/users/{username}/tokens", body)
        return made["token"], made["id"]

    def sign_in(self, browser: requests.Session, username: str) -> None:
        """Sign a user in with the form of the Hub."""
        page = browser.get(f"{self.url}/login", timeout=60)
        page.raise_for_status()
        form = {"username": username, "password": "", "_xsrf": browser.cookies["_xsrf"]}
        answer = browser.post(f"{self.url}/login", data=form, timeout=60, allow_redirects=False)
        assert answer.status_code == 302, answer.text

    def usernames(self) -> set[str]:
        """Return the names of the users."""
        return {user["name"] for user in self.ask("GET", "/users")}

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Make a request of the service that makes tokens."""
        answer = requests.request(
            method,
            self.api_url + path,
            json=body,
            headers={"Authorization": f"token {MAKER_TOKEN}"},
            timeout=60,
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def _answers(self) -> bool:
        assert self._process is not None
        log = (self._folder / "hub.log").read_text(errors="replace")
        assert self._process.poll() is None, log
        try:
            return requests.get(self.api_url, timeout=5).ok
        except OSError:
            return False
