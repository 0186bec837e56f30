"""The users whose names come from elsewhere, with the rights that the settings give them. Pure."""

from collections.abc import Iterable

from enterprise_gateway.services.users import Scope, User, is_name
from enterprise_gateway.settings import IdentitySettings

MAX_GROUPS = 1000


def make_user(
    settings: IdentitySettings,
    username: str,
    groups: Iterable[str],
    credential: str,
    expires: float | None = None,
) -> User | None:
    """Return a user of the name; None if it cannot be one.

    Args:
        settings: Who is an admin, and who acts for whom.
        username: As another party states it; anything.
        groups: Likewise. Those that cannot be groups are left out.
        credential: See `User.credential`.
        expires: See `User.expires`.
    """
    if not is_name(username):
        return None
    member_of = frozenset([name for name in groups if is_name(name)][:MAX_GROUPS])
    is_admin = username in settings.admin_users or not member_of.isdisjoint(settings.admin_groups)
    return User(
        username=username,
        name=username,
        display_name=username,
        acts_for=frozenset(user for name, user in settings.acts_for if name == username),
        groups=member_of,
        scopes=frozenset({Scope.KERNELS, Scope.ADMIN} if is_admin else {Scope.KERNELS}),
        credential=credential,
        expires=expires,
    )
