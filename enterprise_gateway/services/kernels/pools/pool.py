"""One pool: kernels of one kernelspec, all launched alike. Pure."""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec

from enterprise_gateway.services.kernels.planning.launches import plan_pooled_launch
from enterprise_gateway.services.kernelspecs.kernelspec import Kernelspec
from enterprise_gateway.services.processproxies.contract import (
    PULLED_BY_NODES,
    KernelImage,
    LaunchRequest,
)
from enterprise_gateway.settings import DockerSettings, KernelSettings, Settings
from enterprise_gateway.settings.values.schedule import PoolSize

_DIGEST_CHARS = 16
_ITS_OWN = ("KERNEL_ID",)
"""Variables that differ between two kernels of one pool."""

_OF_NO_KERNEL = frozenset(
    {
        "DOCKER_API_VERSION",
        "DOCKER_CERT_PATH",
        "DOCKER_CONFIG",
        "DOCKER_CONTEXT",
        "DOCKER_HOST",
        "DOCKER_TLS_VERIFY",
        "EG_LOG_LEVEL",
    }
)
"""Variables of launch scripts that change no kernel, and may differ between gateways."""

_OF_THE_POOL = ("pool_size", "pool_env", "pool_process_env")
"""Keys of a kernelspec's config that change no kernel."""


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool as it should be now."""

    kernel_name: str
    proxy_class: str
    size: PoolSize
    plan: str
    """A digest of the launch: another kernelspec or other settings make another pool."""
    image_id: str
    """The image that kernels would be launched from now, "" if they need none, or nodes have it."""
    launch: LaunchRequest
    """The launch of one of its kernels; each has an id of its own."""
    ttl: int
    """After how many seconds agents end its kernels."""
    lacks_image: bool = False
    """Whether the engine has no image yet: its id, and so the pool's key, is not known."""
    nodes_image_id: str = ""
    """What this gateway's engine has of an image that the nodes of a swarm pull, if it has it.

    It is no part of the key: each manager may have another one.
    """

    @property
    def key(self) -> str:
        """The name of the pool, for the labels of workloads."""
        return _digest([self.plan, self.image_id])


def pool_size(spec: Kernelspec, settings: KernelSettings, moment: datetime) -> PoolSize | None:
    """Return how many kernels of a kernelspec are kept ready at a moment of the clock.

    0: none now; None: it never has a pool.
    """
    scheduled = [each for each in settings.pool_schedule if each.name == spec.name]
    for each in scheduled:
        if each.holds(moment):
            return each.size
    size = dict(settings.pool_sizes).get(spec.name, spec.config.pool_size)
    return 0 if size is None and scheduled else size


def plan_pool(spec: Kernelspec, settings: Settings, size: PoolSize = 0, image_id: str = "") -> Pool:
    """Return the pool of a kernelspec, with so many kernels.

    Raises:
        ConfigurationError: the kernelspec is wrong.
    """
    launch = plan_pooled_launch(spec, settings, settings.kernels.pool_ttl)
    env = {name: value for name, value in launch.env.items() if name not in _ITS_OWN}
    config = {key: value for key, value in launch.config.items() if key not in _OF_THE_POOL}
    # not the folder of the kernelspec: it may differ between gateways
    plan = [spec.proxy_class, launch.argv, env, config, settings.sandbox, _docker(settings.docker)]
    return Pool(
        spec.name,
        spec.proxy_class,
        size,
        _digest([*plan, launch.agent_settings, launch.resources]),
        image_id,
        launch,
        settings.kernels.pool_ttl,
    )


def with_image(pool: Pool, image: KernelImage | None) -> Pool:
    """Return a pool of kernels that run in an image; None: they need none."""
    if image is None:
        return pool
    if image.pull_policy == PULLED_BY_NODES:
        return replace(pool, nodes_image_id=image.image_id)
    return replace(pool, image_id=image.image_id, lacks_image=not image.is_present)


def _docker(settings: DockerSettings) -> list[object]:
    """Return the Docker settings that kernels have from their launch on."""
    env = {name: text for name, text in settings.launch_env.items() if name not in _OF_NO_KERNEL}
    return [settings.encrypt_agent_traffic, settings.network, env]


def _digest(parts: object) -> str:
    encoded = msgspec.json.encode(parts, order="deterministic")
    return hashlib.sha256(encoded).hexdigest()[:_DIGEST_CHARS]
