"""Signs browsers in at JupyterHub, as a service of the Hub does (OAuth 2.0, RFC 6749, section 4.1).

The token that the Hub makes is the user's own for this service; the front page is opened with it.
The gateway keeps nothing: what a sign-in must be recognized by is in a cookie of its browser.
https://jupyterhub.readthedocs.io/en/stable/reference/services.html
"""

import asyncio
import secrets
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, urlencode

import msgspec
from aiohttp import web

from enterprise_gateway.errors import (
    ConfigurationError,
    ForbiddenError,
    InvalidRequestError,
    UnavailableError,
)
from enterprise_gateway.settings import IdentitySettings
from enterprise_gateway.web.access.identity.json_client import JSONClient
from enterprise_gateway.web.access.identity.shared_token import is_same_secret

CALLBACK_PATH = "/oauth_callback"
"""Below the base URL; the Hub's `oauth_redirect_uri` for the service ends with it."""
COOKIE = "enterprise-gateway-sign-in"
SIGN_IN_SECONDS = 600
CONCURRENT_QUESTIONS = 4
QUESTION_SECONDS = 10.0

_MAX_CODE_CHARS = 1024
_MAX_ERROR_CHARS = 200
_WHAT = "JupyterHub"


class _Grant(msgspec.Struct):
    access_token: str


class HubSignIn:
    """The two steps of a sign-in: to the Hub, and back with a code that stands for a token."""

    def __init__(self, settings: IdentitySettings, base_url: str, client: JSONClient) -> None:
        """Read the secret that the Hub knows the gateway by.

        Raises:
            ConfigurationError: The file cannot be read, or is empty.
        """
        self._settings = settings
        self._base_url = base_url
        self._client = client
        self._client_id = f"service-{settings.jupyterhub_service}"
        self._secret = _read_secret(Path(settings.jupyterhub_api_token_file))
        self._turns = asyncio.Semaphore(CONCURRENT_QUESTIONS)

    def route(self) -> web.RouteDef:
        """Return the route to which the Hub sends browsers back."""
        return web.get(CALLBACK_PATH, self._answer_callback)

    def begin(self, request: web.Request) -> web.Response:
        """Send a browser to the Hub."""
        state = secrets.token_urlsafe(32)
        # the Hub knows the address to come back to, so the request does not say it
        query = urlencode({"client_id": self._client_id, "response_type": "code", "state": state})
        url = f"{self._settings.jupyterhub_public_url}/api/oauth2/authorize?{query}"
        response = _redirect(url)
        response.set_cookie(
            COOKIE,
            state,
            max_age=SIGN_IN_SECONDS,
            path=self._base_url,
            secure=request.secure,
            httponly=True,
            samesite="Lax",
        )
        return response

    async def _answer_callback(self, request: web.Request) -> web.Response:
        """Open the front page with the token for a code of the Hub.

        Raises:
            ForbiddenError: The browser has not begun this sign-in, or the Hub refuses it.
            InvalidRequestError: There is no code.
            UnavailableError: The Hub does not answer.
        """
        expected, state = request.cookies.get(COOKIE, ""), request.query.get("state", "")
        if not expected or not is_same_secret(state, expected):
            raise ForbiddenError(
                "This browser has begun no such sign-in within the last ten minutes. Open the "
                "gateway's front page to begin one."
            )
        if "error" in request.query:
            raise ForbiddenError(
                f"JupyterHub has not signed you in: {request.query['error'][:_MAX_ERROR_CHARS]}."
            )
        code = request.query.get("code", "")
        if not 0 < len(code) <= _MAX_CODE_CHARS:
            raise InvalidRequestError("The address that JupyterHub sent you to has no code.")
        token = await self._ask_for_token(code)
        response = _redirect(f"{self._base_url}?token={quote(token, safe='')}")
        response.del_cookie(COOKIE, path=self._base_url)
        return response

    async def _ask_for_token(self, code: str) -> str:
        form = {
            "grant_type": "authorization_code",
            "client_id": self._client_id,
            "client_secret": self._secret,
            "code": code,
        }
        url = f"{self._settings.jupyterhub_api_url}/oauth2/token"
        try:
            async with asyncio.timeout(QUESTION_SECONDS), self._turns:
                grant = await self._client.post(_WHAT, url, _Grant, form)
        except TimeoutError as exc:
            raise UnavailableError(f"{_WHAT} is asked about too many sign-ins at once.") from exc
        if grant is None:
            raise ForbiddenError(
                "JupyterHub does not know this sign-in, or not any more. Open the gateway's front "
                "page to begin another one; if that does not help, the operator should compare "
                "jupyterhub_service and jupyterhub_api_token_file with the Hub's configuration."
            )
        return grant.access_token


def _redirect(url: str) -> web.Response:
    return web.Response(
        status=HTTPStatus.FOUND,
        headers={"Location": url, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"},
    )


def _read_secret(path: Path) -> str:
    try:
        secret = path.read_text("utf-8").strip()
    except (OSError, ValueError) as exc:
        raise ConfigurationError(
            f"The file of the token for JupyterHub (jupyterhub_api_token_file) cannot be read: "
            f"{exc}."
        ) from exc
    if not secret:
        raise ConfigurationError(
            f"The file of the token for JupyterHub (jupyterhub_api_token_file) is empty: {path}."
        )
    return secret
