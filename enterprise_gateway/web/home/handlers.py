"""`/`, the front page of the gateway, and errors as pages.

Browsers get HTML, since they alone name `text/html` in `Accept`; all other clients get JSON.
"""

import functools
import re
from http import HTTPStatus
from importlib import resources

from aiohttp import web
from yarl import URL

from enterprise_gateway._version import __version__
from enterprise_gateway.errors import UnavailableError
from enterprise_gateway.services.api.handlers import Permits
from enterprise_gateway.services.kernels.agents.state import ExecutionState
from enterprise_gateway.services.kernels.kernels import Kernels
from enterprise_gateway.services.rest import json_response
from enterprise_gateway.services.users import USER, User
from enterprise_gateway.settings import LiveSettings
from enterprise_gateway.web.access.authentication import ACCEPTED_TOKEN
from enterprise_gateway.web.access.refusals import takes_tokens
from enterprise_gateway.web.access.tokens import present_tokens
from enterprise_gateway.web.errors import ErrorResponse, Handler
from enterprise_gateway.web.home.clients import make_snippets
from enterprise_gateway.web.home.hub_sign_in import HubSignIn
from enterprise_gateway.web.home.page import Page
from enterprise_gateway.web.mount import mount_entries, route_path

_HOST = re.compile(r"[A-Za-z0-9._-]+(?::\d+)?|\[[0-9A-Fa-f:.]+\](?::\d+)?")
_NO_PAGE = (
    "There is no page at this address. JupyterLab and VS Code show notebooks and files; this "
    "gateway runs their kernels."
)
_KEPT_HEADERS = frozenset({"Allow", "Retry-After", "WWW-Authenticate"})


def routes(kernels: Kernels, live: LiveSettings, permits: Permits) -> list[web.RouteDef]:
    """Return the routes of this folder, relative to the base URL."""
    return [web.get("/", functools.partial(get_home, kernels, live, permits))]


def redirects(base_url: str) -> list[web.RouteDef]:
    """Return the routes outside the base URL that lead to the front page."""
    return mount_entries(functools.partial(redirect_home, base_url), base_url)


async def redirect_home(base_url: str, request: web.Request) -> web.Response:
    """Redirect to the front page, with the query."""
    query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
    raise web.HTTPFound(base_url + query)


async def get_home(
    kernels: Kernels, live: LiveSettings, permits: Permits, request: web.Request
) -> web.Response:
    """Answer name and version, or to a browser the page that says how to connect."""
    if not wants_html(request):
        response = json_response({"name": "Enterprise Gateway", "version": __version__})
        response.headers["Vary"] = "Accept"
        return response
    settings = live.current
    user = request[USER]
    token = request.get(ACCEPTED_TOKEN, "")
    is_listing = settings.access.list_kernels
    may_list = is_listing and await permits(request, "read", "kernels")
    return page_response(
        load_page().welcome(
            version=__version__,
            standing=_standing(user, token),
            kernels=await _count_running(kernels, user) if may_list else None,
            snippets=make_snippets(_base_address(request, live), token, is_listing=is_listing),
        )
    )


def _standing(user: User, token: str) -> tuple[str, bool]:
    """Return what the page says of the user's credentials, and whether there are any."""
    if user.is_named:
        return f"You are {user.display_name}.", True
    return ("The token is right.", True) if token else ("This gateway asks for no token.", False)


class ErrorPages:
    """Turns errors into pages for browsers."""

    def __init__(self, live: LiveSettings, sign_in: HubSignIn | None) -> None:
        """Serve.

        Args:
            live: The settings.
            sign_in: Where those who open the front page without credentials are sent; None: they
                are asked for a token.
        """
        self._live = live
        self._sign_in = sign_in

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer the request; with a page if that is an error, and a browser asked."""
        response = await handler(request)
        if not isinstance(response, ErrorResponse) or not wants_html(request):
            return response
        if self._sign_in is not None and self._may_sign_in(request, response):
            return self._sign_in.begin(request)
        page = page_response(self._render(request, response), HTTPStatus(response.status))
        for name in _KEPT_HEADERS & response.headers.keys():
            page.headers[name] = response.headers[name]
        return page

    def _may_sign_in(self, request: web.Request, response: ErrorResponse) -> bool:
        is_unknown = response.status == HTTPStatus.UNAUTHORIZED and not any(present_tokens(request))
        return is_unknown and route_path(request, self._live.current.server.base_url) == "/"

    def _render(self, request: web.Request, response: ErrorResponse) -> str:
        settings = self._live.current
        base_url = settings.server.base_url
        status = HTTPStatus(response.status)
        if status == HTTPStatus.UNAUTHORIZED and takes_tokens(settings):
            is_wrong = any(present_tokens(request))
            return load_page().sign_in(base_url=base_url, is_token_wrong=is_wrong)
        message = response.message or (_NO_PAGE if status == HTTPStatus.NOT_FOUND else "")
        return load_page().failure(heading=status.phrase, message=message, base_url=base_url)


def wants_html(request: web.Request) -> bool:
    """Return whether a request is a browser's, for a page to show."""
    is_read = request.method in {"GET", "HEAD"}
    return is_read and "text/html" in request.headers.get("Accept", "").lower()


def page_response(text: str, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    """Return the response for a page, with headers against caching, framing and foreign code."""
    return web.Response(
        body=text.encode("utf-8", "replace"),
        status=status,
        content_type="text/html",
        charset="utf-8",
        headers={
            "Cache-Control": "no-store",
            "Content-Security-Policy": load_page().policy,
            "Referrer-Policy": "no-referrer",
            "Vary": "Accept",
        },
    )


@functools.cache
def load_page() -> Page:
    """Read the template, once."""
    return Page(resources.files(__package__).joinpath("page.html").read_text("utf-8"))


async def _count_running(kernels: Kernels, user: User) -> int | None:
    """Return how many of a user's kernels run, None while an engine has not answered yet."""
    try:
        models = await kernels.models(user)
    except UnavailableError:
        return None
    return sum(model.execution_state is not ExecutionState.DEAD for model in models)


def _base_address(request: web.Request, live: LiveSettings) -> str:
    """Return the base URL as the client reached it.

    A `Host` that is no address is replaced: it would end up in commands that people copy.
    """
    server = live.current.server
    host = request.host if _HOST.fullmatch(request.host) else f"127.0.0.1:{server.port}"
    return f"{request.scheme}://{host}{URL(server.base_url).raw_path}"
