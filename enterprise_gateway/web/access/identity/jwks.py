"""The keys of an OpenID Connect provider (RFC 7517), fetched again when they change."""

import logging
import time
from typing import Any

import jwt
import msgspec

from enterprise_gateway.errors import UnavailableError
from enterprise_gateway.services.tasks import BackgroundTasks
from enterprise_gateway.settings import IdentitySettings
from enterprise_gateway.web.access.identity.json_client import JSONClient

REFRESH_SECONDS = 3600.0
"""After this the keys are fetched again while the old ones are still used."""
MAX_AGE_SECONDS = 24 * 3600.0
"""How old keys may become while the provider is away."""
RETRY_SECONDS = 30.0
"""How often keys are fetched at most: tokens may name any key."""
MAX_KEYS = 100

_WHAT = "The OpenID Connect provider"
_SYMMETRIC = "oct"

_log = logging.getLogger(__name__)


class _Configuration(msgspec.Struct):
    """Of OpenID Connect Discovery 1.0, section 3."""

    issuer: str
    jwks_uri: str


class _KeySet(msgspec.Struct):
    keys: list[dict[str, Any]]


class ProviderKeys:
    """The public keys of a provider, by their ids."""

    def __init__(self, settings: IdentitySettings, client: JSONClient) -> None:
        self._settings = settings
        self._client = client
        self._tasks = BackgroundTasks()
        self._keys: dict[str, dict[str, Any]] = {}
        self._fetched = -MAX_AGE_SECONDS
        self._tried = -RETRY_SECONDS
        self._made: dict[tuple[str, str], jwt.PyJWK] = {}

    async def close(self) -> None:
        """End what is under way."""
        await self._tasks.cancel()

    async def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        """Return the key of a token.

        Args:
            key_id: Its id; None is right if the provider has a single key.
            algorithm: That of the token, which must be one that is accepted.

        Returns:
            None if the provider has no such key, or has it for another algorithm.

        Raises:
            UnavailableError: The keys cannot be fetched.
        """
        age = time.monotonic() - self._fetched
        if age >= MAX_AGE_SECONDS or self._select(key_id) is None:
            await self._fetch_now_and_then()
        elif age >= REFRESH_SECONDS:
            self._tasks.begin_once("keys", self._refresh)
        if time.monotonic() - self._fetched >= MAX_AGE_SECONDS:
            raise UnavailableError(f"{_WHAT} has not told its keys, so no JWT can be verified.")
        selected = self._select(key_id)
        return None if selected is None else self._make(selected, algorithm)

    async def find_other(
        self, key_id: str | None, algorithm: str, former: jwt.PyJWK
    ) -> jwt.PyJWK | None:
        """Return the key of a token that another key of the same id has not signed, if it is new.

        Some providers have a single key without an id, and change it.

        Raises:
            UnavailableError: The keys cannot be fetched.
        """
        await self._fetch_now_and_then()
        found = await self.find(key_id, algorithm)
        return None if found is former else found

    async def _fetch_now_and_then(self) -> None:
        if self._tasks.is_running("keys") or time.monotonic() - self._tried >= RETRY_SECONDS:
            await self._tasks.wait(self._tasks.begin_once("keys", self._refresh))

    async def _refresh(self) -> None:
        """Fetch the keys; if that fails, those that are there stay."""
        self._tried = time.monotonic()
        try:
            found = await self._fetch()
        except UnavailableError as exc:
            _log.warning("The keys of JWTs cannot be fetched: %s", exc)
            return
        self._keys = found
        self._made = {}
        self._fetched = time.monotonic()

    async def _fetch(self) -> dict[str, dict[str, Any]]:
        url = self._settings.oidc_jwks_url or await self._discover()
        found = await self._client.get(_WHAT, url, _KeySet)
        if found is None:
            raise UnavailableError(f"{_WHAT} has no keys at {url}.")
        # an id may be missing if there is a single key, RFC 7517 section 4.5
        return {
            str(key.get("kid", "")): key
            for key in found.keys[:MAX_KEYS]
            if key.get("kty") != _SYMMETRIC and key.get("use", "sig") == "sig"
        }

    async def _discover(self) -> str:
        """Return the URL of the keys that the provider's configuration names."""
        issuer = self._settings.oidc_issuer
        url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        found = await self._client.get(_WHAT, url, _Configuration)
        if found is None or found.issuer != issuer:
            named = "" if found is None else f" for {issuer}, but for {found.issuer[:200]!r}"
            raise UnavailableError(f"{_WHAT} has no configuration at {url}{named}.")
        if issuer.startswith("https:") and not found.jwks_uri.startswith("https:"):
            raise UnavailableError(f"{_WHAT} has its keys at a URL without TLS.")
        return found.jwks_uri

    def _select(self, key_id: str | None) -> dict[str, Any] | None:
        if key_id is not None:
            return self._keys.get(key_id)
        return next(iter(self._keys.values())) if len(self._keys) == 1 else None

    def _make(self, key: dict[str, Any], algorithm: str) -> jwt.PyJWK | None:
        if key.get("alg", algorithm) != algorithm:
            return None
        index = (str(key.get("kid", "")), algorithm)
        made = self._made.get(index)
        if made is None:
            try:
                made = self._made[index] = jwt.PyJWK(key, algorithm)
            except (jwt.PyJWTError, ValueError, TypeError, KeyError):
                return None  # of another type than the algorithm's
        return made
