"""Whatever a client sends as its token: it is refused, and nothing breaks."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

from harness.identity.issuer import AUDIENCE, make_rsa_key, public_jwk
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from enterprise_gateway.settings import (
    AccessSettings,
    IdentitySettings,
    LiveSettings,
    Settings,
)
from enterprise_gateway.web.access.identity.contract import Sender
from enterprise_gateway.web.access.identity.identities import Identities
from enterprise_gateway.web.access.identity.json_client import JSONClient

KEYS = {"keys": [public_jwk(make_rsa_key(), kid="one")]}
MODEL: dict[str, Any] = {"name": "ann", "scopes": []}


class Answers(JSONClient):
    """Answers as servers do that know no token."""

    async def get(self, what: str, url: str, kind: type[Any], headers: object = None) -> Any:
        """Return keys or a user without rights."""
        del what, headers
        return kind(**(KEYS if url.endswith("keys") else MODEL))


def encode(value: object) -> str:
    """Return a part of a JWT."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3)
    ),
    max_leaves=5,
)
headers = st.fixed_dictionaries(
    {},
    optional={
        "alg": st.sampled_from(["RS256", "ES256", "none", "HS256"]) | values,
        "kid": st.just("one") | values,
        "typ": values,
        "crit": values,
        "b64": values,
        "jwk": values,
    },
)
claims = st.fixed_dictionaries(
    {},
    optional={
        "iss": st.just("http://issuer") | values,
        "aud": st.just(AUDIENCE) | values,
        "sub": values,
        "exp": values,
        "nbf": values,
    },
)
jwts = st.builds(
    lambda header, body, signature: f"{encode(header)}.{encode(body)}.{signature}",
    headers | values,
    claims | values,
    st.binary(max_size=300).map(lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("=")),
)


def make_identities(folder: Path) -> Identities:
    """Return all ways by which a token may be known."""
    path = folder / "tokens.json"
    path.write_text("{}")
    settings = Settings(
        access=AccessSettings(auth_token="a-shared-token"),
        identity=IdentitySettings(
            user_tokens_file=str(path),
            jupyterhub_api_url="http://hub",
            oidc_issuer="http://issuer",
            oidc_audience=AUDIENCE,
            oidc_jwks_url="http://issuer/keys",
        ),
    )
    return Identities(LiveSettings(settings), Answers())


def test_unknown_token_is_wrong(tmp_path: Path) -> None:
    """And no exception but those of the interface comes out."""

    @given(st.text(max_size=200) | st.text(st.characters(codec=None), max_size=50) | jwts)
    def check(token: str) -> None:
        async def identify() -> None:
            identities = make_identities(tmp_path)
            sender = Sender("192.0.2.1", None, CIMultiDict())
            found = await identities.identify([token], sender, is_suspect=False)
            assert found.user is None
            assert found.wrong == (token,)
            assert found.fault is None

        asyncio.run(identify())

    check()
