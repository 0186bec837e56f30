"""`jupyter enterprisegateway tokens`: makes, lists and removes the tokens of users.

They are in the file that `user_tokens_file` names. Gateways that run notice changes by themselves.
"""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from traitlets import Float, Integer, List, Unicode

from enterprise_gateway.app.commands.command import Command, print_line
from enterprise_gateway.app.commands.list_command import ListCommand
from enterprise_gateway.errors import ConfigurationError, InvalidRequestError, NotFoundError
from enterprise_gateway.services.users import Scope
from enterprise_gateway.settings import parse
from enterprise_gateway.web.access.identity.token_document import (
    MAX_TOKENS,
    StoredToken,
    TokenDocument,
    decode_tokens,
    encode_tokens,
    new_token,
)
from enterprise_gateway.web.access.identity.token_file import read_tokens

COLUMNS = ("ID", "USER", "SCOPES", "GROUPS", "ACTS FOR", "CREATED", "EXPIRES")


class TokensCommand(Command):
    """A command that changes the file."""

    takes_arguments = True

    def one_argument(self, what: str) -> str:
        """Return the single argument of the command.

        Raises:
            InvalidRequestError: it has none, or several.
        """
        if len(self.extra_args) != 1:
            raise InvalidRequestError(f"Name {what}.")
        return str(self.extra_args[0])


class TokenAddApp(TokensCommand):
    """Makes a token for a user and prints it: the only time that it can be seen."""

    name = "jupyter enterprisegateway tokens add"
    description = __doc__ or ""
    examples = """jupyter enterprisegateway tokens add ann --days=90
jupyter enterprisegateway tokens add bob --groups=lab --uid=20001 --gid=20001
jupyter enterprisegateway tokens add jupyter-server --acts-for='*'
jupyter enterprisegateway tokens add prometheus --scopes=read:metrics"""
    aliases = {  # noqa: RUF012 - traitlets' own way to declare them
        **Command.aliases,
        "groups": "TokenAddApp.groups",
        "scopes": "TokenAddApp.granted_scopes",
        "acts-for": "TokenAddApp.granted_users",
        "days": "TokenAddApp.days",
        "uid": "TokenAddApp.uid",
        "gid": "TokenAddApp.gid",
    }

    groups = List(Unicode(), help="Groups of the user; one each time.").tag(config=True)
    granted_scopes = List(
        Unicode(),
        default_value=[Scope.KERNELS.value],
        help="What the user may do with it: kernels, admin, read:metrics; one each time.",
    ).tag(config=True)
    granted_users = List(
        Unicode(), help="Other users in whose names the user starts kernels; '*' for all."
    ).tag(config=True)
    uid = Integer(
        None,
        allow_none=True,
        min=0,
        max=parse.MAX_ID,
        help="User id of the processes of the user's kernels, whatever a request asks for.",
    ).tag(config=True)
    gid = Integer(
        None, allow_none=True, min=0, max=parse.MAX_ID, help="Group id of these processes likewise."
    ).tag(config=True)
    days = Float(0.0, min=0.0, max=36500.0, help="When it expires; 0: never.").tag(config=True)

    async def run(self) -> None:
        """Add the token and print it.

        Raises:
            InvalidRequestError: an option is wrong.
            ConfigurationError: the file cannot be read or written.
        """
        username = self.one_argument("the user whom the token is for")
        now = datetime.now(UTC).replace(microsecond=0)
        try:
            token, entry = new_token(
                username,
                created=now,
                expires=now + timedelta(days=self.days) if self.days else None,
                groups=self.groups,
                scopes=[Scope(scope) for scope in self.granted_scopes],
                acts_for=self.granted_users,
                uid=self.uid,
                gid=self.gid,
            )
        except ValueError as exc:
            raise InvalidRequestError(f"The token was not made: {exc}.") from exc

        def add(tokens: TokenDocument) -> Iterable[StoredToken]:
            if len(tokens) >= MAX_TOKENS:
                raise InvalidRequestError(f"There are {MAX_TOKENS} tokens already: remove some.")
            return [*tokens, entry]

        change_tokens(find_file(self), add)
        print_line(token)
        self.log.info("It has the id %s.", entry.id)


class TokenRemoveApp(TokensCommand):
    """Removes tokens, by their ids: from then on they open nothing."""

    name = "jupyter enterprisegateway tokens remove"
    description = __doc__ or ""
    examples = "jupyter enterprisegateway tokens remove 1f3a5c79"

    async def run(self) -> None:
        """Remove the tokens; all or none.

        Raises:
            InvalidRequestError: none is named.
            NotFoundError: there is no such token.
            ConfigurationError: the file cannot be read or written.
        """
        wanted = set(self.extra_args)
        if not wanted:
            raise InvalidRequestError("Name the tokens to remove: their ids, as the list has them.")

        def remove(tokens: TokenDocument) -> Iterable[StoredToken]:
            missing = sorted(wanted - {token.id for token in tokens})
            if missing:
                raise NotFoundError(f"There is no token {missing[0]}; none was removed.")
            return [token for token in tokens if token.id not in wanted]

        change_tokens(find_file(self), remove)
        for token_id in sorted(wanted):
            print_line(f"Removed {token_id}")


class TokenListApp(ListCommand):
    """Lists the tokens, without what opens the gateway."""

    name = "jupyter enterprisegateway tokens list"
    description = __doc__ or ""
    examples = "jupyter enterprisegateway tokens list --json"

    async def run(self) -> None:
        """Print the list."""
        tokens = list(read_tokens(find_file(self)))
        documents = [
            {
                "id": token.id,
                "user": token.user,
                "scopes": list(token.scopes),
                "groups": list(token.groups),
                "acts_for": list(token.acts_for),
                "uid": token.uid,
                "gid": token.gid,
                "created": token.created.isoformat(),
                "expires": token.expires.isoformat() if token.expires else None,
            }
            for token in tokens
        ]
        now = datetime.now(UTC)
        self.print_list(documents, [COLUMNS, *(_cells(each, now) for each in tokens)], "No tokens.")


class TokensApp(Command):
    """Makes, lists and removes the tokens of users."""

    name = "jupyter enterprisegateway tokens"
    description = __doc__ or ""
    examples = "jupyter enterprisegateway tokens add ann"
    subcommands = {  # noqa: RUF012 - likewise
        "add": (TokenAddApp, "Make a token for a user."),
        "list": (TokenListApp, "List the tokens."),
        "remove": (TokenRemoveApp, "Remove tokens."),
    }

    async def run(self) -> None:
        """Refuse to run without a subcommand."""
        raise InvalidRequestError("Name a subcommand: add, list or remove.")


def find_file(command: Command) -> Path:
    """Return the file that the configuration names.

    Raises:
        ConfigurationError: it names none.
    """
    name: str = command.user_tokens_file
    if not name:
        raise ConfigurationError(
            "There is no file of tokens: set user_tokens_file (EG_USER_TOKENS_FILE), for the "
            "gateway, too."
        )
    return Path(name)


def change_tokens(path: Path, change: Callable[[TokenDocument], Iterable[StoredToken]]) -> None:
    """Replace the tokens of a file; changes of other processes are made before or after.

    A gateway that reads meanwhile sees the former file or the new one. The new one has the mode of
    the former and, if root makes it, its owner; without a former one only its owner can read it.

    Args:
        path: the file; a missing one counts as empty.
        change: makes the new tokens of the present ones.

    Raises:
        ConfigurationError: it cannot be read or written.
    """
    try:
        path = path.resolve()
        with _locked(path):
            before = path.stat() if path.exists() else None
            tokens = read_tokens(path) if before else TokenDocument()
            text = encode_tokens(change(tokens))
            decode_tokens(text)  # a gateway must be able to read it
            _replace(path, text, before)
    except OSError as exc:
        raise ConfigurationError(f"Cannot write {path}: {exc.strerror}.") from exc


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file; it is another file, since the first is replaced."""
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, text: bytes, before: os.stat_result | None) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
            if before is not None:
                if os.geteuid() == 0:
                    os.fchown(descriptor, before.st_uid, before.st_gid)
                os.fchmod(descriptor, before.st_mode & 0o777)
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise


def _cells(token: StoredToken, now: datetime) -> tuple[str, ...]:
    expires = f"{token.expires:%Y-%m-%d %H:%M}" if token.expires else "never"
    return (
        token.id,
        token.user,
        ", ".join(token.scopes),
        ", ".join(token.groups),
        ", ".join(token.acts_for),
        f"{token.created:%Y-%m-%d}",
        f"{expires} (over)" if token.is_over(now) else expires,
    )
