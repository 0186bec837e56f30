"""The audit log: one line for each thing that is done, or refused, to a kernel or session."""

import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.clients.json_channels import Channels
from harness.engines.fake_engine import FakeEngine, proxies_of
from harness.gateways.service import TOKEN, UNKNOWN_ID, make_settings
from harness.gateways.users import OWNER, SHARES, USERS, UsersGateway, serve_users
from harness.waiting import eventually

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services import composition
from enterprise_gateway.settings import LiveSettings
from enterprise_gateway.web.audit import audit_file

Line = dict[str, Any]


class Log:
    """The file of an audit log."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[Line]:
        """Return its lines."""
        return [json.loads(line) for line in self.path.read_text("ascii").splitlines()]

    def events(self) -> list[tuple[str, str, int | None, str | None]]:
        """Return event, outcome, status and user of each line."""
        return [
            (line["event"], line["outcome"], line["status"], line["user"]) for line in self.lines()
        ]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """The audit log of this test."""
    path = tmp_path / "audit.log"
    with audit_file(str(path)):
        yield Log(path)


@pytest.fixture
async def gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Log
) -> AsyncIterator[UsersGateway]:
    """A gateway with a fake engine."""
    del log
    live = LiveSettings(make_settings(tmp_path))
    engine = FakeEngine(live, tmp_path)
    monkeypatch.setattr(composition, "ProxyRegistry", proxies_of(engine))
    async with serve_users(live) as served:
        yield served
    await engine.discard()


async def test_what_is_done_is_written(gateway: UsersGateway, log: Log) -> None:
    """With user, credential, kernel, owner, peer and request; reads are not."""
    owner = gateway.people["owner"]
    kernel_id = await owner.start_kernel()
    path = f"/api/kernels/{kernel_id}"
    await owner.get(path)
    await owner.get("/api/kernels")
    await owner.ask("PUT", f"{path}/shares", json=SHARES)
    await owner.ask("POST", f"{path}/interrupt")
    await gateway.people["admin"].ask("POST", f"{path}/restart")
    body = {"path": "a.ipynb", "type": "notebook", "kernel": {"id": kernel_id}}
    session = (await owner.ask("POST", "/api/sessions", json=body)).body
    await owner.ask("PATCH", f"/api/sessions/{session['id']}", json={"name": "b"})
    answer = await owner.ask("DELETE", f"/api/sessions/{session['id']}")
    name = USERS["owner"].username
    assert log.events() == [
        ("start", "ok", 201, name),
        ("share", "ok", 200, name),
        ("interrupt", "ok", 204, name),
        ("restart", "ok", 200, USERS["admin"].username),
        ("session_create", "ok", 201, name),
        ("session_change", "ok", 200, name),
        ("session_delete", "ok", 204, name),
    ]
    lines = log.lines()
    assert {line["kernel_id"] for line in lines} == {kernel_id}
    assert {line["peer"] for line in lines} == {"127.0.0.1"}
    assert lines[0]["credential"] == USERS["owner"].credential
    assert (lines[0]["kernel_name"], lines[1]["shares"]) == ("python3", SHARES)
    assert {line["owner"] for line in lines} == {"ann--40example--2eorg"}
    assert lines[-1]["request_id"] == answer.headers["X-Request-ID"]


async def test_what_is_refused_is_written(gateway: UsersGateway, log: Log) -> None:
    """Also reads: without a token, without the right, and of another user's kernel."""
    owner, other, reader = (gateway.people[role] for role in ("owner", "other", "reader"))
    kernel_id = await owner.start_kernel()
    path = f"/api/kernels/{kernel_id}"
    await owner.ask("PUT", f"{path}/shares", json=SHARES)
    async with gateway.service.http.get(path, headers={"Authorization": "token wrong"}) as answer:
        assert answer.status == 401
    await other.ask("GET", path)
    await other.ask("DELETE", path)
    await other.ask("GET", f"/api/kernels/{UNKNOWN_ID}")  # there is none: nothing to tell
    await reader.ask("POST", f"{path}/interrupt")
    assert log.events()[2:] == [
        ("request", "refused", 401, None),
        ("request", "refused", 404, "bob"),
        ("delete", "refused", 404, "bob"),
        ("interrupt", "refused", 403, "rita"),
    ]
    assert log.lines()[3]["owner"] == "ann--40example--2eorg"
    assert log.lines()[2]["path"] == path


async def test_session_is_told_of_with_the_kernel_that_it_has(
    gateway: UsersGateway, log: Log
) -> None:
    """Not with another user's that the request named, which is refused where a session moves."""
    kernel_id = await gateway.people["owner"].start_kernel()
    other = gateway.people["other"]
    body = {"path": "a.ipynb", "type": "notebook", "kernel": {"id": kernel_id}}
    models = [(await other.ask("POST", "/api/sessions", json=body)).body for _ in range(2)]
    path = f"/api/sessions/{models[0]['id']}"
    first, second = models[0]["kernel"]["id"], await other.start_kernel()
    await other.ask("PATCH", path, json={"kernel": {"id": kernel_id}})
    await other.ask("PATCH", path, json={"kernel": {"id": UNKNOWN_ID}})
    await other.ask("PATCH", path, json={"kernel": {"id": second}})
    told = [
        (each["event"], each["outcome"], each["kernel_id"], each["owner"]) for each in log.lines()
    ]
    assert told[1:3] == [("session_create", "ok", first, "bob")] * 2
    assert told[4:] == [
        ("session_change", "refused", kernel_id, "ann--40example--2eorg"),
        ("session_change", "failed", first, "bob"),
        ("session_change", "ok", second, "bob"),
    ]


async def test_no_secret_and_no_control_character_is_written(
    gateway: UsersGateway, log: Log
) -> None:
    """Whatever a client puts into its path; neither its token."""
    shared = gateway.people["shared"]
    await shared.ask("DELETE", f"/t/{TOKEN}/api/kernels/x%0A%1B%5B2J%C2%9B?token={TOKEN}")
    await shared.ask("DELETE", "/api/kernels/" + "y" * 4000)
    assert len(log.events()) == 2
    text = log.path.read_text("ascii")
    assert TOKEN not in text
    assert text.count("\n") == 2
    assert max(map(len, text.splitlines())) < 2000
    assert text.replace("\n", "").isprintable()


async def test_renamed_file_is_begun_anew(gateway: UsersGateway, log: Log) -> None:
    """As logrotate does it, without a signal."""
    owner = gateway.people["owner"]
    kernel_id = await owner.start_kernel()
    rotated = log.path.rename(log.path.with_suffix(".1"))
    await owner.ask("DELETE", f"/api/kernels/{kernel_id}")
    assert [line["event"] for line in Log(rotated).lines()] == ["start"]
    assert [line["event"] for line in log.lines()] == ["delete"]
    assert log.path.stat().st_mode & 0o777 == 0o640 & ~umask()


def umask() -> int:
    """Return the umask."""
    mask = os.umask(0o22)
    os.umask(mask)
    return mask


async def test_requests_are_served_while_the_file_cannot_be_written(
    gateway: UsersGateway, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    """The operator is told once."""
    owner = gateway.people["owner"]
    folder = log.path.parent / "moved"
    log.path.unlink()
    log.path.mkdir()
    for _ in range(3):
        await owner.start_kernel()
    assert [record.levelname for record in caplog.records if "audit log" in record.message] == [
        "ERROR"
    ]
    log.path.rename(folder)
    await owner.start_kernel()
    assert len(log.lines()) == 1


def test_file_that_cannot_be_opened_ends_the_start(tmp_path: Path) -> None:
    """With the reason."""
    with (
        pytest.raises(ConfigurationError, match="audit_log"),
        audit_file(str(tmp_path / "no folder" / "audit.log")),
    ):
        raise AssertionError("it was opened")


@pytest.mark.kernel
async def test_websocket_has_two_lines(tmp_path: Path, log: Log) -> None:
    """When it is opened, and when it ends."""
    async with serve_users(LiveSettings(make_settings(tmp_path))) as gateway:
        owner = gateway.people["owner"]
        kernel_id = await owner.start_kernel()
        socket = await owner.connect(kernel_id)
        assert await Channels(socket, "h").evaluate("1") == "1"
        assert [event[0] for event in log.events()] == ["start", "connect"]
        await socket.close()
        await eventually(lambda: log.events()[-1] == ("disconnect", "ok", 101, OWNER))
        code = {"code": "1"}
        await owner.ask("POST", f"/api/kernels/{kernel_id}/execute", json=code)
        await owner.ask("DELETE", f"/api/kernels/{kernel_id}")
        assert [event[0] for event in log.events()[3:]] == ["execute", "delete"]
