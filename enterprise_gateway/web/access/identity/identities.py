"""All ways of knowing users, in the order in which they are asked."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from enterprise_gateway.errors import UnavailableError
from enterprise_gateway.services.users import Account, User
from enterprise_gateway.settings import LiveSettings
from enterprise_gateway.web.access.identity.certificate import CertificateIdentity
from enterprise_gateway.web.access.identity.contract import (
    ExpiredError,
    Sender,
    SenderIdentity,
    TokenIdentity,
)
from enterprise_gateway.web.access.identity.json_client import JSONClient
from enterprise_gateway.web.access.identity.jupyterhub import JupyterHubTokens
from enterprise_gateway.web.access.identity.jwks import ProviderKeys
from enterprise_gateway.web.access.identity.openid import OpenIDTokens
from enterprise_gateway.web.access.identity.proxy_header import ProxyHeaderIdentity
from enterprise_gateway.web.access.identity.revocations import Revocations
from enterprise_gateway.web.access.identity.shared_token import SharedToken
from enterprise_gateway.web.access.identity.token_file import TokenFile

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Finding:
    """What the credentials of a request have shown.

    Attributes:
        user: Who sends it; None: that is not known.
        token: The token by which that is known; "" if it is by other means.
        wrong: The tokens that are not known, or cannot be known now.
        expired: What to tell the owner of a token that has expired; "" if none has.
        fault: Why the user cannot be known now, if that is so.
    """

    user: User | None
    token: str = ""
    wrong: tuple[str, ...] = ()
    expired: str = ""
    fault: UnavailableError | None = None


class Identities:
    """Asks each way that the settings configure.

    Attributes:
        revocations: Tells of a token that has left the file, has other rights there or has expired;
            and of one that JupyterHub does not know any more.
        client: Asks other servers.
    """

    def __init__(self, live: LiveSettings, client: JSONClient | None = None) -> None:
        """Make the ways that the settings configure.

        Args:
            live: The settings.
            client: Asks other servers.
        """
        settings, server = live.current.identity, live.current.server
        self._live = live
        self.revocations = Revocations()
        self.client = client or JSONClient()
        self._file: TokenFile | None = None
        self._hub: JupyterHubTokens | None = None
        self._keys: ProviderKeys | None = None
        # those that only look something up come before those that may have to ask another server
        self._by_token: list[TokenIdentity] = [SharedToken(live)]
        self._by_sender: list[SenderIdentity] = []
        if settings.user_tokens_file:
            self._file = TokenFile(Path(settings.user_tokens_file), self.revocations)
            self._by_token.append(self._file)
        if settings.oidc_issuer:
            self._keys = ProviderKeys(settings, self.client)
            self._by_token.append(OpenIDTokens(settings, self._keys))
        if settings.jupyterhub_api_url:
            self._hub = JupyterHubTokens(settings, self.client, self.revocations)
            self._by_token.append(self._hub)
        if settings.certificate_username:
            self._by_sender.append(CertificateIdentity(settings))
        if settings.proxy_user_header:
            self._by_sender.append(ProxyHeaderIdentity(settings, server))

    @asynccontextmanager
    async def running(self, _app: web.Application) -> AsyncIterator[None]:
        """Follow the file of tokens, and close all connections in the end.

        Raises:
            ConfigurationError: The file cannot be read.
        """
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.client.close)
            for each in (self._hub, self._keys):
                if each is not None:
                    stack.push_async_callback(each.close)
            if self._file is not None:
                self._file.load()
                watch = asyncio.create_task(self._file.watch(), name="user tokens")
                stack.push_async_callback(_end, watch)
            self._warn_of_unknown_groups()
            yield

    def account(self, username: str) -> Account:
        """Return what is known of a user who sends nothing themselves: what the file says."""
        return self._file.account(username) if self._file is not None else Account()

    def _warn_of_unknown_groups(self) -> None:
        """Warn the operator of quotas and times that members of a group can avoid."""
        resources = self._live.current.kernels.resources
        settings = self._live.current.identity
        has_services = bool(settings.acts_for) or (
            self._file is not None and self._file.has_services
        )
        sources = [
            name
            for name, way in (("JupyterHub", self._hub), (settings.oidc_issuer, self._keys))
            if way is not None
        ]
        if sources and has_services and (resources.group_quotas or resources.group_times):
            _log.warning(
                "group_quotas and group_times do not count the kernels that services start for "
                "users (acts_for) whose groups only %s can tell: the gateway learns these from the "
                "users' own tokens. Give such users user_quotas, or entries in user_tokens_file.",
                " and ".join(sources),
            )

    async def identify(self, tokens: Iterable[str], sender: Sender, *, is_suspect: bool) -> Finding:
        """Return who sends a request.

        The tokens are tried in their order, and then what else is known of the sender: a token is
        what the client itself has chosen to show.
        """
        wrong: list[str] = []
        expired = ""
        fault: UnavailableError | None = None
        for token in tokens:
            try:
                user = await self._find(token, is_suspect=is_suspect)
            except ExpiredError as exc:
                expired = str(exc)
            except UnavailableError as exc:
                fault = exc
                wrong.append(token)  # those who guess while a server is away must be counted
            else:
                if user is not None:
                    return Finding(user, token, tuple(wrong))
                wrong.append(token)
        for way in self._by_sender:
            user = way.identify(sender)
            if user is not None:
                return Finding(user, wrong=tuple(wrong))
        return Finding(None, wrong=tuple(wrong), expired=expired, fault=fault)

    async def _find(self, token: str, *, is_suspect: bool) -> User | None:
        """Return the user of a token.

        Raises:
            ExpiredError: It has expired.
            UnavailableError: It may be one that cannot be known now.
        """
        fault: UnavailableError | None = None
        for way in self._by_token:
            try:
                user = await way.identify(token, is_suspect=is_suspect)
            except UnavailableError as exc:
                _log.warning("A token cannot be judged: %s", exc)
                fault = exc
                continue
            if user is not None:
                return user
        if fault is not None:
            raise UnavailableError(
                "The server that knows the users' tokens does not answer. Try again.",
                retry_after=fault.retry_after,
            ) from fault
        return None


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])
