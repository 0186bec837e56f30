"""`jupyter enterprisegateway tokens`: the file that it writes."""

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from enterprise_gateway.app.commands.tokens import change_tokens
from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.users import Scope
from enterprise_gateway.web.access.identity.token_document import (
    StoredToken,
    TokenDocument,
    new_token,
)
from enterprise_gateway.web.access.identity.token_file import read_tokens


def make(user: str) -> StoredToken:
    """Make the entry of a token."""
    return new_token(
        user,
        created=datetime(2026, 11, 30, tzinfo=UTC),
        expires=None,
        groups=[],
        scopes=[Scope.KERNELS],
        acts_for=[],
    )[1]


def add(path: Path, user: str) -> None:
    """Add a token to a file."""
    change_tokens(path, lambda tokens: [*tokens, make(user)])


def users(path: Path) -> list[str]:
    """Return the users of the tokens in a file."""
    return [token.user for token in read_tokens(path)]


def test_new_file_is_private(tmp_path: Path) -> None:
    """And its mode stays what the operator makes it."""
    path = tmp_path / "tokens.json"
    add(path, "ann")
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    add(path, "bob")
    assert path.stat().st_mode & 0o777 == 0o640
    assert users(path) == ["ann", "bob"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["tokens.json", "tokens.json.lock"]


def test_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    """Its target is replaced."""
    target, link = tmp_path / "target.json", tmp_path / "link.json"
    link.symlink_to(target)
    add(link, "ann")
    assert link.is_symlink()
    assert users(target) == ["ann"]


def test_commands_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    """Each sees what the others have written."""
    path = tmp_path / "tokens.json"
    names = [f"user{number}" for number in range(20)]
    threads = [threading.Thread(target=add, args=(path, name)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(users(path)) == sorted(names)


def test_faulty_file_is_left_as_it_is(tmp_path: Path) -> None:
    """A change that fails, too."""
    path = tmp_path / "tokens.json"
    path.write_text("{")
    with pytest.raises(ConfigurationError, match="JSON"):
        add(path, "ann")
    assert path.read_text() == "{"
    with pytest.raises(ConfigurationError, match="Cannot write"):
        add(tmp_path / "missing" / "tokens.json", "ann")

    def fail(_tokens: TokenDocument) -> list[StoredToken]:
        raise KeyError("x")

    path.write_text("{}")
    with pytest.raises(KeyError):
        change_tokens(path, fail)
    assert path.read_text() == "{}"
