"""What an unauthenticated client is told: the cause, and how users show who they are."""

from aiohttp import web

from enterprise_gateway.settings import IdentitySettings, Settings
from enterprise_gateway.web.access.tokens import has_basic, present_tokens

_FORMS = (
    "Send {token} as 'Authorization: token TOKEN' (or 'Bearer TOKEN', or the password of HTTP "
    "Basic), as '?token=TOKEN', or as '/t/TOKEN' before the path. Jupyter servers take it from "
    "JUPYTER_GATEWAY_AUTH_TOKEN."
)
_BASIC_HINT = (
    "The request has an HTTP Basic header, which a Jupyter server sends in place of the token "
    "while JUPYTER_GATEWAY_HTTP_USER is set: unset it."
)


def takes_tokens(settings: Settings) -> bool:
    """Return whether a token of any kind opens the gateway."""
    return bool(settings.access.auth_token or _kinds_of_tokens(settings.identity))


def describe_refusal(settings: Settings, request: web.Request) -> str:
    """Return the message for a request whose user is not known."""
    identity = settings.identity
    kinds = _kinds_of_tokens(identity)
    if settings.access.auth_token:
        kinds.insert(0, "the gateway's token")
    parts = []
    if any(present_tokens(request)):
        parts.append("The token of the request is wrong.")
    elif kinds:
        parts.append("The request has no token.")
    else:
        parts.append("The request does not show who sends it.")
    if kinds:
        parts.append(_FORMS.format(token=" or ".join(kinds)))
    if identity.certificate_username:
        parts.append("A client's certificate with a user name in it is accepted.")
    if identity.proxy_user_header:
        parts.append("Users whom the proxy in front has signed in are accepted.")
    if has_basic(request):
        parts.append(_BASIC_HINT)
    return " ".join(parts)


def _kinds_of_tokens(identity: IdentitySettings) -> list[str]:
    kinds = []
    if identity.user_tokens_file:
        kinds.append("a token of your own")
    if identity.jupyterhub_api_url:
        kinds.append("a token of JupyterHub")
    if identity.oidc_issuer:
        kinds.append(f"a JWT of {identity.oidc_issuer}")
    return kinds
