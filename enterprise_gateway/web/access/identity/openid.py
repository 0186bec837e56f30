"""JWTs of an OpenID Connect provider (RFC 7519, RFC 8725)."""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import jwt

from enterprise_gateway.services.users import User
from enterprise_gateway.settings import IdentitySettings
from enterprise_gateway.web.access.identity.contract import ExpiredError
from enterprise_gateway.web.access.identity.jwks import ProviderKeys
from enterprise_gateway.web.access.identity.known_users import make_user

MAX_TOKEN_CHARS = 8192
LEEWAY_SECONDS = 30.0
"""How much the provider's clock may differ from ours."""


class OpenIDTokens:
    """Knows users by JWTs that the provider has signed for the gateway."""

    def __init__(self, settings: IdentitySettings, keys: ProviderKeys) -> None:
        self._settings = settings
        self._keys = keys

    async def identify(self, token: str, *, is_suspect: bool) -> User | None:
        """Return the user whom a JWT names.

        Raises:
            ExpiredError: It was right, and has expired.
            UnavailableError: The provider's keys cannot be had.
        """
        del is_suspect  # signatures cannot be guessed
        if len(token) > MAX_TOKEN_CHARS or token.count(".") != 2 or not token.isascii():
            return None
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, RecursionError):
            return None
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in self._settings.oidc_algorithms:
            return None
        key = await self._keys.find(key_id, algorithm)
        if key is None:
            return None
        claims: Mapping[str, Any] | None = None
        try:
            claims = self._verify(token, key, algorithm)
        except jwt.InvalidSignatureError:
            key = await self._keys.find_other(key_id, algorithm, key)
            if key is None:
                return None
            with suppress(jwt.InvalidSignatureError):
                claims = self._verify(token, key, algorithm)
        return None if claims is None else self._make_user(token, claims)

    def _verify(self, token: str, key: jwt.PyJWK, algorithm: str) -> Mapping[str, Any] | None:
        """Return the claims of a token, None if they are not as they must be.

        Raises:
            InvalidSignatureError: The key has not signed it.
            ExpiredError: All is right, but it has expired.
        """
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._settings.oidc_audience,
                issuer=self._settings.oidc_issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud"], "enforce_minimum_key_length": True},
            )
        except jwt.ExpiredSignatureError as exc:
            raise ExpiredError("The JWT of the request has expired: sign in again.") from exc
        except jwt.InvalidSignatureError:
            raise
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            return None
        return claims

    def _make_user(self, token: str, claims: Mapping[str, Any]) -> User | None:
        claim = self._settings.oidc_username_claim
        username, groups = claims.get(claim), claims.get(self._settings.oidc_groups_claim)
        if not isinstance(username, str):
            return None
        if claim == "email" and claims.get("email_verified") is not True:
            return None  # anyone may have entered it
        names = (
            [name for name in groups if isinstance(name, str)] if isinstance(groups, list) else []
        )
        digest = hashlib.sha256(token.encode()).hexdigest()[:16]
        expires = int(claims["exp"]) + LEEWAY_SECONDS
        return make_user(self._settings, username, names, f"jwt:{digest}", expires)
