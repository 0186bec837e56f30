"""The file of users' tokens is read again when it changes, and faults change nothing."""

import logging
import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.users import Scope
from enterprise_gateway.web.access.identity.contract import ExpiredError
from enterprise_gateway.web.access.identity.revocations import Revocations
from enterprise_gateway.web.access.identity.token_document import (
    MAX_BYTES,
    StoredToken,
    encode_tokens,
    new_token,
)
from enterprise_gateway.web.access.identity.token_file import TokenFile

START = datetime(2026, 11, 30, tzinfo=UTC)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now


class Rig:
    """A file, its reader, and what was revoked."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "tokens.json"
        self.clock = Clock()
        self.revoked: list[str] = []
        revocations = Revocations()
        revocations.subscribe(lambda _: 1 / 0)  # one that fails does not matter to the others
        revocations.subscribe(self.revoked.append)
        self.file = TokenFile(self.path, revocations, self.clock)

    def write(self, entries: Iterable[StoredToken]) -> None:
        """Replace the file as the command does."""
        new = self.path.with_suffix(".new")
        new.write_bytes(encode_tokens(entries))
        new.replace(self.path)

    async def user_of(self, token: str) -> str | None:
        """Return the name of a token's user."""
        user = await self.file.identify(token, is_suspect=True)
        return user.username if user else None


def make(user: str, expires: datetime | None = None) -> tuple[str, StoredToken]:
    """Make a token."""
    return new_token(
        user, created=START, expires=expires, groups=[], scopes=[Scope.KERNELS], acts_for=[]
    )


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A file that is not there yet."""
    return Rig(tmp_path)


async def test_added_token_is_known_and_removed_one_is_revoked(rig: Rig) -> None:
    """Without a restart."""
    (first, ann), (second, bob) = make("ann"), make("bob")
    rig.write([ann])
    rig.file.load()
    assert (await rig.user_of(first), await rig.user_of(second)) == ("ann", None)
    rig.write([ann, bob])
    await rig.file.check()
    assert (await rig.user_of(first), await rig.user_of(second)) == ("ann", "bob")
    assert rig.revoked == []
    rig.write([bob])
    await rig.file.check()
    assert (await rig.user_of(first), await rig.user_of(second)) == (None, "bob")
    assert rig.revoked == [f"token:{ann.id}"]


async def test_expired_token_is_told_apart_and_revoked_once(rig: Rig) -> None:
    """Its owner is told when; it is revoked though nothing shows it."""
    token, entry = make("ann", START + timedelta(hours=1))
    rig.write([entry])
    rig.file.load()
    await rig.file.check()
    assert await rig.user_of(token) == "ann"
    rig.clock.now += timedelta(hours=1)
    with pytest.raises(ExpiredError, match="expired at 2026-11-30 01:00 UTC"):
        await rig.user_of(token)
    await rig.file.check()
    await rig.file.check()
    assert rig.revoked == [f"token:{entry.id}"]


@pytest.mark.parametrize(
    "fault", [b"{", b"x" * (MAX_BYTES + 1), None], ids=["json", "size", "gone"]
)
async def test_faulty_file_changes_nothing_and_is_told_once(
    rig: Rig, fault: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    """An editor that is not done locks no user out; a mended file counts again."""
    (first, ann), (second, bob) = make("ann"), make("bob")
    rig.write([ann])
    rig.file.load()
    if fault is None:
        rig.path.unlink()
    else:
        rig.path.write_bytes(fault)
    for _ in range(3):
        await rig.file.check()
    assert await rig.user_of(first) == "ann"
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert str(rig.path) in errors[0].message
    assert rig.revoked == []
    rig.write([bob])
    await rig.file.check()
    assert await rig.user_of(second) == "bob"
    assert rig.revoked == [f"token:{ann.id}"]


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "faulty"])
def test_gateway_does_not_start_with_a_faulty_file(rig: Rig, kind: str) -> None:
    """It would let in others than its operator thinks; a pipe is not waited for."""
    if kind == "folder":
        rig.path.mkdir()
    elif kind == "pipe":
        os.mkfifo(rig.path)
    elif kind == "faulty":
        rig.path.write_text("{}x")
    with pytest.raises(ConfigurationError, match=f"user_tokens_file {rig.path}: "):
        rig.file.load()
