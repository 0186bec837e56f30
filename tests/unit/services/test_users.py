"""Unit tests of users: for whom they may act, and whose kernels they may use."""

from enterprise_gateway.services.processproxies.workloads.names import escape_username
from enterprise_gateway.services.users import SHARED, Scope, User

ANN = User("ann@example.org")
SERVER = User("jupyter", acts_for=frozenset({"ann@example.org"}))


def test_user_uses_own_kernels_only() -> None:
    """A user name is compared in the form that it has in names of workloads."""
    assert ANN.may_use(escape_username("ann@example.org"))
    assert not ANN.may_use("bob")


def test_server_acts_for_its_users_only() -> None:
    """A server that acts for some users does not act for others."""
    assert SERVER.may_act_for("ann@example.org")
    assert SERVER.may_use(escape_username("ann@example.org"))
    assert not SERVER.may_act_for("bob")


def test_admin_uses_all_kernels_and_acts_for_none() -> None:
    """An admin uses the kernels of all, and starts them in their own name."""
    admin = User("root", scopes=frozenset({Scope.ADMIN}))
    assert admin.may_use("bob")
    assert not admin.may_act_for("bob")


def test_holder_of_the_shared_token_acts_for_all() -> None:
    """The shared token opens everything, as in Jupyter Enterprise Gateway."""
    assert SHARED.may_act_for("bob")
    assert SHARED.may_use("bob")
