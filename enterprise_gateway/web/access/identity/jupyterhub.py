"""JupyterHub's users, whose tokens the Hub itself judges.

`GET /user` with a token returns the model of its owner, and what the token may do
(https://jupyterhub.readthedocs.io/en/stable/reference/rest-api.html).
"""

import asyncio
import hashlib
import re
import time
from contextlib import suppress

import msgspec

from enterprise_gateway.errors import UnavailableError
from enterprise_gateway.services.tasks import BackgroundTasks
from enterprise_gateway.services.users import User
from enterprise_gateway.settings import IdentitySettings
from enterprise_gateway.web.access.identity.json_client import JSONClient
from enterprise_gateway.web.access.identity.known_users import make_user
from enterprise_gateway.web.access.identity.recent import Recent
from enterprise_gateway.web.access.identity.revocations import Revocations

ACCEPTED_SECONDS = 30.0
"""How long the Hub's word that a token is right is taken for true."""
REFUSED_SECONDS = 30.0
CHECK_SECONDS = 60.0
"""How often the Hub is asked again about a token that it has accepted.

What that has opened may be open although the token is not shown again.
"""
MAX_REMEMBERED = 4096
CONCURRENT_QUESTIONS = 16
QUESTION_SECONDS = 10.0
"""How long a question may take, the wait for its turn included."""
SERVICE_PREFIX = "service:"
"""Begins the names of the Hub's services, so that none is taken for a user of the same name."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{8,512}")
_WHAT = "JupyterHub"


class _Model(msgspec.Struct):
    name: str
    kind: str = "user"
    groups: list[str] = []
    scopes: list[str] = []


class JupyterHubTokens:
    """Asks the Hub about tokens."""

    def __init__(
        self, settings: IdentitySettings, client: JSONClient, revocations: Revocations
    ) -> None:
        self._settings = settings
        self._client = client
        self._revocations = revocations
        self._tasks = BackgroundTasks()
        self._accepted: Recent[bytes, User] = Recent(ACCEPTED_SECONDS, MAX_REMEMBERED)
        self._refused: Recent[bytes, bool] = Recent(REFUSED_SECONDS, MAX_REMEMBERED)
        self._turns = asyncio.Semaphore(CONCURRENT_QUESTIONS)
        self._turns_of_suspects = asyncio.Semaphore(1)
        self._turns_of_checks = asyncio.Semaphore(1)
        self._checks = BackgroundTasks()

    async def close(self) -> None:
        """End the questions under way."""
        await self._checks.cancel()
        await self._tasks.cancel()

    async def identify(self, token: str, *, is_suspect: bool) -> User | None:
        """Return the Hub's user of a token.

        Suspects have one question at a time between them, so that they do not occupy the Hub.

        Raises:
            UnavailableError: The Hub does not answer.
        """
        if not _TOKEN.fullmatch(token):
            return None
        key = hashlib.sha256(token.encode()).digest()
        now = time.monotonic()
        user = self._accepted.get(key, now)
        if user is not None or self._refused.get(key, now):
            return user
        turns = self._turns_of_suspects if is_suspect else self._turns
        return await self._ask_once(token, key, turns)

    async def _ask_once(self, token: str, key: bytes, turns: asyncio.Semaphore) -> User | None:
        task = self._tasks.begin_once(key, lambda: self._ask(token, key, turns))
        return await self._tasks.wait(task)

    async def _check(self, token: str, key: bytes) -> None:
        """Task root: ask about a token again and again, for as long as it is remembered."""
        while key in self._accepted:
            await asyncio.sleep(CHECK_SECONDS)
            async with self._turns_of_checks:
                if key in self._accepted:
                    with suppress(UnavailableError):
                        await self._ask_once(token, key, self._turns)

    async def _ask(self, token: str, key: bytes, turns: asyncio.Semaphore) -> User | None:
        try:
            async with asyncio.timeout(QUESTION_SECONDS), turns:
                model = await self._client.get(
                    _WHAT,
                    f"{self._settings.jupyterhub_api_url}/user",
                    _Model,
                    {"Authorization": f"token {token}"},
                )
        except TimeoutError as exc:
            raise UnavailableError(f"{_WHAT} is asked about too many tokens at once.") from exc
        former = self._accepted.pop(key)
        user = None if model is None else self._make_user(model, key)
        now = time.monotonic()
        if former is not None and former != user:  # it opens less now, or other things
            self._revocations.tell(former.credential)
        if user is None:
            self._refused.put(key, answer=True, now=now)
        else:
            self._accepted.put(key, user, now)
            self._checks.begin_once(key, lambda: self._check(token, key))
        return user

    def _make_user(self, model: _Model, key: bytes) -> User | None:
        is_service = model.kind == "service"
        if not is_service and model.name.startswith(SERVICE_PREFIX):
            return None
        if not any(_opens(self._settings, model, scope) for scope in model.scopes):
            return None
        name = f"{SERVICE_PREFIX}{model.name}" if is_service else model.name
        return make_user(self._settings, name, model.groups, f"jupyterhub:{key.hex()[:16]}")


def _opens(settings: IdentitySettings, model: _Model, scope: str) -> bool:
    """Return whether a scope of a token is one that opens the gateway.

    A token that its owner made for something else, such as to read who is there, opens nothing.
    """
    if settings.jupyterhub_service:
        own = f"access:services!service={settings.jupyterhub_service}"
        return scope in {"access:services", own}
    return scope in {"access:servers", f"access:servers!user={model.name}"} or scope.startswith(
        f"access:servers!server={model.name}/"
    )
