"""All settings, and those in force."""

import hashlib
import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from enterprise_gateway.settings.access import AccessSettings
from enterprise_gateway.settings.delays import DelaySettings
from enterprise_gateway.settings.docker import DockerSettings
from enterprise_gateway.settings.events import EventSettings
from enterprise_gateway.settings.identity import IdentitySettings
from enterprise_gateway.settings.kernels import KernelSettings
from enterprise_gateway.settings.option import fixed, group
from enterprise_gateway.settings.response import ResponseSettings
from enterprise_gateway.settings.sandbox import SandboxSettings
from enterprise_gateway.settings.server import ServerSettings


@dataclass(frozen=True, slots=True)
class HostSettings:
    """The machine and the account that the gateway runs on, for launch scripts and local kernels.

    Read at the start only.
    """

    executable_path: str = os.defpath
    """`PATH`."""
    home: Path = Path("/")
    temp_folder: Path = Path("/tmp")  # noqa: S108 - the default; files in it get a private folder
    kernelspec_folders: tuple[Path, ...] = ()
    """Where Jupyter finds kernelspecs: first those of `JUPYTER_PATH`, in order of precedence."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of the gateway."""

    server: ServerSettings = group(ServerSettings, start_only=True)
    access: AccessSettings = group(AccessSettings)
    identity: IdentitySettings = group(IdentitySettings, start_only=True)
    kernels: KernelSettings = group(KernelSettings)
    response: ResponseSettings = group(ResponseSettings)
    docker: DockerSettings = group(DockerSettings)
    events: EventSettings = group(EventSettings, start_only=True)
    sandbox: SandboxSettings = group(SandboxSettings)
    host: HostSettings = group(HostSettings, start_only=True)
    delays: DelaySettings = group(DelaySettings)
    cluster_secret: bytes = fixed(b"", secret=True)
    """32 bytes that all replicas share; the tokens of agents derive from them."""
    balancer_secret: str = fixed("", secret=True)
    """What the load balancer knows that connects clients with agents; "": there is none."""
    event_webhook_key: bytes = fixed(b"", secret=True)
    """What gateways sign events with; b"": there is no webhook."""
    runtime_dir: Path = fixed(Path())
    """Sockets and records of this cluster's local kernels; only the gateway's user may enter it."""

    @property
    def is_authentication_on(self) -> bool:
        """Whether clients must show who they are, by the shared token or in another way."""
        return bool(self.access.auth_token) or self.identity.is_configured

    @property
    def cluster_id(self) -> str:
        """Identifies the gateways that share the cluster secret, without revealing the secret.

        An engine may host the kernels of several such clusters; none touches those of another.
        """
        return hmac.new(self.cluster_secret, b"cluster id", hashlib.sha256).hexdigest()[:16]


class LiveSettings:
    """The settings in force.

    Read `current` at each use: a dynamic reload replaces it as a whole.
    """

    def __init__(self, settings: Settings) -> None:
        self._current = settings
        self._listeners: list[Callable[[Settings], None]] = []

    @property
    def current(self) -> Settings:
        """The settings in force."""
        return self._current

    def replace(self, settings: Settings) -> None:
        """Put new settings in force and call the subscribers."""
        self._current = settings
        for listener in self._listeners:
            listener(settings)

    def subscribe(self, listener: Callable[[Settings], None]) -> None:
        """Call `listener` with the new settings after each replacement."""
        self._listeners.append(listener)
