"""The settings: typed, frozen, complete.

Only `enterprise_gateway.app` reads the environment, configuration files and the command line. It
makes one `Settings` of them and, when a configuration file changes, another. Durations are seconds,
sizes bytes. Each option is declared once, by the field that it sets (see `option`).
"""

from enterprise_gateway.settings.access import AccessSettings
from enterprise_gateway.settings.delays import DelaySettings
from enterprise_gateway.settings.docker import DockerSettings
from enterprise_gateway.settings.events import EventSettings
from enterprise_gateway.settings.identity import IdentitySettings
from enterprise_gateway.settings.kernels import AgeSettings, CullingSettings, KernelSettings
from enterprise_gateway.settings.limits import LimitSettings
from enterprise_gateway.settings.resources import ResourceSettings
from enterprise_gateway.settings.response import ResponseSettings
from enterprise_gateway.settings.sandbox import SandboxSettings
from enterprise_gateway.settings.server import ServerSettings
from enterprise_gateway.settings.settings import HostSettings, LiveSettings, Settings
from enterprise_gateway.settings.values.volume_permission import VolumePermission

__all__ = [
    "AccessSettings",
    "AgeSettings",
    "CullingSettings",
    "DelaySettings",
    "DockerSettings",
    "EventSettings",
    "HostSettings",
    "IdentitySettings",
    "KernelSettings",
    "LimitSettings",
    "LiveSettings",
    "ResourceSettings",
    "ResponseSettings",
    "SandboxSettings",
    "ServerSettings",
    "Settings",
    "VolumePermission",
]
