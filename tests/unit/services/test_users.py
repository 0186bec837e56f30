"""Unit tests of users: for whom they may act, and whose kernels they may use."""

from dataclasses import replace

import pytest

from enterprise_gateway.services import users
from enterprise_gateway.services.processproxies.workloads.names import escape_username
from enterprise_gateway.services.users import SHARED, Account, Scope, User, is_name

ANN = User("ann@example.org", credential="token:1")
SERVER = User("jupyter", acts_for=frozenset({"ann@example.org"}), credential="token:2")


def test_user_uses_own_kernels_only() -> None:
    """A user name is compared in the form that it has in names of workloads."""
    assert ANN.may_use(escape_username("ann@example.org"))
    assert not ANN.may_use("bob")


def test_server_acts_for_its_users_only() -> None:
    """A server that acts for some users does not act for others."""
    assert SERVER.may_act_for("ann@example.org")
    assert SERVER.may_use(escape_username("ann@example.org"))
    assert not SERVER.may_act_for("bob")


def test_names_are_escaped_once_however_many_kernels_are_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that acts for many users would hold up all requests otherwise."""
    escaped = []

    def count(name: str) -> str:
        escaped.append(name)
        return escape_username(name)

    monkeypatch.setattr(users, "escape_username", count)
    names = frozenset(f"student-{number}" for number in range(200))
    server = User("class", acts_for=names, credential="token:4")
    assert all(server.may_use(f"student-{number % 200}") for number in range(1000))
    assert not server.may_use("bob")
    assert sorted(escaped) == sorted({"class", *names})


def test_admin_uses_all_kernels_and_acts_for_none() -> None:
    """An admin uses the kernels of all, and starts them in their own name."""
    admin = User("root", scopes=frozenset({Scope.ADMIN}))
    assert admin.may_use("bob")
    assert not admin.may_act_for("bob")


def test_holder_of_the_shared_token_acts_for_all() -> None:
    """The shared token opens everything, as in Jupyter Enterprise Gateway."""
    assert SHARED.may_act_for("bob")
    assert SHARED.may_use("bob")


def test_groups_of_a_user_are_those_that_are_known() -> None:
    """By their own credential, and by their name, if a service acts for them."""
    known = Account(frozenset({"lab"}), uid=7, gid=8)
    own = User("ann", groups=frozenset({"hub"}), credential="token:1")
    both = frozenset({"lab", "hub"})
    assert own.account_for("ann", known) == replace(known, groups=both)
    server = User("s", acts_for=frozenset({"*"}), groups=frozenset({"it"}), credential="token:2")
    assert server.account_for("ann", known) == known
    assert SHARED.account_for("ann", known) == Account(frozenset({"lab"}))


def test_user_who_is_known_wins_over_the_name_in_a_request() -> None:
    """Unless they act for the one that is named; what the shared token's holder says is so."""
    assert ANN.name_for("bob") == "ann@example.org"
    assert ANN.name_for(None) == "ann@example.org"
    assert SERVER.name_for("ann@example.org") == "ann@example.org"
    assert SERVER.name_for("bob") == "jupyter"
    assert SERVER.name_for("") == "jupyter"
    everyone = User("hub", acts_for=frozenset({"*"}), credential="token:3")
    assert (everyone.name_for("bob"), everyone.name_for(None)) == ("bob", "hub")
    assert (SHARED.name_for("bob"), SHARED.name_for(None)) == ("bob", None)


def test_names_are_printable_and_mean_one_user() -> None:
    """`*` is no user, nor is that of the pools; a kernel's variable holds every name."""
    for name in ("ann", "ann@example.org", "josé", "Ann Smith", "service:lab", "a" * 255):
        assert is_name(name), name
    for name in ("", "*", " ann", "ann ", "a\nb", "a\x00", "a`b", "\udcff", "a" * 256):
        assert not is_name(name), name
    assert not is_name("enterprise-gateway-pool")
