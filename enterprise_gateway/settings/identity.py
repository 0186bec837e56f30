"""Settings of the ways by which the gateway knows its users, besides the shared token."""

from dataclasses import dataclass
from functools import partial

from enterprise_gateway.settings import parse
from enterprise_gateway.settings.option import option


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """Who the users are. Read at the start only."""

    user_tokens_file: str = option(
        "File with the users' tokens, which `jupyter enterprisegateway tokens` writes. Changes are"
        " in force within a second or two.",
        default="",
        env=("EG_USER_TOKENS_FILE",),
    )
    jupyterhub_api_url: str = option(
        "URL of JupyterHub's API, such as 'http://hub:8081/hub/api'; its users' tokens are then"
        " accepted.",
        default="",
        parse=partial(parse.base_http_url, "jupyterhub_api_url"),
        env=("EG_JUPYTERHUB_API_URL",),
    )
    """Without a slash at its end."""
    jupyterhub_service: str = option(
        "Name under which JupyterHub knows the gateway as a service: its tokens need the scope"
        " access:services for it. By default they need access:servers, as all users' own have.",
        default="",
        env=("EG_JUPYTERHUB_SERVICE",),
    )
    jupyterhub_public_url: str = option(
        "URL at which browsers reach JupyterHub, such as 'https://hub.example.org/hub'; who opens"
        " the front page is then signed in there. Requires `jupyterhub_service` and"
        " `jupyterhub_api_token_file`.",
        default="",
        parse=partial(parse.base_http_url, "jupyterhub_public_url"),
        env=("EG_JUPYTERHUB_PUBLIC_URL",),
    )
    """Without a slash at its end."""
    jupyterhub_api_token_file: str = option(
        "File with the API token that JupyterHub's configuration gives to the gateway as a"
        " service; it is needed for `jupyterhub_public_url` only.",
        default="",
        env=("EG_JUPYTERHUB_API_TOKEN_FILE",),
    )
    oidc_issuer: str = option(
        "URL of an OpenID Connect provider, exactly as in the claim iss of its tokens; its JWTs"
        " are then accepted.",
        default="",
        parse=partial(parse.http_url, "oidc_issuer"),
        env=("EG_OIDC_ISSUER",),
    )
    oidc_audience: str = option(
        "What the claim aud of JWTs must contain: the gateway's name at the provider. Required"
        " with `oidc_issuer`.",
        default="",
        env=("EG_OIDC_AUDIENCE",),
    )
    oidc_jwks_url: str = option(
        "URL of the provider's keys. By default its configuration document names it.",
        default="",
        parse=partial(parse.base_http_url, "oidc_jwks_url"),
        env=("EG_OIDC_JWKS_URL",),
    )
    oidc_algorithms: tuple[str, ...] = option(
        "Signature algorithms of JWTs that are accepted; only asymmetric ones can be listed.",
        default=("RS256", "ES256"),
        takes=list[str],
        parse=parse.jwt_algorithms,
        env=("EG_OIDC_ALGORITHMS",),
    )
    oidc_username_claim: str = option(
        "Claim of JWTs that is the user name. It must be one that users cannot choose themselves.",
        default="sub",
        env=("EG_OIDC_USERNAME_CLAIM",),
    )
    oidc_groups_claim: str = option(
        "Claim of JWTs that lists the user's groups.",
        default="groups",
        env=("EG_OIDC_GROUPS_CLAIM",),
    )
    certificate_username: str = option(
        "Which name in a client's certificate is the user name: 'common_name', or the one 'dns' or"
        " 'email' among its alternative names. Requires `client_ca`. By default certificates name"
        " no users.",
        default="",
        parse=parse.certificate_name,
        env=("EG_CERTIFICATE_USERNAME",),
    )
    proxy_user_header: str = option(
        "Header, such as 'X-Forwarded-User', in which a proxy that signs users in sends their"
        " names. It counts from the peers in `trusted_proxies` only, and requires that list.",
        default="",
        parse=parse.header_name,
        env=("EG_PROXY_USER_HEADER",),
    )
    admin_users: frozenset[str] = option(
        "Users who may use all kernels, whichever way they are known, except by the file of"
        " tokens, which has scopes of its own.",
        default=(),
        takes=list[str],
        parse=parse.name_set,
        env=("EG_ADMIN_USERS",),
    )
    admin_groups: frozenset[str] = option(
        "Groups whose members may use all kernels, like `admin_users`.",
        default=(),
        takes=list[str],
        parse=parse.name_set,
        env=("EG_ADMIN_GROUPS",),
    )
    acts_for: frozenset[tuple[str, str]] = option(
        "Services that may speak for other users, such as a Jupyter server of many: 'lab=ann' and"
        " 'lab=bob', or 'lab=*' for all. Tokens of the file have a list of their own.",
        default=(),
        takes=list[str],
        parse=parse.name_pairs,
        env=("EG_ACTS_FOR",),
    )
    """Service and user."""

    @property
    def is_configured(self) -> bool:
        """Whether there is another way to get in than the shared token."""
        return bool(
            self.user_tokens_file
            or self.jupyterhub_api_url
            or self.oidc_issuer
            or self.certificate_username
            or self.proxy_user_header
        )
