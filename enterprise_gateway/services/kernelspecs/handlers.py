"""`/api/kernelspecs` and the files of kernelspecs.

Shapes as in jupyter_server's services/kernelspecs and kernelspecs handlers; `?user=` as in
Enterprise Gateway.
"""

import asyncio
import functools
from pathlib import Path
from urllib.parse import quote, unquote

import msgspec
from aiohttp import web

from enterprise_gateway.errors import ForbiddenError, NotFoundError
from enterprise_gateway.services.kernelspecs.access import Access, decide_access
from enterprise_gateway.services.kernelspecs.kernelspec import Kernelspec
from enterprise_gateway.services.kernelspecs.kernelspecs import Kernelspecs
from enterprise_gateway.services.rest import json_response
from enterprise_gateway.services.users import USER
from enterprise_gateway.settings import LiveSettings, Settings

PNG_MAX_AGE_SECONDS = 30 * 24 * 60 * 60


def routes(kernelspecs: Kernelspecs, live: LiveSettings) -> list[web.RouteDef]:
    """Return the routes of this folder, relative to the base URL."""
    resource = functools.partial(get_resource, kernelspecs, live)
    return [
        web.get("/api/kernelspecs", functools.partial(list_kernelspecs, kernelspecs, live)),
        web.get("/api/kernelspecs/{name}", functools.partial(get_kernelspec, kernelspecs, live)),
        web.get("/kernelspecs/{name}/{path:.+}", resource, allow_head=True),
    ]


async def list_kernelspecs(
    kernelspecs: Kernelspecs, live: LiveSettings, request: web.Request
) -> web.Response:
    """Answer all kernelspecs, or those that the request's user, or `?user=`, may use.

    jupyter_server's gateway client asks for one kernelspec with `?user=<user>/<name>` on this path
    when `KERNEL_USERNAME` is set (it appends the name to the query). If `<name>` is a kernelspec,
    that is what it gets.
    """
    settings = live.current
    wanted = request.query.get("user")
    specs = await kernelspecs.all()
    if wanted is not None and "/" in wanted:
        head, _, name = wanted.rpartition("/")
        spec = specs.get(unquote(name).lower())
        if spec is not None:
            return _model_for(request[USER].name_for(head), spec, live)
    user = request[USER].name_for(wanted)
    if user is not None:
        specs = {
            name: spec
            for name, spec in specs.items()
            if decide_access(user, spec.config, settings.kernels) is Access.GRANTED
        }
    base_url = settings.server.base_url
    return json_response(
        {
            "default": await kernelspecs.default_name(),
            "kernelspecs": {name: kernelspec_model(spec, base_url) for name, spec in specs.items()},
        }
    )


async def get_kernelspec(
    kernelspecs: Kernelspecs, live: LiveSettings, request: web.Request
) -> web.Response:
    """Answer one kernelspec."""
    spec = await kernelspecs.get(request.match_info["name"])
    return _model_for(request[USER].name_for(request.query.get("user")), spec, live)


async def get_resource(
    kernelspecs: Kernelspecs, live: LiveSettings, request: web.Request
) -> web.FileResponse:
    """Answer a file of a kernelspec's folder, such as its logo."""
    spec = await kernelspecs.get(request.match_info["name"])
    _check_access(request[USER].name_for(request.query.get("user")), spec, live.current)
    path = request.match_info["path"]
    file = await asyncio.to_thread(_resolve_inside, spec.resource_dir, path)
    response = web.FileResponse(file)
    if file.suffix == ".png":
        response.headers["Cache-Control"] = f"max-age={PNG_MAX_AGE_SECONDS}"
    return response


def kernelspec_model(spec: Kernelspec, base_url: str) -> dict[str, object]:
    """Return the REST model of a kernelspec."""
    prefix = f"{base_url}kernelspecs/{quote(spec.name)}/"
    return {
        "name": spec.name,
        "spec": msgspec.to_builtins(spec.spec),
        "resources": {_resource_key(name): prefix + quote(name) for name in spec.resource_names},
    }


def _model_for(user: str | None, spec: Kernelspec, live: LiveSettings) -> web.Response:
    settings = live.current
    _check_access(user, spec, settings)
    return json_response(kernelspec_model(spec, settings.server.base_url))


def _check_access(user: str | None, spec: Kernelspec, settings: Settings) -> None:
    granted = user is None or decide_access(user, spec.config, settings.kernels) is Access.GRANTED
    if not granted:
        raise ForbiddenError(f"User {user} is not authorized to use kernel spec {spec.name}")


def _resource_key(name: str) -> str:
    """Return the key of a resource: logos are known without their extension."""
    return name.rsplit(".", 1)[0] if name.startswith("logo-") else name


def _resolve_inside(folder: Path, path: str) -> Path:
    try:
        file = (folder / path).resolve()
        is_inside = file.is_relative_to(folder.resolve()) and file.is_file()
    except (OSError, ValueError) as exc:
        raise NotFoundError(f"There is no kernelspec resource {path}") from exc
    if not is_inside:
        raise NotFoundError(f"There is no kernelspec resource {path}")
    return file
