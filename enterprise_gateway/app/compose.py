"""Makes the settings of the options. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from traitlets import HasTraits

from enterprise_gateway.app.configuration.compatibility import LAUNCH_VARIABLES
from enterprise_gateway.app.configuration.environment import make_delay_settings
from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.processproxies.launch.kernelspec import resolve_port_range
from enterprise_gateway.settings import DockerSettings, HostSettings, Settings
from enterprise_gateway.settings.option import APPLICATION, find_groups, find_options

T = TypeVar("T")

_LAUNCHES_PER_CPU = 2
"""A launch waits for the engine and the disk for about half of its time."""

_NOT_FOR_KERNELS = re.compile(
    r"""
    (EG|KG|DOCKER|KERNEL|JPY)_ | (REMOVE_CONTAINER | RESPONSE_ADDRESS | PUBLIC_KEY | PORT_RANGE)$
    | .*(PASSWORD | PASSWD | PASSPHRASE | SECRET | TOKEN | CREDENTIAL | (API|ACCESS|PRIVATE)_?KEY)
    | (.*_)?PASS$ | .*_PWD$
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""Variables of the gateway, and those whose names say that they are secret."""


def compose_settings(
    holders: Iterable[HasTraits],
    *,
    auth_token: str,
    environ: Mapping[str, str],
    username: str,
    cpus: int,
    host: HostSettings,
) -> Settings:
    """Make the settings of the options and of what the gateway knows of its machine.

    Args:
        holders: objects that hold the options, each under the names of its classes.
        auth_token: the token in force; derived if the options have none.
        environ: the gateway's environment.
        username: the user that runs the gateway.
        cpus: number of CPUs that the gateway may use.
        host: folders of its machine and account.

    Raises:
        ConfigurationError: an option has a value that cannot be used.
    """
    sections = {cls.__name__: holder for holder in holders for cls in type(holder).__mro__}
    settings = read_group(Settings, sections)
    application: Any = sections[APPLICATION]
    manager: Any = sections["MultiKernelManager"]
    kernels = settings.kernels
    kernels = replace(
        kernels,
        default_kernel_name=kernels.default_kernel_name or manager.default_kernel_name,
        max_concurrent_launches=_LAUNCHES_PER_CPU * cpus
        if application.max_concurrent_launches is None
        else kernels.max_concurrent_launches,
        inherited_env={name: environ[name] for name in kernels.inherited_envs if name in environ},
        account_env=account_environment(environ),
        default_username=kernels.default_username or _usable_name(username),
    )
    resolve_port_range({}, kernels)  # raises if no kernel could be started with it
    check_identity(settings)
    return replace(
        settings,
        access=replace(settings.access, auth_token=auth_token),
        kernels=kernels,
        docker=replace(settings.docker, launch_env=launch_environment(settings.docker, environ)),
        host=host,
        delays=make_delay_settings(environ),
    )


def check_identity(settings: Settings) -> None:
    """Check that each way of knowing users has what makes it safe.

    Raises:
        ConfigurationError: one has not.
    """
    identity, server = settings.identity, settings.server
    if identity.oidc_issuer and not identity.oidc_audience:
        raise ConfigurationError(
            "oidc_issuer needs oidc_audience (EG_OIDC_AUDIENCE): without it, tokens that users "
            "have given to other programs would open the gateway."
        )
    if identity.jupyterhub_public_url and not (
        identity.jupyterhub_api_url
        and identity.jupyterhub_service
        and identity.jupyterhub_api_token_file
    ):
        raise ConfigurationError(
            "jupyterhub_public_url needs jupyterhub_api_url, jupyterhub_service and "
            "jupyterhub_api_token_file (EG_JUPYTERHUB_API_URL, EG_JUPYTERHUB_SERVICE, "
            "EG_JUPYTERHUB_API_TOKEN_FILE): JupyterHub signs users in for its services only."
        )
    if identity.certificate_username and not (server.client_ca and server.certfile):
        raise ConfigurationError(
            "certificate_username needs TLS with client_ca (EG_CLIENT_CA, EG_CERTFILE): the "
            "authority whose certificates are believed."
        )
    if identity.is_configured and server.trust_xheaders and not server.trusted_proxies:
        raise ConfigurationError(
            "trust_xheaders needs trusted_proxies (EG_TRUSTED_PROXIES) where users are known: "
            "without a list any client states another address with each wrong token."
        )
    if identity.proxy_user_header and not server.trusted_proxies:
        raise ConfigurationError(
            "proxy_user_header needs trusted_proxies (EG_TRUSTED_PROXIES): the addresses of the "
            "proxies that are believed. Any client can send such a header."
        )


def read_group(cls: type[T], sections: Mapping[str, HasTraits]) -> T:
    """Make a group of settings, and the groups in it, of the options that set their fields.

    Args:
        cls: the group's class.
        sections: the objects that hold the options, by the name under which these are written.

    Raises:
        ConfigurationError: an option has a value that cannot be used.
    """
    values: dict[str, Any] = {
        field: option.parse(getattr(sections[option.section], option.name))
        for field, option in find_options(cls)
    }
    values |= {field: read_group(part, sections) for field, part in find_groups(cls)}
    return cls(**values)


def launch_environment(docker: DockerSettings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that launch scripts read, wherever the options were set."""
    env = {name: environ[name] for name in sorted(LAUNCH_VARIABLES) if name in environ}
    env["EG_DOCKER_NETWORK"] = docker.network
    env["EG_REMOVE_CONTAINER"] = str(docker.remove_container)
    if docker.host:
        env["DOCKER_HOST"] = docker.host
    if docker.tls_verify:
        env["DOCKER_TLS_VERIFY"] = "1"
    if docker.cert_path:
        env["DOCKER_CERT_PATH"] = docker.cert_path
    return env


def account_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the gateway's environment without its own variables and secrets, for local kernels.

    Jupyter servers pass everything on, so that HOME, LANG, PATH and their like are those of the
    account. Other variables of the gateway, or secrets, must be named in `inherited_envs`.
    """
    return {name: value for name, value in environ.items() if not _NOT_FOR_KERNELS.match(name)}


def _usable_name(username: str) -> str:
    """Return the user of requests that name none; root may not start kernels."""
    return "jovyan" if username in {"", "root"} else username
