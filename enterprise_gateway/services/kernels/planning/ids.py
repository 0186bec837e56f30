"""As which user and group of the system a kernel's processes run. Pure."""

from collections.abc import Mapping

from enterprise_gateway.errors import ForbiddenError
from enterprise_gateway.services.users import Account
from enterprise_gateway.settings import KernelSettings

UID = "KERNEL_UID"
GID = "KERNEL_GID"


def ids_of(account: Account) -> dict[str, str]:
    """Return the variables of the ids that an account states."""
    ids = {UID: account.uid, GID: account.gid}
    return {name: str(number) for name, number in ids.items() if number is not None}


def check_ids(asked: Mapping[str, object], account: Account, settings: KernelSettings) -> None:
    """Raise `ForbiddenError` if a client may not choose the ids that it names.

    A text that is no number is left to the launch, which refuses it, as it does prohibited ids.

    Args:
        asked: the variables that the client has sent.
        account: that of the kernel's user. What it states counts, whatever the client asks for.
        settings: the settings.
    """
    stated = ids_of(account)
    for name, allowed in ((UID, settings.allowed_uids), (GID, settings.allowed_gids)):
        if name in stated or name not in asked or not allowed:
            continue
        try:
            number = int(str(asked[name]))
        except ValueError:
            continue
        if not any(number in numbers for numbers in allowed):
            kind = name.removeprefix("KERNEL_")
            raise ForbiddenError(
                f"{name} asks for {number}, which is not allowed here. Leave {name} out, or have "
                f"the operator add it to allowed_{kind.lower()}s (EG_ALLOWED_{kind}S)."
            )
