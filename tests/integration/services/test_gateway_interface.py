"""`/api`, status, identity, health, metrics, and the truth of the OpenAPI description."""

import json
import re
from typing import Any

import jsonschema
import pytest
from harness.fake_engine import FakeEngine
from harness.service import Answer, Service, eventually

from enterprise_gateway import _version
from enterprise_gateway.errors import LaunchError
from enterprise_gateway.settings import LiveSettings
from enterprise_gateway.web.server import build

UNKNOWN = "00000000-0000-4000-8000-000000000000"


async def test_probes_need_no_token(service: Service) -> None:
    """Versions, liveness and readiness are public, the rest is not."""
    for path in ("/api", "/healthz", "/readyz"):
        assert (await service.ask("GET", path, headers={"Authorization": ""})).status == 200
    for path in ("/api/status", "/api/me", "/metrics", "/api/swagger.json", "/api/swagger.yaml"):
        assert (await service.ask("GET", path, headers={"Authorization": ""})).status == 401


async def test_versions(service: Service) -> None:
    """`version` looks like jupyter_server's, since clients compare it."""
    answer = await service.get("/api")
    assert answer["gateway_version"] == _version.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", answer["version"])


async def test_status_counts_kernels_and_connections(service: Service, engine: FakeEngine) -> None:
    """It says how much is going on, and when anything happened last."""
    assert (await service.get("/api/status"))["kernels"] == 0
    kernel_id = await service.start_kernel()
    engine.agents[kernel_id].change(connections=2, last_activity="2999-01-01T00:00:00.000000Z")

    async def is_told() -> bool:
        return bool((await service.get("/api/status"))["connections"] == 2)

    await eventually(is_told)
    status = await service.get("/api/status")
    assert status["kernels"] == 1
    assert status["last_activity"] == "2999-01-01T00:00:00.000000Z"
    assert status["started"] < status["last_activity"]


async def test_identity_and_permissions(service: Service) -> None:
    """Without an authorizer everything that is asked about is allowed."""
    model = await service.get('/api/me?permissions={"kernels":["read","execute"]}')
    assert model["identity"]["username"] == "anonymous"
    assert model["permissions"] == {"kernels": ["read", "execute"], "updatable_fields": []}
    assert (await service.get("/api/me"))["permissions"] == {"updatable_fields": []}


@pytest.mark.parametrize("text", ["{", "[]", "1", '{"kernels": "read"}', '{"kernels": [1]}', "%ff"])
async def test_malformed_permissions_are_refused(service: Service, text: str) -> None:
    """400 with the form that is expected."""
    answer = await service.ask("GET", f"/api/me?permissions={text}")
    assert answer.status == 400
    assert "JSON dict" in answer.message


async def test_readiness_says_what_is_missing(service: Service, engine: FakeEngine) -> None:
    """503 while an engine that has answered before does not; liveness is another matter."""
    await service.get("/api/kernels")
    engine.is_down = True
    answer = await service.ask("GET", "/readyz")
    assert answer.status == 503
    assert answer.message == "FakeEngine: the engine is down"
    assert (await service.ask("GET", "/healthz")).status == 200


async def test_metrics_count_starts_failures_and_kernels(
    service: Service, engine: FakeEngine
) -> None:
    """Prometheus finds counters with the kernelspec as label."""
    await service.start_kernel()
    engine.failure = LaunchError("no")
    await service.ask("POST", "/api/kernels")
    answer = await service.ask("GET", "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    page = answer.raw.decode()
    assert 'eg_kernels{execution_state="idle"} 1.0' in page
    assert 'eg_kernel_starts_total{kernel_name="python3"} 1.0' in page
    assert 'eg_kernel_start_failures_total{error="LaunchError",kernel_name="python3"} 1.0' in page
    assert 'eg_kernel_start_seconds_count{kernel_name="python3"} 1.0' in page


async def test_description_is_served_as_json_and_as_yaml(service: Service) -> None:
    """Both are the same document: JSON is YAML."""
    as_json = await service.ask("GET", "/api/swagger.json")
    as_yaml = await service.ask("GET", "/api/swagger.yaml")
    assert as_json.body["openapi"].startswith("3.1")
    assert as_json.raw == as_yaml.raw
    assert as_json.headers["Content-Type"] == "application/json"
    assert as_yaml.headers["Content-Type"] == "application/yaml"


async def test_description_has_exactly_the_routes_that_there_are(
    service: Service, live: LiveSettings
) -> None:
    """Every route is described, and everything that is described is a route."""
    document = await service.get("/api/swagger.json")
    described = {
        (method.upper(), path)
        for path, item in document["paths"].items()
        for method in item
        if method != "parameters"
    }
    served = {
        (route.method, re.sub(r"\{(\w+):[^}]*\}", r"{\1}", route.resource.canonical))
        for route in build(live).router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert described == {(method, path) for method, path in served if not path.startswith("/t/")}


class Description:
    """The OpenAPI document, to check answers against."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document

    def check(self, method: str, path: str, answer: Answer) -> None:
        """Check that an answer's status and body are as described."""
        responses = self._document["paths"][path][method.lower()]["responses"]
        described = responses.get(str(answer.status)) or responses.get("default")
        assert described, f"{method} {path}: {answer.status} is not described"
        if "$ref" in described:
            name = described["$ref"].rsplit("/", 1)[1]
            described = self._document["components"]["responses"][name]
        content = described.get("content")
        if content is None:
            assert answer.raw == b""
        elif "application/json" in content:
            schema = {**content["application/json"]["schema"]}
            schema["components"] = self._document["components"]
            jsonschema.Draft202012Validator(
                schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
            ).validate(answer.body)
        for header in described.get("headers", {}):
            assert header in answer.headers


async def test_answers_are_as_described(service: Service, engine: FakeEngine) -> None:
    """Good and bad answers of every operation have a described status and shape."""
    description = Description(await service.get("/api/swagger.json"))

    async def check(method: str, path: str, body: Any = None, /, **variables: str) -> Any:
        real = path
        for name, value in variables.items():
            real = real.replace(f"{{{name}}}", value)
        answer = await service.ask(method, real, json=body)
        description.check(method, path, answer)
        return json.loads(answer.raw) if answer.raw.startswith((b"{", b"[")) else None

    for path in ("/api", "/api/status", "/api/me", "/healthz", "/readyz", "/metrics"):
        await check("GET", path)
    await check("GET", "/api/swagger.json")
    await check("GET", "/api/kernelspecs")
    await check("GET", "/api/kernelspecs/{name}", name="python3")
    await check("GET", "/api/kernelspecs/{name}", name="missing")
    await check("GET", "/kernelspecs/{name}/{path}", name="python3", path="missing")
    one, restart = "/api/kernels/{kernel_id}", "/api/kernels/{kernel_id}/restart"
    interrupt, channels = "/api/kernels/{kernel_id}/interrupt", "/api/kernels/{kernel_id}/channels"
    kernel_id = (await check("POST", "/api/kernels", {}))["id"]
    for wrong in ({"name": 1}, {"name": "missing"}, {"kernel_id": kernel_id}, {"kernel_id": "x"}):
        await check("POST", "/api/kernels", wrong)
    for known in (kernel_id, UNKNOWN):
        await check("GET", one, kernel_id=known)
        await check("POST", interrupt, kernel_id=known)
        await check("POST", restart, kernel_id=known)
        await check("GET", channels, kernel_id=known)
    await check("GET", "/api/kernels")
    session = await check("POST", "/api/sessions", {"path": "p", "type": "notebook"})
    await check("POST", "/api/sessions", {"path": "p"})
    await check("POST", "/api/sessions", {"path": "q", "type": "t", "kernel": {"name": "no"}})
    await check("GET", "/api/sessions")
    for session_id in (session["id"], "unknown"):
        same = {"session_id": session_id}
        await check("GET", "/api/sessions/{session_id}", **same)
        await check("PATCH", "/api/sessions/{session_id}", {"name": "new"}, **same)
        await check("DELETE", "/api/sessions/{session_id}", **same)
    await engine.kill(kernel_id, "exit code 1")
    await check("POST", interrupt, kernel_id=kernel_id)
    await check("GET", "/api/kernels")
    await check("DELETE", one, kernel_id=kernel_id)
    await check("DELETE", one, kernel_id=kernel_id)
    engine.is_down = True
    await check("GET", one, kernel_id=UNKNOWN)
    await check("POST", "/api/kernels", {})
    await check("GET", "/readyz")


async def test_description_is_consistent(service: Service) -> None:
    """Every reference leads somewhere, and every operation has a name of its own."""
    answer = await service.ask("GET", "/api/swagger.json")
    for reference in re.findall(r'"#/([^"]+)"', answer.raw.decode()):
        target = answer.body
        for key in reference.split("/"):
            target = target[key]
    names = re.findall(r'"operationId": "(\w+)"', answer.raw.decode())
    assert len(names) == len(set(names))
    for schema in answer.body["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
