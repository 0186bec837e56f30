"""What configurations of Enterprise Gateway may hold: old names, and options without meaning here.

Pure.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from traitlets import HasTraits, TraitType
from traitlets.config import Config, Configurable

IGNORED_VARIABLES: Mapping[str, str] = {
    "EG_POLL_INTERVAL": "launching waits for events",
    "EG_MAX_POLL_ATTEMPTS": "launching waits for events",
    "EG_SOCKET_TIMEOUT": "launching waits for events",
    "EG_RESTART_STATUS_POLL_INTERVAL": "concurrent restarts join the one in progress",
    "EG_ENABLE_TUNNELING": "no SSH tunnels: only the agent's port is reachable",
    "EG_SSH_PORT": "no SSH",
    "EG_SSH_LOG_LEVEL": "no SSH",
    "EG_REMOTE_USER": "no SSH",
    "EG_REMOTE_PWD": "no SSH",
    "EG_REMOTE_GSS_SSH": "no SSH",
    "EG_SENSITIVE_ENV_KEYS": "values of environment variables are never logged",
    "EG_REDACTION_MASK": "values of environment variables are never logged",
    "EG_ZMQ_MAX_SOCKETS": "the gateway opens no ZMQ sockets",
    "EG_ZMQ_IO_THREADS": "the gateway opens no ZMQ sockets",
    "EG_DOCKER_LOG_LEVEL": "use logging_config",
    "EG_KERNEL_EXECUTOR_IMAGE": "no Spark executors",
    "EG_KERNEL_SESSION_LOCATION": "no kernel state is stored",
    "EG_YARN_LOG_LEVEL": "no YARN",
    "EG_YARN_CERT_BUNDLE": "no YARN",
    "EG_PROXY_LAUNCH_LOG": "kernels are not started over SSH",
    "EG_NAMESPACE": "no Kubernetes",
    "EG_SHARED_NAMESPACE": "no Kubernetes",
    "EG_KERNEL_CLUSTER_ROLE": "no Kubernetes",
}
"""Variables of Enterprise Gateway that set no option here, and why."""


def adopt_old_names(config: Config, classes: tuple[type[HasTraits], ...]) -> dict[str, str]:
    """Move options from old names to new ones; where both are set, the new one counts.

    Returns:
        The old names found, each with the new one.
    """
    renamed = {}
    for section, trait in _set_options(config, classes):
        new_name = trait.metadata.get("renamed")
        if new_name is not None:
            config[section].setdefault(new_name, config[section].pop(trait.name))
            renamed[f"{section}.{trait.name}"] = f"{section}.{new_name}"
    return renamed


def find_ignored(config: Config, classes: tuple[type[HasTraits], ...]) -> dict[str, str]:
    """Return the options that are set but have no meaning here, each with the reason."""
    return {
        f"{section}.{trait.name}": trait.metadata["ignored"]
        for section, trait in _set_options(config, classes)
        if "ignored" in trait.metadata
    }


def _set_options(
    config: Config, classes: tuple[type[HasTraits], ...]
) -> Iterator[tuple[str, TraitType[Any, Any]]]:
    """Yield each option that the configuration sets, with the section that does."""
    sections = dict.fromkeys(
        parent for cls in classes for parent in cls.__mro__ if issubclass(parent, Configurable)
    )
    for cls in sections:
        name = cls.__name__
        if name not in config:
            continue
        traits = cls.class_traits(config=True)
        for option in tuple(config[name]):
            if option in traits:
                yield name, traits[option]
