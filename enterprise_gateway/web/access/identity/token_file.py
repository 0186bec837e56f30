"""The users' tokens: read from their file, and again whenever that changes."""

import asyncio
import logging
import os
import stat
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.users import Account, User
from enterprise_gateway.web.access.identity.contract import ExpiredError
from enterprise_gateway.web.access.identity.revocations import Revocations
from enterprise_gateway.web.access.identity.token_document import (
    MAX_BYTES,
    StoredToken,
    TokenDocument,
    decode_tokens,
)

CHECK_SECONDS = 1.0
"""How often the file is looked at, and tokens are found to have expired."""

_log = logging.getLogger(__name__)


class _Stamp(NamedTuple):
    """What is different once a file has changed."""

    inode: int
    mtime_ns: int
    size: int


class TokenFile:
    """Knows users by the tokens of the file."""

    def __init__(
        self,
        path: Path,
        revocations: Revocations,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Name the file.

        Args:
            path: The file.
            revocations: Told of the tokens that have left the file, or have other rights there,
                or that have expired.
            now: The clock.
        """
        self._path = path
        self._revocations = revocations
        self._now = now
        self._tokens = TokenDocument()
        self._expired: set[str] = set()
        self._stamp: _Stamp | None = None
        self._fault = ""

    def load(self) -> None:
        """Read the file for the first time.

        Raises:
            ConfigurationError: It cannot be read.
        """
        try:
            self._stamp, self._tokens = _read(self._path)
        except ConfigurationError as exc:
            raise ConfigurationError(f"user_tokens_file {self._path}: {exc}.") from exc
        self._expired = {token.id for token in self._tokens if token.is_over(self._now())}

    async def watch(self) -> None:
        """Put changes of the file in force, until cancelled. A faulty file changes nothing."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                await self.check()
            except Exception:  # noqa: BLE001 - the root of a task that must not end
                _log.exception("user_tokens_file %s could not be looked at", self._path)

    async def check(self) -> None:
        """Look whether the file has changed or tokens have expired."""
        try:
            found = await asyncio.to_thread(_read_if_changed, self._path, self._stamp)
        except ConfigurationError as exc:
            if str(exc) != self._fault:
                self._fault = str(exc)
                _log.error("user_tokens_file %s stays as it was: %s.", self._path, exc)
        else:
            self._fault = ""
            if found is not None:
                self._stamp, tokens = found
                former, self._tokens = self._tokens, tokens
                _log.info("user_tokens_file %s has %d tokens now.", self._path, len(tokens))
                self._revoke(tokens.lost_since(former))
        now = self._now()
        over = [token for token in self._tokens if token.is_over(now)]
        self._revoke(token for token in over if token.id not in self._expired)
        self._expired = {token.id for token in over}

    async def identify(self, token: str, *, is_suspect: bool) -> User | None:
        """Return the user of a token of the file.

        Raises:
            ExpiredError: It has expired.
        """
        del is_suspect  # tokens of the file cannot be guessed
        found = self._tokens.find(token)
        if found is None:
            return None
        if found.is_over(self._now()):
            raise ExpiredError(
                f"The token of the request expired at {found.expires:%Y-%m-%d %H:%M %Z}."
            )
        return found.make_user()

    def account(self, username: str) -> Account:
        """Return what the file says of a user, who need not have shown a token."""
        return self._tokens.account(username, self._now())

    @property
    def has_services(self) -> bool:
        """Whether one of its users acts for others."""
        return any(token.acts_for for token in self._tokens)

    def _revoke(self, tokens: Iterable[StoredToken]) -> None:
        for token in tokens:
            self._revocations.tell(token.credential)


def read_tokens(path: Path) -> TokenDocument:
    """Return the tokens of a file.

    Raises:
        ConfigurationError: It cannot be read.
    """
    return _read(path)[1]


def _read_if_changed(path: Path, former: _Stamp | None) -> tuple[_Stamp, TokenDocument] | None:
    try:
        if _stamp(path.stat()) == former:
            return None
    except OSError as exc:
        raise ConfigurationError(f"it cannot be read: {exc.strerror}") from exc
    return _read(path)


def _read(path: Path) -> tuple[_Stamp, TokenDocument]:
    try:
        # without O_NONBLOCK a pipe would be waited for
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - of a descriptor
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ConfigurationError("it is not a regular file")
            raw = file.read(MAX_BYTES + 1)
    except OSError as exc:
        raise ConfigurationError(f"it cannot be read: {exc.strerror}") from exc
    if len(raw) > MAX_BYTES:
        raise ConfigurationError(f"it has more than {MAX_BYTES} bytes")
    return _stamp(status), decode_tokens(raw)


def _stamp(status: os.stat_result) -> _Stamp:
    return _Stamp(status.st_ino, status.st_mtime_ns, status.st_size)
