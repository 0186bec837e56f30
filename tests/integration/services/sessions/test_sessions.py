"""`/api/sessions` over HTTP, with fake agents."""

import asyncio
import time
import uuid
from typing import Any

import msgspec
import pytest
from harness.engines.fake_engine import FakeEngine
from harness.gateways.service import Answer, Service, in_list, serve_settings
from harness.waiting import eventually

from enterprise_gateway.errors import LaunchError
from enterprise_gateway.services.sessions.annotations import Session, SessionStore
from enterprise_gateway.settings import LiveSettings

DRAFT = {"path": "a.ipynb", "name": "a", "type": "notebook", "kernel": {"name": "python3"}}


async def create(service: Service, **changes: Any) -> dict[str, Any]:
    """Create a session; returns its model."""
    answer = await service.ask("POST", "/api/sessions", json={**DRAFT, **changes})
    assert answer.status == 201, answer.raw
    model: dict[str, Any] = answer.body
    return model


async def patch(service: Service, model: dict[str, Any], **changes: Any) -> Answer:
    """Change a session."""
    return await service.ask("PATCH", f"/api/sessions/{model['id']}", json=changes)


async def test_create_answers_the_shape_that_front_ends_need(service: Service) -> None:
    """Path, name, type and kernel; `notebook` for old clients; 201 and Location."""
    answer = await service.ask("POST", "/api/sessions", json=DRAFT)
    model = answer.body
    assert answer.status == 201
    assert answer.headers["Location"] == f"/api/sessions/{model['id']}"
    assert model["path"] == "a.ipynb"
    assert model["name"] == "a"
    assert model["type"] == "notebook"
    assert model["notebook"] == {"path": "a.ipynb", "name": "a"}
    kernel = await service.get(f"/api/kernels/{model['kernel']['id']}")
    assert model["kernel"] == in_list(kernel)
    assert await service.get(f"/api/sessions/{model['id']}") == model
    assert await service.get("/api/sessions") == [model]


async def test_other_types_have_no_notebook(service: Service) -> None:
    """A console is no notebook; a name is not needed."""
    model = await create(service, type="console", name=None)
    assert "notebook" not in model
    assert model["name"] is None


async def test_old_form_of_the_request_is_understood(service: Service) -> None:
    """Path below `notebook`, and no type."""
    answer = await service.ask("POST", "/api/sessions", json={"notebook": {"path": "old.ipynb"}})
    assert answer.status == 201
    assert answer.body["path"] == "old.ipynb"
    assert answer.body["type"] == "notebook"
    assert answer.body["kernel"]["name"] == "python3"


async def test_path_has_one_session(service: Service, engine: FakeEngine) -> None:
    """A second request, even at the same moment, gets the existing session."""
    models = await asyncio.gather(*(create(service) for _ in range(5)))
    assert len({model["id"] for model in models}) == 1
    assert len(engine.requests) == 1


async def test_session_can_be_tied_to_a_kernel_that_runs(
    service: Service, engine: FakeEngine
) -> None:
    """A kernel named by id is taken as it is, and may have several sessions."""
    kernel_id = await service.start_kernel()
    first = await create(service, kernel={"id": kernel_id})
    second = await create(service, path="console-1", type="console", kernel={"id": kernel_id})
    assert first["kernel"]["id"] == second["kernel"]["id"] == kernel_id
    assert len(engine.requests) == 1


async def test_kernel_that_is_not_there_is_started_under_its_id(
    service: Service, engine: FakeEngine
) -> None:
    """The client goes on with the id that it chose, as with a Jupyter server."""
    named, unnamed = str(uuid.uuid4()), str(uuid.uuid4())
    model = await create(service, kernel={"id": named, "name": "python3"})
    assert model["kernel"]["id"] == named
    model = await create(service, path="b.ipynb", kernel={"id": unnamed})
    assert (model["kernel"]["id"], model["kernel"]["name"]) == (unnamed, "python3")
    assert {model["id"] for model in await service.get("/api/kernels")} == {named, unnamed}
    assert (await create(service, path="c", kernel={"id": named}))["kernel"]["id"] == named
    assert len(engine.requests) == 2


async def test_kernel_id_that_is_no_uuid_is_refused(service: Service, engine: FakeEngine) -> None:
    """400, before anything is started: the client could go on with that id, and find no kernel."""
    for kernel_id in ("1-2-3-4-5", "12345678-1234-5678-1234-56781234567X"):
        body = {**DRAFT, "kernel": {"id": kernel_id, "name": "python3"}}
        answer = await service.ask("POST", "/api/sessions", json=body)
        assert answer.status == 400
        assert f"'{kernel_id}' is not a UUID" in answer.message
    assert not engine.requests


@pytest.mark.parametrize("kernel_id", ["foo", "", "../x", "1-2-3-4-5/x", "a b"])
async def test_kernel_id_that_no_path_can_have_is_replaced(
    service: Service, engine: FakeEngine, kernel_id: str
) -> None:
    """Old clients send such ids, and go on with the one in the answer."""
    body = {"notebook": {"path": "old.ipynb"}, "kernel": {"name": "python3", "id": kernel_id}}
    model = (await service.ask("POST", "/api/sessions", json=body)).body
    assert model["path"] == "old.ipynb"
    found = await service.get(f"/api/kernels/{model['kernel']['id']}")
    assert found["id"] == model["kernel"]["id"] == str(uuid.UUID(found["id"]))
    assert len(engine.requests) == 1


async def test_session_may_have_no_name(service: Service) -> None:
    """`null`, as a Jupyter server says, unless it was given one; an empty one is one."""
    body = {"path": "a.ipynb", "type": "notebook"}
    model = (await service.ask("POST", "/api/sessions", json=body)).body
    assert model["name"] is model["notebook"]["name"] is None
    for change, name in (
        ({"name": "n"}, "n"),
        ({}, "n"),
        ({"name": ""}, ""),
        ({"name": None}, None),
    ):
        assert (await patch(service, model, **change)).body["name"] == name
        assert (await service.get(f"/api/sessions/{model['id']}"))["name"] == name


@pytest.mark.parametrize(
    ("body", "says"),
    [({}, "path"), ({"path": "a"}, "type"), ({"type": "notebook"}, "path"), ({"path": ""}, "path")],
)
async def test_missing_fields_are_named(service: Service, body: dict[str, str], says: str) -> None:
    """400 with jupyter_server's words."""
    answer = await service.ask("POST", "/api/sessions", json=body)
    assert answer.status == 400
    assert answer.message == f"Missing field in JSON data: {says}"


async def test_unknown_kernelspec_is_told_for_a_dialogue(service: Service) -> None:
    """501 with a long and a short message, as front ends show it."""
    answer = await service.ask("POST", "/api/sessions", json={**DRAFT, "kernel": {"name": "no"}})
    assert answer.status == 501
    assert answer.message.startswith("The 'no' kernel is not available.")
    assert answer.body["short_message"] == "no not found"


async def test_kernel_that_does_not_come_up_leaves_no_session(
    service: Service, engine: FakeEngine
) -> None:
    """500 with the reason."""
    engine.failure = LaunchError("image x: not found")
    answer = await service.ask("POST", "/api/sessions", json=DRAFT)
    assert answer.status == 500
    assert answer.message == "image x: not found"
    assert await service.get("/api/sessions") == []


async def test_session_is_renamed(service: Service) -> None:
    """PATCH changes what it names and leaves the rest, the kernel included."""
    model = await create(service)
    answer = await patch(service, model, path="b.ipynb", name="")
    assert answer.status == 200
    expected = {**model, "path": "b.ipynb", "name": "", "notebook": {"path": "b.ipynb", "name": ""}}
    assert answer.body == expected
    assert await service.get("/api/sessions") == [expected]


async def test_session_gets_a_new_kernel_and_the_old_one_ends(
    service: Service, engine: FakeEngine
) -> None:
    """By name a kernel is started, and the one before is ended."""
    model = await create(service)
    answer = await patch(service, model, kernel={"name": "python3"})
    assert answer.status == 200
    new = answer.body["kernel"]["id"]
    assert new != model["kernel"]["id"]
    assert engine.removals == [model["kernel"]["id"]]
    assert [one["kernel"]["id"] for one in await service.get("/api/sessions")] == [new]


async def test_session_gets_a_running_kernel_and_spares_one_in_use(
    service: Service, engine: FakeEngine
) -> None:
    """By id the kernel is taken as it is; a kernel that another session uses lives on."""
    model = await create(service)
    old = model["kernel"]["id"]
    await create(service, path="console-1", type="console", kernel={"id": old})
    other = await service.start_kernel()
    answer = await patch(service, model, kernel={"id": other})
    assert answer.body["kernel"]["id"] == other
    assert engine.removals == []
    tied = {one["path"]: one["kernel"]["id"] for one in await service.get("/api/sessions")}
    assert tied == {"a.ipynb": other, "console-1": old}


async def test_change_to_a_kernel_that_is_not_there_changes_nothing(
    service: Service, engine: FakeEngine
) -> None:
    """An unknown id is 400, an unknown kernelspec or a failed start 501."""
    model = await create(service)
    gone = "00000000-0000-4000-8000-000000000000"
    assert (await patch(service, model, kernel={"id": gone})).status == 400
    assert (await patch(service, model, kernel={"name": "no"})).status == 501
    engine.failure = LaunchError("out of memory")
    failed = await patch(service, model, kernel={"name": "python3"})
    assert failed.status == 501
    assert "out of memory" in failed.message
    assert failed.body["short_message"] == "Error starting kernel python3"
    assert await service.get("/api/sessions") == [model]


async def test_changes_at_once_are_made_one_after_the_other(
    service: Service, engine: FakeEngine
) -> None:
    """One kernel is left, and the session has everything that was asked for."""
    model = await create(service)
    changes = ({"kernel": {"name": "python3"}}, {"kernel": {"name": "python3"}}, {"name": "b"})
    answers = await asyncio.gather(*(patch(service, model, **change) for change in changes))
    assert [answer.status for answer in answers] == [200, 200, 200]
    (left,) = await service.get("/api/sessions")
    assert (left["id"], left["name"]) == (model["id"], "b")
    assert list(engine.agents) == [left["kernel"]["id"]]


async def test_session_that_is_deleted_during_a_change_is_gone(
    service: Service, engine: FakeEngine
) -> None:
    """The kernel that it was to have is ended too."""
    model = await create(service)
    engine.gate.clear()
    change = asyncio.create_task(patch(service, model, kernel={"name": "python3"}))

    async def is_launching() -> bool:
        return len(engine.requests) == 2

    await eventually(is_launching)
    delete = asyncio.create_task(service.ask("DELETE", f"/api/sessions/{model['id']}"))
    asyncio.get_running_loop().call_later(0.2, engine.gate.set)
    assert (await delete).status == 204
    assert (await change).status == 200
    assert await service.get("/api/sessions") == []
    assert not engine.agents


async def test_delete_ends_the_kernel_too(service: Service, engine: FakeEngine) -> None:
    """204, and neither session nor kernel is left."""
    model = await create(service)
    assert (await service.ask("DELETE", f"/api/sessions/{model['id']}")).status == 204
    assert engine.removals == [model["kernel"]["id"]]
    assert await service.get("/api/sessions") == []
    assert await service.get("/api/kernels") == []


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_unknown_session_is_not_found(service: Service, method: str) -> None:
    """404 with its id."""
    answer = await service.ask(method, "/api/sessions/nope")
    assert answer.status == 404
    assert answer.message == "Session not found: session_id='nope'"


async def test_kernel_that_ends_takes_its_session_along(
    service: Service, engine: FakeEngine
) -> None:
    """DELETE of the kernel ends the session; the path is free again."""
    model = await create(service)
    await service.ask("DELETE", f"/api/kernels/{model['kernel']['id']}")
    assert await service.get("/api/sessions") == []
    assert (await create(service))["id"] != model["id"]
    assert len(engine.requests) == 2


async def test_annotations_of_others_survive(service: Service, engine: FakeEngine) -> None:
    """Compare-and-set: annotations that another replica wrote meanwhile are kept."""
    kernel_id = await service.start_kernel()
    agent = engine.agents[kernel_id]
    foreign = {"revision": 7, "document": {"claimed_by": "ann", "sessions": []}}
    agent.state["annotations"] = foreign  # without an event
    await create(service, kernel={"id": kernel_id})
    document = agent.state["annotations"]["document"]
    assert document["claimed_by"] == "ann"
    assert [one["path"] for one in document["sessions"]] == ["a.ipynb"]


@pytest.mark.parametrize("same_kernel", [True, False])
async def test_path_has_one_session_whatever_the_gateway(
    engine: FakeEngine, live: LiveSettings, *, same_kernel: bool
) -> None:
    """Simultaneous requests to three replicas get one session, and one kernel is left."""
    async with (
        serve_settings(live) as one,
        serve_settings(live) as two,
        serve_settings(live) as three,
    ):
        services = (one, two, three)
        changes: dict[str, Any] = {}
        if same_kernel:
            changes["kernel"] = {"id": await one.start_kernel()}
        made = await asyncio.gather(
            *(create(service, **changes) for service in services for _ in range(2))
        )
        assert len({(model["id"], model["kernel"]["id"]) for model in made}) == 1
        assert list(engine.agents) == [made[0]["kernel"]["id"]]
        document = engine.agents[made[0]["kernel"]["id"]].state["annotations"]["document"]
        (stored,) = document["sessions"]
        assert stored.pop("mac")
        assert stored == {
            "id": made[0]["id"],
            "path": "a.ipynb",
            "name": "a",
            "type": "notebook",
        }


async def test_session_is_found_through_another_gateway_at_once(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """A request for a path right after its session was created gets that session."""
    async with serve_settings(live) as one, serve_settings(live) as other:
        for path in ("a.ipynb", "b.ipynb", "c.ipynb"):
            model = await create(one, path=path)
            assert (await create(other, path=path))["id"] == model["id"]
        assert len(engine.agents) == 3


async def test_agent_that_does_not_answer_keeps_no_client_from_a_session(
    service: Service, engine: FakeEngine
) -> None:
    """Its kernel's sessions are those that were known."""
    silent = await create(service, path="silent.ipynb")
    engine.agents[silent["kernel"]["id"]].silence.clear()
    assert (await create(service))["path"] == "a.ipynb"
    assert (await create(service, path="silent.ipynb"))["id"] == silent["id"]


async def test_claim_of_a_gateway_that_died_is_ignored(
    service: Service, engine: FakeEngine, live: LiveSettings
) -> None:
    """It keeps no client from the path, and no list shows it."""
    kernel_id = await service.start_kernel()
    claim = Session("old", "a.ipynb", type="notebook", claimed=time.time() - 60)
    store = SessionStore(live.current.cluster_secret, kernel_id)
    document = msgspec.to_builtins(store.with_session(claim, msgspec.Raw(b"{}")))
    engine.agents[kernel_id].change(annotations={"revision": 1, "document": document})
    model = await create(service)
    assert [one["id"] for one in await service.get("/api/sessions")] == [model["id"]]
