"""`/api`, status, identity, health, metrics, and the truth of the OpenAPI description."""

import json
import re
import time
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from harness.engines.fake_engine import FakeEngine
from harness.gateways.service import Answer, Service, is_state
from harness.waiting import eventually

from enterprise_gateway import _version
from enterprise_gateway.errors import LaunchError
from enterprise_gateway.services.kernels.agents.state import format_time
from enterprise_gateway.services.processproxies.contract import ORDERLY_EXIT
from enterprise_gateway.settings import LiveSettings
from enterprise_gateway.web.server import build

ROOT = Path(__file__).parents[4]
UNKNOWN = "00000000-0000-4000-8000-000000000000"


async def test_probes_need_no_token(service: Service) -> None:
    """Versions, liveness and readiness are public, the rest is not."""
    for path in ("/api", "/healthz", "/readyz"):
        assert (await service.ask("GET", path, headers={"Authorization": ""})).status == 200
    guarded = ("/api/status", "/api/me", "/metrics", "/api/swagger.json", "/api/swagger.yaml")
    for path in (*guarded, "/api/spec.yaml"):
        assert (await service.ask("GET", path, headers={"Authorization": ""})).status == 401


async def test_versions(service: Service) -> None:
    """`version` looks like jupyter_server's, since clients compare it."""
    answer = await service.get("/api")
    assert answer["gateway_version"] == _version.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", answer["version"])


async def test_status_counts_kernels_and_connections(service: Service, engine: FakeEngine) -> None:
    """It counts kernels and connections, and has the time of the last activity."""
    assert (await service.get("/api/status"))["kernels"] == 0
    kernel_id = await service.start_kernel()
    active = format_time(time.time() + 3600)
    engine.agents[kernel_id].change(connections=2, last_activity=active)

    async def is_told() -> bool:
        return bool((await service.get("/api/status"))["connections"] == 2)

    await eventually(is_told)
    status = await service.get("/api/status")
    assert status["kernels"] == 1
    assert status["started"] < status["last_activity"] < active  # no time is in the future


async def test_last_activity_never_goes_back(service: Service, engine: FakeEngine) -> None:
    """Neither the end of a kernel by a client nor one by itself makes the gateway look idle."""
    seen = [(await service.get("/api/status"))["last_activity"]]
    deleted, culled = await service.start_kernel(), await service.start_kernel()
    for kernel_id in (deleted, culled):
        engine.agents[kernel_id].change(last_activity=format_time(time.time()))
    seen.append((await service.get("/api/status"))["last_activity"])
    await service.ask("DELETE", f"/api/kernels/{deleted}")
    seen.append((await service.get("/api/status"))["last_activity"])
    await engine.kill(culled, ORDERLY_EXIT)

    async def has_ended() -> bool:
        return await service.get("/api/kernels") == []

    await eventually(has_ended)
    seen.append((await service.get("/api/status"))["last_activity"])
    assert seen == sorted(seen)
    assert seen[0] < seen[1] < seen[2]


async def test_activity_of_a_kernel_that_was_culled_is_remembered(
    service: Service, engine: FakeEngine
) -> None:
    """Even if no request was made while it was there."""
    kernel_id = await service.start_kernel()
    active = format_time(time.time())
    engine.agents[kernel_id].change(execution_state="busy", last_activity=active)

    async def is_busy() -> bool:
        model = await service.get(f"/api/kernels/{kernel_id}")
        return bool(model["execution_state"] == "busy")

    await eventually(is_busy)
    await engine.kill(kernel_id, ORDERLY_EXIT)
    assert (await service.get("/api/status"))["last_activity"] >= active


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
    assert 'eg_kernel_start_seconds_count{kernel_name="python3",source="launch"} 1.0' in page
    assert 'eg_http_responses_total{status="201"} 1.0' in page
    assert "_created" not in page


async def test_metrics_tell_of_the_process_and_of_no_kernels(service: Service) -> None:
    """What Prometheus' usual dashboards and alerts ask for; a gauge without kernels is 0."""
    page = (await service.ask("GET", "/metrics")).raw.decode()
    assert f'version="{_version.__version__}"' in page
    for name in (
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_start_time_seconds",
        "eg_build_info",
    ):
        assert re.search(rf"^{name}(\{{.*\}})? [\d.e+]+$", page, re.MULTILINE)
    for state in ("idle", "dead"):
        assert f'eg_kernels{{execution_state="{state}"}} 0.0' in page


async def test_metrics_of_the_page_are_there(service: Service, engine: FakeEngine) -> None:
    """The metrics in docs/operations.md exist, with these labels.

    Those of pools are there with a pool: `test_pools.py`.
    """
    await service.start_kernel()
    engine.failure = LaunchError("no")
    await service.ask("POST", "/api/kernels")
    page = (await service.ask("GET", "/metrics")).raw.decode()
    text = (ROOT / "docs/operations.md").read_text().partition("## Metrics\n")[2]
    section = text.partition("\n## ")[0]
    assert "scrape_configs:" in section
    for name in set(re.findall(r"\b(?:eg_(?!pool)|process_)\w+", section)):
        assert re.search(rf"^{name}(_bucket)?(\{{|\s)", page, re.MULTILINE), name
    for name, labels in re.findall(r"`(eg_(?!pool)\w+)\{([\w,]+)\}`", section):
        for label in labels.split(","):
            assert re.search(rf"^{name}\w*\{{[^}}]*{label}=", page, re.MULTILINE), (name, label)


async def test_description_is_served_as_json_and_as_yaml(service: Service) -> None:
    """Both are the same document: JSON is YAML."""
    as_json = await service.ask("GET", "/api/swagger.json")
    as_yaml = await service.ask("GET", "/api/swagger.yaml")
    assert as_json.body["openapi"].startswith("3.1")
    assert as_json.raw == as_yaml.raw == (await service.ask("GET", "/api/spec.yaml")).raw
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

    def check(self, method: str, path: str, answer: Answer, status: str = "") -> None:
        """Check that an answer's status, its own or the given range, and its body are described."""
        responses = self._document["paths"][path][method.lower()]["responses"]
        described = responses.get(status or str(answer.status))
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

    for path in ("/", "/api", "/api/status", "/api/me", "/healthz", "/readyz", "/metrics"):
        await check("GET", path)
    await check("GET", "/api/swagger.json")
    description.check("GET", "/api/me", await service.ask("GET", "/api/me?permissions=x"))
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
        for kernel in ({"id": UNKNOWN}, {"name": "no"}):
            await check("PATCH", "/api/sessions/{session_id}", {"kernel": kernel}, **same)
        await check("DELETE", "/api/sessions/{session_id}", **same)
    await check("POST", "/api/sessions", {"path": "r", "type": "t", "kernel": {"id": "1-2-3-4-5"}})
    await engine.kill(kernel_id, "exit code 1")
    await check("POST", interrupt, kernel_id=kernel_id)
    await check("GET", "/api/kernels")
    await check("DELETE", one, kernel_id=kernel_id)
    await check("DELETE", one, kernel_id=kernel_id)
    engine.is_down = True
    await check("GET", one, kernel_id=UNKNOWN)
    await check("POST", "/api/kernels", {})
    await check("POST", "/api/sessions", {"path": "s", "type": "t"})
    await check("GET", "/api/sessions/{session_id}", session_id="unknown")
    await check("GET", "/readyz")


async def test_failed_starts_are_as_described(service: Service, engine: FakeEngine) -> None:
    """Each operation that starts a kernel says that there may be too many, and that it may fail."""
    description = Description(await service.get("/api/swagger.json"))
    session = (await service.ask("POST", "/api/sessions", json={"path": "p", "type": "t"})).body
    one, restart = "/api/sessions/{session_id}", "/api/kernels/{kernel_id}/restart"
    other = {"path": "q", "type": "t", "kernel": {"name": "python3"}}

    async def check(method: str, path: str, expected: int) -> None:
        real = path.format(session_id=session["id"], kernel_id=session["kernel"]["id"])
        answer = await service.ask(method, real, json=other if "sessions" in path else {})
        assert answer.status == expected
        description.check(method, path, answer)

    kernels = service.live.current.kernels
    service.live.replace(replace(service.live.current, kernels=replace(kernels, max_kernels=1)))
    for method, path in (("POST", "/api/kernels"), ("POST", "/api/sessions"), ("PATCH", one)):
        await check(method, path, 403)
    service.live.replace(replace(service.live.current, kernels=kernels))
    engine.failure = LaunchError("no such image")
    await check("POST", "/api/kernels", 500)
    await check("POST", "/api/sessions", 500)
    await check("PATCH", one, 501)
    await engine.kill(session["kernel"]["id"], "exit code 1")
    await eventually(lambda: is_state(service, session["kernel"]["id"], "dead"))
    await check("POST", restart, 500)


async def test_refusals_are_as_described(service: Service) -> None:
    """Refusals before an operation is reached are described with each operation."""
    document = await service.get("/api/swagger.json")
    description = Description(document)
    variables = {"{kernel_id}": UNKNOWN} | dict.fromkeys(
        ("{session_id}", "{name}", "{path}", "{msg_id}"), "x"
    )
    for path, item in document["paths"].items():
        real = path
        for name, value in variables.items():
            real = real.replace(name, value)
        for method in set(item) - {"parameters"}:
            for expected, headers, body in (
                (417, {"Expect": "x"}, None),
                (401, {"Authorization": ""}, None),
                (415, {"Content-Encoding": "gzip"}, b"x"),
                (413, {}, BytesIO(b"x" * 9_000_000)),
            ):
                answer = await service.ask(method.upper(), real, headers=headers, data=body)
                is_public = item[method].get("security") == []
                assert answer.status == expected or (is_public and expected != 417)
                refused = "4XX" if answer.status == expected else ""
                description.check(method.upper(), path, answer, refused)


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
