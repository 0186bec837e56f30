"""Configurations of Enterprise Gateway: deprecated names, and options without effect here. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from traitlets import HasTraits, TraitType
from traitlets.config import Config, Configurable

from enterprise_gateway.app.options import ignored

LAUNCH_VARIABLES = frozenset(
    {
        "DOCKER_API_VERSION",
        "DOCKER_CONTEXT",
        "DOCKER_CONFIG",
        "DOCKER_NETWORK",
        "DOCKER_MODE",
        "EG_LOG_LEVEL",
    }
)
"""Variables that launch scripts read, besides those that set options."""

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
"""Variables of Enterprise Gateway without effect here, each with the reason."""

FOREIGN_VARIABLES = frozenset(
    {
        *LAUNCH_VARIABLES,
        # set by the gateway for launch scripts and kernels
        "EG_ALTERNATE_SIGINT",
        "EG_CLUSTER_ID",
        "EG_CONTAINER_NAME",
        "EG_DOCKER_MODE",
        "EG_KERNEL_ENV",
        "EG_LOCAL_KERNEL",
        "EG_POOL",
        "EG_PUBLIC_KEY",
        "EG_RESOURCES",
        "EG_RESPONSE_ADDRESS",
        "EG_SANDBOX",
        "EG_TEST_DELAYS",
        # read by the files of the Swarm stack
        "EG_CLUSTER_SECRET_FILE",
        "EG_DOCKER_SOCKET",
        "EG_DOCKER_SUBNET",
        "EG_ENGINE_VOLUME",
        "EG_GATEWAY_NETWORK",
        "EG_GATEWAY_SUBNET",
        "EG_IMAGE",
        "EG_INTERNAL_SUBNET",
        "EG_MEMORY_LIMIT",
        "EG_PROXY_IMAGE",
        "EG_PROXY_MEMORY_LIMIT",
        "EG_REPLICAS",
        "EG_STOP_GRACE_PERIOD",
        "EG_TLS_PEM",
    }
)
"""Variables of this project that set no option of the gateway."""


class IgnoredOptions(HasTraits):
    """Options of EnterpriseGatewayApp without effect here; a configuration may set them."""

    remote_hosts = ignored("kernels are not started over SSH", env=("EG_REMOTE_HOSTS",))
    load_balancing_algorithm = ignored(
        "the engine places kernels", env=("EG_LOAD_BALANCING_ALGORITHM",)
    )
    yarn_endpoint = ignored("no YARN", env=("EG_YARN_ENDPOINT",))
    alt_yarn_endpoint = ignored("no YARN", env=("EG_ALT_YARN_ENDPOINT",))
    yarn_endpoint_security_enabled = ignored("no YARN", env=("EG_YARN_ENDPOINT_SECURITY_ENABLED",))
    conductor_endpoint = ignored("no Conductor", env=("EG_CONDUCTOR_ENDPOINT",))
    availability_mode = ignored("kernels always survive the gateway", env=("EG_AVAILABILITY_MODE",))
    kernel_headers = ignored("only Conductor used request headers", env=("EG_KERNEL_HEADERS",))
    kernel_spec_manager_class = ignored("not replaceable")
    kernel_spec_cache_class = ignored("not replaceable")
    kernel_manager_class = ignored("bring a process proxy of your own")
    kernel_session_manager_class = ignored("no kernel state is stored")


def adopt_old_names(config: Config, classes: tuple[type[HasTraits], ...]) -> dict[str, str]:
    """Move options from deprecated names to new ones; if both are set, the new one counts.

    Returns:
        The deprecated names found, each with the new one.
    """
    renamed = {}
    for section, trait in _set_options(config, classes):
        new_name = trait.metadata.get("renamed")
        if new_name is not None:
            config[section].setdefault(new_name, config[section].pop(trait.name))
            renamed[f"{section}.{trait.name}"] = f"{section}.{new_name}"
    return renamed


def find_ignored(config: Config, classes: tuple[type[HasTraits], ...]) -> dict[str, str]:
    """Return the options that are set but have no effect here, each with the reason."""
    return {
        f"{section}.{trait.name}": trait.metadata["ignored"]
        for section, trait in _set_options(config, classes)
        if "ignored" in trait.metadata
    }


def _set_options(
    config: Config, classes: tuple[type[HasTraits], ...]
) -> Iterator[tuple[str, TraitType[Any, Any]]]:
    """Yield the options that the configuration sets, each with its section."""
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
