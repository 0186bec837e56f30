"""`POST /api/kernels` with fake agents: models, refusals, failures, clients that leave."""

import asyncio
import re
import uuid
from dataclasses import replace

import aiohttp
import pytest
from harness.engines.fake_engine import FakeEngine
from harness.gateways.service import Service, in_list, is_state, serve_settings
from harness.waiting import eventually

from enterprise_gateway.errors import LaunchError, LaunchTimeoutError
from enterprise_gateway.services.kernels.planning.launches import StartRequest
from enterprise_gateway.services.kernels.registry.records import Record
from enterprise_gateway.services.kernels.starts.starter import Starter
from enterprise_gateway.services.users import Account, User
from enterprise_gateway.settings import LiveSettings
from enterprise_gateway.web.access.identity import shared_token

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


async def test_start_answers_the_model_and_its_location(service: Service) -> None:
    """201, Location and a model that every client can parse."""
    answer = await service.ask("POST", "/api/kernels")
    model = answer.body
    assert answer.status == 201
    assert answer.headers["Location"] == f"/api/kernels/{model['id']}"
    assert answer.headers["Content-Type"].startswith("application/json")
    assert str(uuid.UUID(model["id"])) == model["id"]
    assert model["name"] == "python3"
    assert model["execution_state"] == "idle"
    assert model["connections"] == 0
    assert TIME.fullmatch(model["last_activity"])
    assert "reason" not in model
    assert await service.get(f"/api/kernels/{model['id']}") == model
    assert await service.get("/api/kernels") == [in_list(model)]


async def test_groups_of_a_start_are_its_users_and_not_its_bodys(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quotas go by them; a kernel for another user counts in no group of one's own."""
    ann = User("ann", groups=frozenset({"lab"}), acts_for=frozenset({"*"}), credential="x")
    monkeypatch.setattr(shared_token, "SHARED", ann)
    groups_of_starts: list[frozenset[str]] = []
    start = Starter.start

    async def spy(starter: Starter, asked: StartRequest, account: Account) -> Record:
        groups_of_starts.append(account.groups)
        return await start(starter, asked, account)

    monkeypatch.setattr(Starter, "start", spy)
    session = {"path": "a.ipynb", "type": "notebook", "name": "a", "kernel": {"name": "python3"}}
    for path, body in (
        ("/api/kernels", {"groups": ["other"]}),
        ("/api/sessions", session),
        ("/api/kernels", {"env": {"KERNEL_USERNAME": "bob"}}),
    ):
        assert (await service.ask("POST", path, json=body)).status == 201
    assert groups_of_starts == [frozenset({"lab"}), frozenset({"lab"}), frozenset()]


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b'{"path": null}', b'{"env": null}'])
async def test_start_needs_no_body(service: Service, body: bytes) -> None:
    """Without a name it is the default kernel."""
    headers = {"Content-Type": "application/json"}
    answer = await service.ask("POST", "/api/kernels", data=body, headers=headers)
    assert answer.status == 201
    assert answer.body["name"] == "python3"


async def test_start_takes_the_clients_id_in_both_forms(
    service: Service, engine: FakeEngine
) -> None:
    """`kernel_id` and `KERNEL_ID` name the kernel; a taken one is a conflict."""
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    assert await service.start_kernel(kernel_id=first) == first
    assert await service.start_kernel(env={"KERNEL_ID": second}) == second
    for body in ({"kernel_id": first}, {"env": {"KERNEL_ID": first}}):
        answer = await service.ask("POST", "/api/kernels", json=body)
        assert answer.status == 409
        assert first in answer.message
    assert len(engine.requests) == 2


async def test_start_with_an_id_that_is_being_started_is_a_conflict(
    service: Service, engine: FakeEngine
) -> None:
    """Two starts of one id at once: one kernel."""
    kernel_id = str(uuid.uuid4())
    engine.gate.clear()
    first = asyncio.create_task(service.start_kernel(kernel_id=kernel_id))
    await eventually(lambda: is_state(service, kernel_id, "starting"))
    second = await service.ask("POST", "/api/kernels", json={"kernel_id": kernel_id})
    deleted = await service.ask("DELETE", f"/api/kernels/{kernel_id}")
    engine.gate.set()
    assert await first == kernel_id
    assert second.status == deleted.status == 409


async def test_model_shows_the_pull_that_a_start_waits_for(
    service: Service, engine: FakeEngine
) -> None:
    """Only as long as it does."""
    kernel_id = str(uuid.uuid4())
    engine.pulls.clear()
    engine.gate.clear()
    start = asyncio.create_task(service.start_kernel(kernel_id=kernel_id))
    await eventually(lambda: is_state(service, kernel_id, "starting"))
    model = await service.get(f"/api/kernels/{kernel_id}")
    assert model["pull"] == {
        "image": "team/kernel:1",
        "layers": 7,
        "layers_done": 3,
        "bytes": 1300,
        "bytes_done": 412,
        "bytes_per_second": 21,
        "is_size_known": True,
    }
    engine.pulls.set()
    assert "pull" not in await service.get(f"/api/kernels/{kernel_id}")
    engine.gate.set()
    await start


async def test_start_that_waits_for_its_image_holds_up_no_other(
    service: Service, engine: FakeEngine
) -> None:
    """It has no place among the launches that may run at once."""
    kernels = replace(service.live.current.kernels, max_concurrent_launches=1)
    service.live.replace(replace(service.live.current, kernels=kernels))
    kernel_id = str(uuid.uuid4())
    engine.pulls.clear()
    start = asyncio.create_task(service.start_kernel(kernel_id=kernel_id))
    await eventually(lambda: is_state(service, kernel_id, "starting"))
    pulled, engine.pulls = engine.pulls, asyncio.Event()
    engine.pulls.set()
    await service.start_kernel()
    pulled.set()
    assert await start == kernel_id


async def test_start_that_waits_tells_how_many_come_before(
    service: Service, engine: FakeEngine
) -> None:
    """In the model of a kernel whose id the client chose, until its turn has come."""
    kernels = replace(service.live.current.kernels, max_concurrent_launches=1)
    service.live.replace(replace(service.live.current, kernels=kernels))
    engine.gate.clear()
    starts = [asyncio.create_task(service.start_kernel())]
    await eventually(lambda: len(engine.requests) == 1)
    ids = [str(uuid.uuid4()) for _ in range(2)]
    for number, kernel_id in enumerate(ids):
        starts.append(asyncio.create_task(service.start_kernel(kernel_id=kernel_id)))
        await eventually(lambda place=number, asked=kernel_id: is_ahead(service, asked, place))
    engine.gate.set()
    await asyncio.gather(*starts)
    assert "launches_ahead" not in await service.get(f"/api/kernels/{ids[1]}")


async def is_ahead(service: Service, kernel_id: str, count: int) -> bool:
    """Say whether a kernel waits behind so many others."""
    answer = await service.ask("GET", f"/api/kernels/{kernel_id}")
    return bool(answer.status == 200 and answer.body.get("launches_ahead") == count)


async def test_start_that_waits_for_its_image_is_asked_for_again(
    service: Service, engine: FakeEngine
) -> None:
    """503 with Retry-After, and nothing was launched."""
    engine.pulls.clear()
    body = {"env": {"KERNEL_LAUNCH_TIMEOUT": "0.1"}}
    answer = await service.ask("POST", "/api/kernels", json=body)
    assert answer.status == 503
    assert answer.message == "the image is being pulled"
    assert int(answer.headers["Retry-After"]) > 0
    assert engine.requests == []


async def test_kernel_that_is_being_started_is_unavailable(
    service: Service, engine: FakeEngine
) -> None:
    """It is listed as starting, so nothing says that it does not exist."""
    kernel_id = str(uuid.uuid4())
    engine.gate.clear()
    start = asyncio.create_task(service.start_kernel(kernel_id=kernel_id))
    await eventually(lambda: is_state(service, kernel_id, "starting"))
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
    session = {"path": "a.ipynb", "type": "notebook", "kernel": {"id": kernel_id}}
    answers = [
        await service.ask("POST", f"/api/kernels/{kernel_id}/interrupt"),
        await service.ask("GET", f"/api/kernels/{kernel_id}/channels", headers=upgrade),
        await service.ask("POST", "/api/sessions", json=session),
    ]
    engine.gate.set()
    assert await start == kernel_id
    assert [answer.status for answer in answers] == [503, 503, 503]
    assert {answer.headers["Retry-After"] for answer in answers} == {"1"}


async def test_environment_reaches_the_launch(service: Service, engine: FakeEngine) -> None:
    """The variables that a client may set are there, the others are not."""
    await service.start_kernel(env={"KERNEL_X": "a$b", "OTHER": "x", "KERNEL_USERNAME": "ann"})
    env = engine.requests[0].env
    assert env["KERNEL_X"] == "a$b"
    assert env["KERNEL_USERNAME"] == "ann"
    assert "OTHER" not in env
    assert "PATH" not in env


async def test_concurrent_starts_do_not_mix_their_environments(
    service: Service, engine: FakeEngine
) -> None:
    """Each kernel has the environment of its own request, and a request without any has none."""
    engine.gate.clear()
    starts = [
        asyncio.create_task(service.start_kernel(env={"KERNEL_X": str(n)} if n else {}))
        for n in range(8)
    ]

    async def all_there() -> bool:
        return len(engine.requests) == len(starts)

    await eventually(all_there)
    engine.gate.set()
    ids = await asyncio.gather(*starts)
    seen = {request.kernel_id: request.env.get("KERNEL_X") for request in engine.requests}
    assert [seen[kernel_id] for kernel_id in ids] == [None, *(str(n) for n in range(1, 8))]


async def test_unknown_kernelspec_is_not_found(service: Service) -> None:
    """404 with the name, not a server error."""
    answer = await service.ask("POST", "/api/kernels", json={"name": "no-such"})
    assert answer.status == 404
    assert answer.message == "Kernel spec no-such not found"


async def test_unauthorized_user_is_refused(service: Service, engine: FakeEngine) -> None:
    """403 in EG's words, and nothing is launched."""
    answer = await service.ask("POST", "/api/kernels", json={"env": {"KERNEL_USERNAME": "root"}})
    assert answer.status == 403
    assert answer.message.startswith("User 'root' is not authorized to start kernel")
    assert not engine.requests


@pytest.mark.parametrize(
    "failure", [LaunchError("image x: not found"), LaunchTimeoutError("not ready in 30 s")]
)
async def test_failed_start_says_why_and_leaves_nothing(
    service: Service, engine: FakeEngine, failure: Exception
) -> None:
    """500 with the cause; no kernel is listed, dead or alive."""
    engine.failure = failure
    answer = await service.ask("POST", "/api/kernels")
    assert answer.status == 500
    assert answer.message == str(failure)
    assert await service.get("/api/kernels") == []


async def test_start_of_a_client_that_leaves_is_cancelled(
    service: Service, engine: FakeEngine
) -> None:
    """The launch is cancelled with the request, and no kernel is left."""
    engine.gate.clear()
    start = asyncio.create_task(service.start_kernel())

    async def is_launching() -> bool:
        return bool(engine.requests)

    async def is_cancelled() -> bool:
        return engine.cancelled == 1

    await eventually(is_launching)
    start.cancel()
    await eventually(is_cancelled)
    assert await service.get("/api/kernels") == []


async def test_client_may_leave_while_anything_is_under_way(
    service: Service, engine: FakeEngine
) -> None:
    """Twenty clients that leave at random moments of their start leave nothing."""
    engine.gate.clear()
    timeout = aiohttp.ClientTimeout(total=0.05)

    async def leave() -> None:
        async with service.http.post("/api/kernels", timeout=timeout):
            pass

    results = await asyncio.gather(*(leave() for _ in range(20)), return_exceptions=True)
    assert all(isinstance(result, TimeoutError) for result in results)

    async def all_cancelled() -> bool:
        return engine.cancelled == len(engine.requests)

    await eventually(all_cancelled)
    engine.gate.set()
    assert await service.get("/api/kernels") == []
    assert not engine.agents


async def test_listing_is_a_setting(live: LiveSettings, engine: FakeEngine) -> None:
    """Without `list_kernels` both lists are 403, from the next request on."""
    del engine
    async with serve_settings(live) as service:
        assert (await service.ask("GET", "/api/kernels")).status == 200
        access = replace(live.current.access, list_kernels=False)
        live.replace(replace(live.current, access=access))
        for path in ("/api/kernels", "/api/sessions"):
            answer = await service.ask("GET", path)
            assert answer.status == 403
            assert answer.body == {"reason": "Forbidden", "message": "Forbidden"}
