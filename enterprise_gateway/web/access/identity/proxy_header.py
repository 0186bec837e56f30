"""The user's name in a header of a proxy that has signed the user in. Pure."""

from enterprise_gateway.services.users import User
from enterprise_gateway.settings import IdentitySettings, ServerSettings
from enterprise_gateway.web.access.identity.contract import Sender
from enterprise_gateway.web.access.identity.known_users import make_user
from enterprise_gateway.web.access.xheaders import is_listed


class ProxyHeaderIdentity:
    """Knows users by a header that counts from listed peers only."""

    def __init__(self, settings: IdentitySettings, server: ServerSettings) -> None:
        self._settings = settings
        self._server = server

    def identify(self, sender: Sender) -> User | None:
        """Return the user whom the header names.

        Two such headers name none: the proxy may have added one to the client's own.
        """
        if not is_listed(self._server, sender.address):
            return None
        names = sender.headers.getall(self._settings.proxy_user_header, [])
        if len(names) != 1:
            return None
        username = names[0].strip()
        return make_user(self._settings, username, (), f"proxy:{username}")
