"""Users by JWTs of an OpenID Connect provider, and forgeries of such."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from harness.gateways.gateway import find_free_port
from harness.gateways.web_server import Served, serve_routes
from harness.identity.issuer import (
    AUDIENCE,
    Issuer,
    encode_part,
    make_rsa_key,
    public_jwk,
    public_pem,
    serve_issuer,
    sign_hs256,
)
from harness.identity.provider import Provider

from enterprise_gateway.settings import AccessSettings, IdentitySettings
from enterprise_gateway.web.access.identity import jwks

OTHER_KEY = make_rsa_key()
EC_KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    """An issuer that signs what a test wants."""
    async with serve_issuer() as served:
        yield served


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    """A running provider."""
    running = Provider(tmp_path)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@asynccontextmanager
async def serve_openid(url: str, **settings: Any) -> AsyncIterator[Served]:
    """Serve a gateway that accepts an issuer's tokens."""
    identity = IdentitySettings(oidc_issuer=url, oidc_audience=AUDIENCE, **settings)
    async with serve_routes(access=AccessSettings(), identity=identity) as served:
        yield served


async def ask(served: Served, token: str) -> tuple[int, str]:
    """Return the status of a request with a token, and its user, or the message of the error."""
    answer = await served.ask("/api/kernels", headers={"Authorization": f"Bearer {token}"})
    told = await answer.json()
    return answer.status, str(told.get("user") or told.get("message"))


# a real provider


async def test_token_of_a_real_provider_is_accepted(provider: Provider) -> None:
    """For the gateway, and not that for another program."""
    async with serve_openid(provider.issuer) as served:
        assert await ask(served, provider.sign_in("ann", AUDIENCE)) == (200, "ann")
        assert (await ask(served, provider.sign_in("ann", "another-program")))[0] == 401


async def test_real_provider_may_change_its_key(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new one is fetched, and the old one does not open anything any more."""
    monkeypatch.setattr(jwks, "RETRY_SECONDS", 0.0)
    async with serve_openid(provider.issuer) as served:
        old = provider.sign_in("ann", AUDIENCE)
        assert await ask(served, old) == (200, "ann")
        provider.stop()
        assert await ask(served, old) == (200, "ann")
        provider.start()
        assert await ask(served, provider.sign_in("bob", AUDIENCE)) == (200, "bob")
        assert (await ask(served, old))[0] == 401
        assert await ask(served, provider.sign_in("ann", AUDIENCE)) == (200, "ann")


async def test_provider_that_is_away_is_503() -> None:
    """Until its keys are known nothing can be verified; what is no JWT is 401."""
    async with serve_openid(f"http://127.0.0.1:{find_free_port()}") as served:
        token = jwt.encode({"sub": "ann"}, OTHER_KEY, algorithm="RS256", headers={"kid": "one"})
        assert (await ask(served, token))[0] == 503
        assert (await ask(served, "something-else"))[0] == 401


# forgeries


def unsigned(issuer: Issuer, algorithm: str) -> str:
    """Return a token without a signature."""
    header = {"alg": algorithm, "typ": "JWT", "kid": "one"}
    return f"{encode_part(header)}.{encode_part(issuer.claims())}."


def with_own_key(issuer: Issuer, **header: object) -> str:
    """Return a token with the forger's key in its header."""
    return issuer.sign(key=OTHER_KEY, **header)


FORGERIES: dict[str, Callable[[Issuer], str]] = {
    "alg none": lambda issuer: unsigned(issuer, "none"),
    "alg None": lambda issuer: unsigned(issuer, "None"),
    "alg empty": lambda issuer: unsigned(issuer, ""),
    "no signature": lambda issuer: unsigned(issuer, "RS256"),
    "alg none, old signature": lambda issuer: (
        unsigned(issuer, "none") + issuer.sign().rpartition(".")[2]
    ),
    "HS256 with the public key": lambda issuer: sign_hs256(
        {"alg": "HS256", "kid": "one"}, issuer.claims(), public_pem(issuer.key)
    ),
    "HS256 with the modulus": lambda issuer: sign_hs256(
        {"alg": "HS256", "kid": "one"}, issuer.claims(), issuer.keys[0]["n"].encode()
    ),
    "RS256 said, HS256 signed": lambda issuer: sign_hs256(
        {"alg": "RS256", "kid": "one"}, issuer.claims(), public_pem(issuer.key)
    ),
    "HS256 with a key that the set lists": lambda issuer: sign_hs256(
        {"alg": "HS256", "kid": "secret"}, issuer.claims(), b"x" * 32
    ),
    "RS512, which is not listed": lambda issuer: issuer.sign(algorithm="RS512"),
    "another key": lambda issuer: issuer.sign(key=OTHER_KEY),
    "another key, unknown kid": lambda issuer: issuer.sign(key=OTHER_KEY, kid="two"),
    "kid of another": lambda issuer: issuer.sign(kid="other"),
    "kid for encryption": lambda issuer: issuer.sign(key=OTHER_KEY, kid="enc"),
    "kid for another algorithm": lambda issuer: issuer.sign(key=OTHER_KEY, kid="rs512"),
    "no kid among several keys": lambda issuer: issuer.sign(kid=None),
    "kid that is a path": lambda issuer: issuer.sign(key=OTHER_KEY, kid="../../../dev/null"),
    "jwk in the header": lambda issuer: with_own_key(issuer, jwk=public_jwk(OTHER_KEY)),
    "jku in the header": lambda issuer: with_own_key(issuer, jku="http://evil.example/keys"),
    "x5u in the header": lambda issuer: with_own_key(issuer, x5u="http://evil.example/c.pem"),
    "unknown crit": lambda issuer: issuer.sign(crit=["exp2"], exp2=1),
    "wrong audience": lambda issuer: issuer.sign(issuer.claims(aud="another-program")),
    "list of wrong audiences": lambda issuer: issuer.sign(issuer.claims(aud=["a", "b"])),
    "no audience": lambda issuer: issuer.sign(issuer.claims(aud=None)),
    "wrong issuer": lambda issuer: issuer.sign(issuer.claims(iss="http://evil.example")),
    "issuer with a slash": lambda issuer: issuer.sign(issuer.claims(iss=f"{issuer.url}/")),
    "no issuer": lambda issuer: issuer.sign(issuer.claims(iss=None)),
    "no expiry": lambda issuer: issuer.sign(issuer.claims(exp=None)),
    "not yet": lambda issuer: issuer.sign(issuer.claims(nbf=int(time.time()) + 600)),
    "from the future": lambda issuer: issuer.sign(issuer.claims(iat=int(time.time()) + 600)),
    "no user": lambda issuer: issuer.sign(issuer.claims(sub=None)),
    "empty user": lambda issuer: issuer.sign(issuer.claims(sub="")),
    "user for all": lambda issuer: issuer.sign(issuer.claims(sub="*")),
    "user of pools": lambda issuer: issuer.sign(issuer.claims(sub="enterprise-gateway-pool")),
    "user with a line feed": lambda issuer: issuer.sign(issuer.claims(sub="ann\nroot")),
    "endless user": lambda issuer: issuer.sign(issuer.claims(sub="a" * 300)),
    "oversized": lambda issuer: issuer.sign(issuer.claims(more="x" * 9000)),
    "claims that are no object": lambda issuer: issuer.sign().replace(
        issuer.sign().split(".")[1], encode_part(["sub"])
    ),
    "header that is no object": lambda _: (
        f"{encode_part([])}.{encode_part({})}.{encode_part(b'x')}"
    ),
    "deep header": lambda _: f"{encode_part(b'[' * 5000)}.{encode_part({})}.e",
    "four parts": lambda issuer: f"{issuer.sign()}.x",
    "two parts": lambda issuer: issuer.sign().rpartition(".")[0],
    "only dots": lambda _: "..",
    "not base64": lambda _: "é.é.é",
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_forgery_is_refused(issuer: Issuer, name: str) -> None:
    """While a good token is accepted by the same gateway."""
    issuer.keys += [
        public_jwk(OTHER_KEY, kid="other"),
        public_jwk(OTHER_KEY, kid="enc", use="enc"),
        public_jwk(OTHER_KEY, kid="rs512", alg="RS512"),
        {"kty": "oct", "k": encode_part(b"x" * 32), "kid": "secret", "alg": "HS256"},
        {"kty": "unknown", "kid": "unknown"},
    ]
    async with serve_openid(issuer.url) as served:
        assert await ask(served, issuer.sign()) == (200, "ann")
        status, message = await ask(served, FORGERIES[name](issuer))
        assert (status, message[:28]) == (401, "The token of the request is ")
        assert await ask(served, issuer.sign()) == (200, "ann")


async def test_weak_key_signs_nothing(issuer: Issuer) -> None:
    """RFC 7518 section 3.3: at least 2048 bits."""
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - for this
    issuer.keys.append(public_jwk(weak, kid="weak"))
    async with serve_openid(issuer.url) as served:
        with pytest.warns(jwt.InsecureKeyLengthWarning):
            token = issuer.sign(key=weak, kid="weak")
        assert (await ask(served, token))[0] == 401


async def test_expired_token_is_told_apart(issuer: Issuer) -> None:
    """Only if it was right: a forger learns nothing. Clocks may differ by some seconds."""
    async with serve_openid(issuer.url) as served:
        now = int(time.time())
        expired = issuer.claims(exp=now - 60)
        assert await ask(served, issuer.sign(expired)) == (
            401,
            "The JWT of the request has expired: sign in again.",
        )
        forged = issuer.sign(expired, key=OTHER_KEY)
        assert "is wrong" in (await ask(served, forged))[1]
        assert await ask(served, issuer.sign(issuer.claims(exp=now - 5))) == (200, "ann")


async def test_claims_name_user_and_groups(issuer: Issuer) -> None:
    """As the operator has set; an address counts only if the provider has verified it."""
    settings = {
        "oidc_username_claim": "email",
        "oidc_groups_claim": "roles",
        "admin_groups": frozenset({"admins"}),
    }
    async with serve_openid(issuer.url, **settings) as served:
        claims = issuer.claims(
            email="ann@example.org", email_verified=True, roles=["admins", "*", 5, ""]
        )
        headers = {"Authorization": f"Bearer {issuer.sign(claims)}"}
        told = await (await served.ask("/api/kernels", headers=headers)).json()
        assert (told["user"], told["groups"]) == ("ann@example.org", ["admins"])
        assert told["scopes"] == ["admin", "kernels"]
        for unverified in (False, None, "true"):
            claims = issuer.claims(email="ann@example.org", email_verified=unverified)
            assert (await ask(served, issuer.sign(claims)))[0] == 401


async def test_elliptic_keys_and_lists_of_audiences_are_accepted(issuer: Issuer) -> None:
    """ES256 is listed by default; a set of one key needs no kid."""
    issuer.keys = [public_jwk(EC_KEY)]
    async with serve_openid(issuer.url) as served:
        claims = issuer.claims(aud=["other", AUDIENCE])
        token = issuer.sign(claims, key=EC_KEY, kid=None, algorithm="ES256")
        assert await ask(served, token) == (200, "ann")
        assert (await ask(served, issuer.sign(kid=None)))[0] == 401


async def test_unknown_keys_are_fetched_seldom(issuer: Issuer) -> None:
    """Whatever ids tokens name: the provider is not flooded by ours."""
    async with serve_openid(issuer.url) as served:
        assert await ask(served, issuer.sign()) == (200, "ann")
        for number in range(50):
            assert (await ask(served, issuer.sign(kid=f"unknown {number}")))[0] in {401, 429}
    assert issuer.fetches == 1


@pytest.mark.parametrize("fault", ["status", "issuer", "keys"])
async def test_faulty_provider_opens_nothing(issuer: Issuer, fault: str) -> None:
    """One that is another's, or has no usable keys."""
    if fault == "status":
        issuer.status = 500
    elif fault == "issuer":
        issuer.claimed_issuer = "http://evil.example"
    else:
        issuer.keys = [{"kid": "one"}, {"kty": "RSA", "kid": "one", "n": "!", "e": "AQAB"}]
    async with serve_openid(issuer.url) as served:
        assert (await ask(served, issuer.sign()))[0] == (401 if fault == "keys" else 503)


async def test_url_of_the_keys_may_be_set(issuer: Issuer) -> None:
    """For a provider without a configuration document."""
    issuer.claimed_issuer = "http://evil.example"
    async with serve_openid(issuer.url, oidc_jwks_url=f"{issuer.url}/keys") as served:
        assert await ask(served, issuer.sign()) == (200, "ann")
