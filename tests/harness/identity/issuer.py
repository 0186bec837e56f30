"""An issuer of JWTs whose keys and tokens a test makes as it likes."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

AUDIENCE = "enterprise-gateway"
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def make_rsa_key() -> rsa.RSAPrivateKey:
    """Make a key for RS256."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_jwk(key: PrivateKey, **members: str) -> dict[str, Any]:
    """Return the public half of a key as a JWK, with other members."""
    if isinstance(key, rsa.RSAPrivateKey):
        public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        public = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**public, **members}


def public_pem(key: PrivateKey) -> bytes:
    """Return the public half of a key as PEM."""
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def encode_part(part: object) -> str:
    """Return one part of a JWT."""
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sign_hs256(header: dict[str, Any], claims: dict[str, Any], secret: bytes) -> str:
    """Return a JWT that is signed with a secret, whatever that is."""
    signed = f"{encode_part(header)}.{encode_part(claims)}"
    return f"{signed}.{encode_part(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


class Issuer:
    """Serves a configuration document and keys.

    Attributes:
        url: Its own.
        keys: What it serves as its keys.
        fetches: How often they were fetched.
        status: Of its answers.
    """

    def __init__(self) -> None:
        self.url = ""
        self.key = make_rsa_key()
        self.keys: list[dict[str, Any]] = [public_jwk(self.key, kid="one", use="sig")]
        self.fetches = 0
        self.status = 200
        self.claimed_issuer = ""

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return the claims of a good token, with changes; None leaves a claim out."""
        good = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "ann",
            "iat": int(time.time()),
            "exp": int(time.time()) + 600,
            "groups": ["ml"],
        }
        return {name: value for name, value in {**good, **changes}.items() if value is not None}

    def sign(
        self,
        claims: dict[str, Any] | None = None,
        *,
        key: PrivateKey | None = None,
        kid: str | None = "one",
        algorithm: str = "RS256",
        **header: Any,
    ) -> str:
        """Return a signed token."""
        headers = {**({"kid": kid} if kid is not None else {}), **header}
        claims = self.claims() if claims is None else claims
        return jwt.encode(claims, key or self.key, algorithm=algorithm, headers=headers)


@asynccontextmanager
async def serve_issuer() -> AsyncIterator[Issuer]:
    """Serve an issuer."""
    issuer = Issuer()

    async def configuration(_request: web.Request) -> web.Response:
        named = issuer.claimed_issuer or issuer.url
        return web.json_response({"issuer": named, "jwks_uri": f"{issuer.url}/keys"})

    async def keys(_request: web.Request) -> web.Response:
        issuer.fetches += 1
        return web.json_response({"keys": issuer.keys}, status=issuer.status)

    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", configuration)
    app.router.add_get("/keys", keys)
    async with TestServer(app) as server:
        issuer.url = str(server.make_url("")).rstrip("/")
        yield issuer
