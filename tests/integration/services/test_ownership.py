"""Who may do what with whose kernel, on every route, with real local kernels."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from harness.clients.executions import Stream
from harness.clients.json_channels import Channels
from harness.engines.fake_engine import FakeEngine
from harness.gateways.service import UNKNOWN_ID, Answer, serve_settings
from harness.gateways.users import (
    OWNER,
    SHARES,
    USERS,
    Person,
    UsersGateway,
    know_users,
    make_token,
    serve_users,
)
from harness.identity.issuer import AUDIENCE, serve_issuer
from harness.waiting import eventually

from enterprise_gateway.services.kernels import ownership
from enterprise_gateway.services.kernels.agents.agent import ANSWER_SECONDS
from enterprise_gateway.settings import LiveSettings
from enterprise_gateway.web.access.identity.openid import LEEWAY_SECONDS
from enterprise_gateway.web.access.identity.token_document import encode_tokens
from enterprise_gateway.web.access.ownership import OWNERSHIP

pytestmark = pytest.mark.kernel

DEADLINE = 60.0
READ, WRITE, OWN = 1, 2, 3
RIGHTS = {
    "owner": OWN,
    "other": 0,
    "admin": OWN,
    "server": OWN,
    "reader": READ,
    "writer": WRITE,
    "shared": OWN,
}
"""What each role may do with the owner's kernel."""
KERNEL = "/api/kernels/{kernel_id}"
REVOKE = "POST /v1/revoke"
MSG_ID = "no-such-execution"
ROUTES: dict[tuple[str, str], tuple[int, int, Any]] = {
    ("GET", KERNEL): (READ, 200, None),
    ("HEAD", KERNEL): (READ, 200, None),
    ("GET", f"{KERNEL}/channels"): (READ, 400, None),  # it asks for no upgrade
    ("GET", f"{KERNEL}/executions"): (READ, 200, None),
    ("GET", f"{KERNEL}/executions/{{msg_id}}"): (READ, 404, None),
    ("POST", f"{KERNEL}/executions/{{msg_id}}/input"): (WRITE, 404, {"value": ""}),
    ("POST", f"{KERNEL}/execute"): (WRITE, 200, {"code": "1"}),
    ("POST", f"{KERNEL}/interrupt"): (WRITE, 204, {}),
    ("POST", f"{KERNEL}/restart"): (WRITE, 200, {}),
    ("GET", f"{KERNEL}/shares"): (OWN, 200, None),
    ("HEAD", f"{KERNEL}/shares"): (OWN, 200, None),
    ("PUT", f"{KERNEL}/shares"): (OWN, 200, SHARES),
    ("DELETE", KERNEL): (WRITE, 204, None),
}
"""Every route of a kernel: the right that it needs, the status with it, and the body to send."""


@pytest.fixture
async def gateway(live: LiveSettings) -> AsyncIterator[UsersGateway]:
    """A gateway with users; the kernels that the test leaves are ended."""
    async with serve_users(live) as served:
        yield served
        shared = served.people["shared"]
        for model in await shared.get("/api/kernels"):
            await shared.ask("DELETE", f"/api/kernels/{model['id']}")


async def start_shared(gateway: UsersGateway) -> str:
    """Start a kernel of the owner's, and share it."""
    owner = gateway.people["owner"]
    kernel_id = await owner.start_kernel()
    answer = await owner.ask("PUT", f"/api/kernels/{kernel_id}/shares", json=SHARES)
    assert (answer.status, answer.body) == (200, SHARES)
    return kernel_id


def fill(path: str, kernel_id: str) -> str:
    """Return the path of a route for a kernel."""
    return path.format(kernel_id=kernel_id, msg_id=MSG_ID)


def without_id(answer: Answer, kernel_id: str) -> tuple[Any, ...]:
    """Return what a client sees of an answer, but for the id that it sent and the request's."""
    headers = sorted(
        (name, value)
        for name, value in answer.headers.items()
        if name not in {"X-Request-ID", "Date"}
    )
    return answer.status, answer.raw.replace(kernel_id.encode(), b"ID"), headers


async def test_every_route_of_a_kernel_is_in_the_table(gateway: UsersGateway) -> None:
    """A new route must say who may use it."""
    found = {
        (route.method, route.resource.canonical)
        for route in gateway.app.router.routes()
        if route.resource is not None
        and "{kernel_id}" in route.resource.canonical
        and not route.resource.canonical.startswith("/t/")
    }
    assert found == set(ROUTES)


@pytest.mark.parametrize("role", sorted(RIGHTS))
async def test_role_may_do_what_its_right_allows(gateway: UsersGateway, role: str) -> None:
    """Others get what an id gets that no kernel has; a reader gets 403."""
    kernel_id = await start_shared(gateway)
    person = gateway.people[role]
    for (method, route), (needed, status, body) in ROUTES.items():
        answer = await person.ask(method, fill(route, kernel_id), json=body)
        if not RIGHTS[role]:
            unknown = await person.ask(method, fill(route, UNKNOWN_ID), json=body)
            assert without_id(answer, kernel_id) == without_id(unknown, UNKNOWN_ID), route
            assert answer.status == 404
        elif RIGHTS[role] < needed:
            assert answer.status == 403, (method, route)
        else:
            assert answer.status == status, (method, route, answer.raw)


async def test_lists_have_own_and_shared_kernels_only(gateway: UsersGateway) -> None:
    """Kernels, sessions, counts and the front page; a shared kernel is marked."""
    kernel_id = await start_shared(gateway)
    session = {"path": "a.ipynb", "type": "notebook", "kernel": {"id": kernel_id}}
    answer = await gateway.people["owner"].ask("POST", "/api/sessions", json=session)
    assert answer.status == 201
    for role, person in gateway.people.items():
        kernels = {model["id"]: model for model in await person.get("/api/kernels")}
        sessions = await person.get("/api/sessions")
        status = await person.get("/api/status")
        may_see = bool(RIGHTS[role])
        assert set(kernels) == ({kernel_id} if may_see else set()), role
        is_theirs = RIGHTS[role] == OWN
        assert [each["kernel"] for each in sessions] == list(kernels.values()) * is_theirs, role
        assert status["kernels"] == len(kernels), role
        if may_see:
            expected = {
                "reader": {"owner": OWNER, "access": "read"},
                "writer": {"owner": OWNER, "access": "write"},
            }.get(role)
            assert kernels[kernel_id].get("shared") == expected
            assert (await person.get(f"/api/kernels/{kernel_id}")).get("shared") == expected


async def test_activity_of_others_is_not_told(gateway: UsersGateway) -> None:
    """The last activity of a user without kernels is the gateway's start."""
    await start_shared(gateway)
    status = await gateway.people["other"].get("/api/status")
    assert status["last_activity"] == status["started"]


async def test_path_belongs_to_each_owner(gateway: UsersGateway) -> None:
    """Two users with the same path have two sessions; neither sees the other's."""
    body = {"path": "work/a.ipynb", "type": "notebook", "kernel": {"name": "python3"}}
    models = {}
    for role in ("owner", "other"):
        answer = await gateway.people[role].ask("POST", "/api/sessions", json=body)
        again = await gateway.people[role].ask("POST", "/api/sessions", json=body)
        assert answer.status == again.status == 201
        assert answer.body["id"] == again.body["id"]
        models[role] = answer.body
    assert models["owner"]["kernel"]["id"] != models["other"]["kernel"]["id"]
    other, path = gateway.people["other"], f"/api/sessions/{models['owner']['id']}"
    for method in ("GET", "PATCH", "DELETE"):
        answer = await other.ask(method, path, json={"path": "b.ipynb"})
        unknown = await other.ask(method, f"/api/sessions/{UNKNOWN_ID}", json={"path": "b.ipynb"})
        assert answer.status == 404, method
        theirs = without_id(answer, models["owner"]["id"])
        assert theirs == without_id(unknown, UNKNOWN_ID), method


async def test_session_cannot_be_tied_to_the_kernel_of_another(gateway: UsersGateway) -> None:
    """It is as if there were no such kernel: a new session gets one, a present one is refused."""
    kernel_id = await start_shared(gateway)
    other = gateway.people["other"]
    found = []
    for wanted in (kernel_id, UNKNOWN_ID):
        body = {"path": f"{wanted}.ipynb", "type": "notebook", "kernel": {"id": wanted}}
        answer = await other.ask("POST", "/api/sessions", json=body)
        assert answer.status == 201
        assert answer.body["kernel"]["id"] not in {kernel_id, UNKNOWN_ID}
        found.append(answer.body["id"])
    for session_id, wanted in zip(found, (kernel_id, UNKNOWN_ID), strict=True):
        answer = await other.ask(
            "PATCH", f"/api/sessions/{session_id}", json={"kernel": {"id": wanted}}
        )
        assert (answer.status, answer.message) == (400, f"No such kernel: {wanted}")


async def test_sessions_of_a_shared_kernel_follow_the_share(gateway: UsersGateway) -> None:
    """A reader sees the session and changes nothing; a writer uses it, but does not move it."""
    kernel_id = await start_shared(gateway)
    body = {"path": "a.ipynb", "type": "notebook", "kernel": {"id": kernel_id}}
    owned = (await gateway.people["owner"].ask("POST", "/api/sessions", json=body)).body
    reader, writer = gateway.people["reader"], gateway.people["writer"]
    assert (await reader.ask("POST", "/api/sessions", json=body)).body["id"] == owned["id"]
    new = {**body, "path": "b.ipynb"}
    path = f"/api/sessions/{owned['id']}"
    assert (await reader.ask("POST", "/api/sessions", json=new)).status == 403
    assert (await reader.ask("PATCH", path, json={"path": "c.ipynb"})).status == 403
    assert (await reader.ask("DELETE", path)).status == 403
    assert (await writer.ask("POST", "/api/sessions", json=new)).status == 201
    assert (await writer.ask("PATCH", path, json={"name": "c"})).status == 200
    for moved in ({"path": "c.ipynb"}, {"kernel": {"name": "python3"}}):
        answer = await writer.ask("PATCH", path, json=moved)
        assert (answer.status, "another user's" in answer.message) == (403, True)
    assert (await reader.get(path))["path"] == "a.ipynb"
    assert (await writer.ask("DELETE", path)).status == 204
    assert not await gateway.people["owner"].get("/api/kernels")


async def test_session_by_a_share_is_no_session_of_the_owner(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """Else the owner who opens that path would work in a session that another user made."""
    async with serve_users(live) as gateway:
        kernel_id = await start_shared(gateway)
        owner, writer = gateway.people["owner"], gateway.people["writer"]
        body = {"path": "secret.ipynb", "type": "notebook"}
        shared = {**body, "kernel": {"id": kernel_id}}
        planted = (await writer.ask("POST", "/api/sessions", json=shared)).body
        own = (await writer.ask("POST", "/api/sessions", json={**body, "path": "b.ipynb"})).body
        moved = {"path": "moved.ipynb", "kernel": {"id": kernel_id}}
        answer = await writer.ask("PATCH", f"/api/sessions/{own['id']}", json=moved)
        assert (answer.status, answer.body["kernel"]["id"]) == (200, kernel_id)
        assert await owner.get("/api/sessions") == []
        for path in ("secret.ipynb", "moved.ipynb"):
            answer = await owner.ask("POST", "/api/sessions", json={**body, "path": path})
            assert answer.body["id"] not in {planted["id"], own["id"]}
            assert answer.body["kernel"]["id"] != kernel_id
        # to the writer it is a session like any other, through any gateway
        async with serve_users(live) as second:
            again = await second.people["writer"].ask("POST", "/api/sessions", json=body)
            assert again.body["id"] == planted["id"]
        theirs = {each["id"] for each in await writer.get("/api/sessions")}
        assert theirs == {planted["id"], own["id"]}
        leaving = {"kernel": {"name": "python3"}}
        for session_id in theirs:
            answer = await writer.ask("PATCH", f"/api/sessions/{session_id}", json=leaving)
            assert answer.body["kernel"]["id"] != kernel_id
        assert kernel_id in engine.agents


async def test_user_cannot_choose_the_id_of_a_kernel(gateway: UsersGateway) -> None:
    """An id that is taken is refused as one that is free is."""
    kernel_id = await start_shared(gateway)
    other = gateway.people["other"]
    for wanted in (kernel_id, UNKNOWN_ID):
        for body in ({"kernel_id": wanted}, {"env": {"KERNEL_ID": wanted}}):
            answer = await other.ask("POST", "/api/kernels", json=body)
            assert answer.status == 403
            assert "leave kernel_id and KERNEL_ID out" in answer.message
    admin = await gateway.people["admin"].ask("POST", "/api/kernels", json={"kernel_id": kernel_id})
    assert admin.status == 409


MALFORMED: list[tuple[Any, str]] = [
    ("", "Expected `array`"),
    ({"user": "bob"}, "Expected `array`"),
    ([{"access": "read"}], "either a user or a group"),
    ([{"access": "read", "user": "bob", "group": "g"}], "either a user or a group"),
    ([{"access": "admin", "user": "bob"}], "Invalid enum value"),
    ([{"access": "read", "user": "bob", "id": "1"}], "unknown field"),
    ([{"access": "read", "user": ""}], "length"),
    ([{"access": "read", "user": "x" * 256}], "length"),
    ([{"access": "read", "user": "b"}, {"access": "write", "user": "b"}], "more than one"),
    ([{"access": "read", "user": f"u{n}"} for n in range(51)], "at most 50"),
    ([{"access": "read", "user": "\u20ac" * 250 + str(n)} for n in range(50)], "bytes"),
]


async def test_malformed_shares_are_refused(engine: FakeEngine, live: LiveSettings) -> None:
    """With the reason; nothing changes."""
    del engine
    async with serve_users(live) as gateway:
        kernel_id = await start_shared(gateway)
        owner, path = gateway.people["owner"], f"/api/kernels/{kernel_id}/shares"
        for body, message in MALFORMED:
            answer = await owner.ask("PUT", path, data=json.dumps(body) if body else b"")
            assert answer.status == 400
            assert message in answer.message
        assert await owner.get(path) == SHARES


async def test_shares_and_sessions_that_an_agent_forges_count_for_nothing(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """It can neither share its kernel, nor claim a path, nor have those of another kernel."""
    async with serve_users(live) as gateway:
        shared, own = await start_shared(gateway), await start_shared(gateway)
        owner, other = gateway.people["owner"], gateway.people["other"]
        document = engine.agents[shared].state["annotations"]["document"]
        forged = {"id": "1", "user": "bob", "access": "write", "mac": ""}
        for shares in ([*document["shares"], forged], [{**document["shares"][0], "user": "bob"}]):
            forgery = {"revision": 9, "document": {"shares": shares}}
            engine.agents[own].change(annotations=forgery)
            await eventually(lambda: lost_reader(owner, own))
            assert not await is_seen(other, own)


async def lost_reader(owner: Person, kernel_id: str) -> bool:
    """Say whether the gateway has seen that the shares have changed, and takes none of them."""
    return await owner.get(f"/api/kernels/{kernel_id}/shares") == []


async def test_kernel_in_flight_is_its_owners(engine: FakeEngine, live: LiveSettings) -> None:
    """Others get what an unknown id gets while it is being started, for as many calls."""
    engine.gate.clear()
    async with serve_users(live) as gateway:
        owner, other = gateway.people["owner"], gateway.people["other"]
        starting = asyncio.create_task(owner.start_kernel())
        await eventually(lambda: engine.requests)
        kernel_id = engine.requests[0].kernel_id
        path = f"/api/kernels/{kernel_id}"
        assert (await owner.get(path))["execution_state"] == "starting"
        await check_unknown(engine, other, kernel_id)
        engine.gate.set()
        assert await starting == kernel_id
        await check_unknown(engine, other, kernel_id)


async def test_dead_kernel_is_its_owners(engine: FakeEngine, live: LiveSettings) -> None:
    """Its owner and those with whom it was shared learn why it died, others nothing."""
    async with serve_users(live) as gateway:
        kernel_id = await start_shared(gateway)
        await engine.kill(kernel_id, "its node is gone")
        path = f"/api/kernels/{kernel_id}"
        for role in ("owner", "reader"):
            model = await gateway.people[role].get(path)
            assert (model["execution_state"], model["reason"]) == (
                "dead",
                "the kernel's workload ended: its node is gone",
            )
        await check_unknown(engine, gateway.people["other"], kernel_id)


async def test_shared_kernel_that_is_launched_again_stays_shared(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """Clients forget a kernel that is said to be gone. To others there is none, as before."""
    async with serve_users(live) as gateway:
        kernel_id = await start_shared(gateway)
        path = f"/api/kernels/{kernel_id}"
        await engine.kill(kernel_id, "its node is gone")

        async def is_dead() -> bool:
            state = (await gateway.people["owner"].get(path))["execution_state"]
            return bool(state == "dead")

        await eventually(is_dead)
        engine.gate.clear()
        restart = asyncio.create_task(gateway.people["owner"].ask("POST", f"{path}/restart"))
        await eventually(lambda: len(engine.requests) == 2)
        for role in ("reader", "writer"):
            model = await gateway.people[role].get(path)
            assert model["execution_state"] == "starting"
        await check_unknown(engine, gateway.people["other"], kernel_id)
        engine.gate.set()
        assert (await restart).status == 200
        assert (await gateway.people["reader"].get(path))["execution_state"] == "idle"


async def test_kernel_whose_shares_are_not_known_is_not_said_to_be_gone(
    engine: FakeEngine, live: LiveSettings
) -> None:
    """A gateway that has never heard its agent asks clients to come again: they forget it else."""
    async with serve_users(live) as gateway:
        kernel_id = await start_shared(gateway)
        path = f"/api/kernels/{kernel_id}"
        engine.agents[kernel_id].silence.clear()
        async with serve_users(live) as second:
            answer = await second.people["reader"].ask("GET", path)
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert "With whom kernel" in answer.message
            engine.agents[kernel_id].silence.set()

            async def is_found() -> bool:
                return (await second.people["reader"].ask("GET", path)).status == 200

            await eventually(is_found)


async def check_unknown(engine: FakeEngine, other: Person, kernel_id: str) -> None:
    """Check that a kernel is to a user as if it did not exist, and costs as many engine calls."""
    for method, route in ROUTES:
        seen = []
        for wanted in (kernel_id, UNKNOWN_ID):
            before = len(engine.observations)
            answer = await other.ask(method, fill(route, wanted))
            seen.append((without_id(answer, wanted), len(engine.observations) - before))
        assert seen[0] == seen[1], (method, route)


async def test_reader_sees_output_and_sends_nothing(gateway: UsersGateway) -> None:
    """What it sends is answered with a reason; kernel_info, which front ends need, is told."""
    kernel_id = await start_shared(gateway)
    owner = Channels(await gateway.people["owner"].connect(kernel_id), "h1")
    reader = Channels(await gateway.people["reader"].connect(kernel_id), "h2")
    asked = await reader.send("shell", "kernel_info_request", {})
    assert (await reader.receive("kernel_info_reply", asked))["status"] == "ok"
    for channel, msg_type in (
        ("shell", "execute_request"),
        ("shell", "complete_request"),
        ("control", "interrupt_request"),
        ("control", "shutdown_request"),
    ):
        asked = await reader.send(channel, msg_type, {"code": "x = 1", "restart": False})
        reply = await reader.receive(msg_type.replace("_request", "_reply"), asked)
        assert (reply["status"], reply["ename"]) == ("error", "ReadOnly")
    await reader.send("stdin", "input_reply", {"value": "x"})
    await reader.send("shell", "comm_open", {"comm_id": "c", "target_name": "t", "data": {}})
    assert await owner.evaluate("'x' in globals()") == "False"
    said = await owner.run("print('for all')")
    assert (await reader.receive("stream", said))["text"] == "for all\n"


async def test_reader_gets_no_replies_and_prompts_of_others(gateway: UsersGateway) -> None:
    """Not with the owner's `session_id`, whose connection stays, and not by `replay`."""
    kernel_id = await start_shared(gateway)
    owner = Channels(await gateway.people["owner"].connect(kernel_id, "s1"), "h1")
    asked = await owner.send(
        "shell", "execute_request", {"code": "input('secret? ')", "allow_stdin": True}
    )
    await owner.receive("input_request", asked)
    for query in ("", f"&replay={asked}", "&replay=running"):
        socket = await gateway.people["reader"].connect(kernel_id, "s1", query)
        reader = Channels(socket, "h1")
        info = await reader.send("shell", "kernel_info_request", {})
        seen = []
        while not seen or seen[-1]["parent_header"].get("msg_id") != info:
            seen.append(await asyncio.wait_for(socket.receive_json(), DEADLINE))
        assert {message["channel"] for message in seen[:-1]} <= {"iopub"}
        await socket.close()
    await owner.send("stdin", "input_reply", {"value": "x"})
    assert "'x'" in (await owner.receive("execute_result", asked))["data"]["text/plain"]


async def test_writer_runs_code(gateway: UsersGateway) -> None:
    """As the owner does, in a session of its own."""
    kernel_id = await start_shared(gateway)
    writer = Channels(await gateway.people["writer"].connect(kernel_id), "h2")
    assert await writer.evaluate("1 + 1") == "2"


async def close_of(socket: aiohttp.ClientWebSocketResponse) -> tuple[int, str]:
    """Return code and reason with which a WebSocket is closed."""
    while True:
        message = await asyncio.wait_for(socket.receive(), DEADLINE)
        if message.type is aiohttp.WSMsgType.CLOSE:
            return message.data, str(message.extra)
        assert message.type in {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.PING}


async def test_share_that_goes_closes_what_it_opened(
    gateway: UsersGateway, live: LiveSettings
) -> None:
    """Through any replica: WebSockets with 1008, streams with a record; others stay."""
    kernel_id = await start_shared(gateway)
    path = f"/api/kernels/{kernel_id}"
    async with serve_users(live) as second:
        reader, writer = second.people["reader"], second.people["writer"]
        await eventually(lambda: is_seen(reader, kernel_id))
        staying = await reader.connect(kernel_id)
        sockets = [
            await each.people["writer"].connect(kernel_id, answers=False)
            for each in (gateway, second)
        ]
        async with second.service.http.post(
            f"{path}/execute", json={"code": "import time; time.sleep(60)"}, headers=writer.headers
        ) as response:
            stream = Stream(response)
            await stream.until(event="execution")
            owner = gateway.people["owner"]
            answer = await owner.ask("PUT", f"{path}/shares", json=SHARES[:1])
            assert answer.body == SHARES[:1]
            assert (await stream.until(event="revoked"))["message"]
        # they have one session: the second took over from the first
        assert (await close_of(sockets[0]))[0] == 1001
        code, reason = await close_of(sockets[1])
        assert (code, "not shared with you any more" in reason) == (1008, True)
        await eventually(lambda: is_refused(writer, path))
        # the execution goes on, and the owner may end it
        assert (await owner.get(f"{path}/executions"))[0]["state"] == "running"
        assert (await owner.ask("POST", f"{path}/interrupt")).status == 204
        channels = Channels(staying, "h")
        assert await channels.receive("error")


async def is_seen(person: Person, kernel_id: str) -> bool:
    """Say whether a user's list has a kernel."""
    return kernel_id in {model["id"] for model in await person.get("/api/kernels")}


async def is_refused(person: Person, path: str) -> bool:
    """Say whether a kernel is to a user as if it did not exist."""
    return (await person.ask("GET", path)).status == 404


async def test_share_with_other_access_closes_what_the_former_opened(
    gateway: UsersGateway,
) -> None:
    """A writer who becomes a reader has to connect again, and sends nothing more."""
    kernel_id = await start_shared(gateway)
    writer = gateway.people["writer"]
    socket = await writer.connect(kernel_id, answers=False)
    shares = [{"group": "writers", "access": "read"}]
    await gateway.people["owner"].ask("PUT", f"/api/kernels/{kernel_id}/shares", json=shares)
    assert (await close_of(socket))[0] == 1008
    again = Channels(await writer.connect(kernel_id), "h")
    asked = await again.run("1")
    assert (await again.receive("execute_reply", asked))["ename"] == "ReadOnly"


async def test_revoked_credential_closes_what_it_opened(
    gateway: UsersGateway, live: LiveSettings
) -> None:
    """Through any replica; those of other credentials stay, of the same user as well."""
    kernel_id = await start_shared(gateway)
    async with serve_users(live) as second:
        await eventually(lambda: is_seen(second.people["owner"], kernel_id))
        revoked = await gateway.people["owner"].connect(kernel_id, "s1", answers=False)
        staying = await gateway.people["server"].connect(kernel_id, "s2")
        second.app[OWNERSHIP].revoke(USERS["owner"].credential)
        code, reason = await close_of(revoked)
        assert (code, "credential was revoked" in reason) == (1008, True)
        assert await Channels(staying, "h").evaluate("1") == "1"
        # a gateway that has not heard of it cannot open another one
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await gateway.people["owner"].connect(kernel_id, "s3")
        assert refused.value.status == 403


async def test_token_that_leaves_the_file_closes_what_it_opened(
    live: LiveSettings, tmp_path: Path
) -> None:
    """With the real way of knowing users, through a gateway that has no part in the WebSocket."""
    made = [make_token(user) for user in ("ann", "ann", "bob")]
    path = tmp_path / "tokens.json"
    know_users(live, path, (entry for _, entry in made))
    first, second, bob = ({"Authorization": f"token {token}"} for token, _ in made)
    async with serve_settings(live) as one, serve_settings(live) as other:
        answer = await one.ask("POST", "/api/kernels", headers=first)
        kernel = f"/api/kernels/{answer.body['id']}"

        async def is_known() -> bool:
            return (await other.ask("GET", kernel, headers=second)).status == 200

        await eventually(is_known)
        assert (await other.ask("GET", kernel, headers=bob)).status == 404
        revoked = await one.http.ws_connect(
            f"{kernel}/channels?session_id=1", headers=first, autoping=False
        )
        staying = await other.http.ws_connect(f"{kernel}/channels?session_id=2", headers=second)
        path.write_bytes(encode_tokens(entry for _, entry in made[1:]))
        code, reason = await close_of(revoked)
        assert (code, "credential was revoked" in reason) == (1008, True)

        async def is_refused_by_both() -> bool:
            answers = [await each.ask("GET", kernel, headers=first) for each in (one, other)]
            return {answer.status for answer in answers} == {401}

        await eventually(is_refused_by_both)
        assert await Channels(staying, "h").evaluate("1") == "1"
        await staying.close()
        assert (await other.ask("DELETE", kernel, headers=second)).status == 204


async def test_jwt_that_expires_closes_what_it_opened(live: LiveSettings) -> None:
    """The agent does it, also if the gateway that has accepted the JWT has gone."""
    settings = live.current
    async with serve_issuer() as issuer:
        identity = replace(settings.identity, oidc_issuer=issuer.url, oidc_audience=AUDIENCE)
        kernels = replace(settings.kernels, allowed_kernels=frozenset({"python3"}))
        live.replace(replace(settings, identity=identity, kernels=kernels))
        soon = time.time() - LEEWAY_SECONDS + 5
        brief, long = (
            {"Authorization": f"Bearer {issuer.sign(issuer.claims(**changes))}"}
            for changes in ({"exp": int(soon)}, {})
        )
        async with serve_settings(live) as gateway:
            answer = await gateway.ask("POST", "/api/kernels", headers=long)
            kernel = f"/api/kernels/{answer.body['id']}"
            ending = await gateway.http.ws_connect(
                f"{kernel}/channels?session_id=1", headers=brief, autoping=False
            )
            staying = await gateway.http.ws_connect(f"{kernel}/channels?session_id=2", headers=long)
            code, reason = await close_of(ending)
            assert (code, "has expired: sign in again" in reason) == (1008, True)
            assert (await gateway.ask("GET", kernel, headers=brief)).status == 401
            assert await Channels(staying, "h").evaluate("1") == "1"
            await staying.close()
            assert (await gateway.ask("DELETE", kernel, headers=long)).status == 204


async def test_silent_agent_holds_up_no_revocation_at_others(
    engine: FakeEngine, live: LiveSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are told while it is silent; it is told as soon as it answers."""
    monkeypatch.setattr(ownership, "MAX_REVOCATIONS_AT_ONCE", 1)
    async with serve_users(live) as gateway:
        owner = gateway.people["owner"]
        silent, other = [engine.agents[await owner.start_kernel()] for _ in range(2)]
        silent.silence.clear()
        for credential in ("c1", "c2"):  # the second time it is known to be silent
            gateway.app[OWNERSHIP].revoke(credential)
            told = other.calls.count(REVOKE) + 1
            await eventually(
                lambda told=told: other.calls.count(REVOKE) == told, deadline=ANSWER_SECONDS / 2
            )
        asked = silent.calls.count(REVOKE)
        silent.silence.set()
        await eventually(lambda: silent.calls.count(REVOKE) > asked)


async def test_agent_that_cannot_revoke_is_named_to_the_operator(
    engine: FakeEngine, live: LiveSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """An agent from before there were users knows no such request."""
    del engine
    async with serve_users(live) as gateway:
        kernel_id = await gateway.people["owner"].start_kernel()
        gateway.app[OWNERSHIP].revoke("c1")
        await eventually(lambda: "may still be open" in caplog.text)
    (message,) = (record.message for record in caplog.records if "may still" in record.message)
    assert kernel_id in message
    assert "status 404" in message
    assert "End the kernel" in message
