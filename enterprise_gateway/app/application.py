"""The application: reads the configuration and runs the gateway until it is told to stop."""

import asyncio
import getpass
import os
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from jupyter_core.application import JupyterApp, base_aliases
from traitlets import Bool, HasTraits, Unicode, default, observe
from traitlets.config.application import catch_config_error

from enterprise_gateway._version import __version__
from enterprise_gateway.app import compose, logs
from enterprise_gateway.app.authorizer import load_authorizer
from enterprise_gateway.app.compatibility import adopt_old_names, find_ignored
from enterprise_gateway.app.descriptors import raise_descriptor_limit
from enterprise_gateway.app.environment import read_environment
from enterprise_gateway.app.managers import (
    CLASSES,
    AsyncIOLoopKernelRestarter,
    KernelSpecCache,
    KernelSpecManager,
    RemoteKernelManager,
    RemoteMappingKernelManager,
)
from enterprise_gateway.app.reload import Watch
from enterprise_gateway.app.secret import (
    derive_auth_token,
    derive_secret,
    keep_secret,
    read_secret_file,
    read_token_file,
)
from enterprise_gateway.app.signals import cancelled_by_signals
from enterprise_gateway.app.traits import (
    AccessTraits,
    ClusterTraits,
    DockerTraits,
    IgnoredTraits,
    KernelTraits,
    ResponseTraits,
    ServerTraits,
)
from enterprise_gateway.errors import ConfigurationError, GatewayError
from enterprise_gateway.settings import LiveSettings, Settings

_ALL_INTERFACES = frozenset({"", "*", "0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to


class EnterpriseGatewayApp(
    ServerTraits,
    AccessTraits,
    KernelTraits,
    ResponseTraits,
    DockerTraits,
    ClusterTraits,
    IgnoredTraits,
    JupyterApp,
):
    """Serves the Jupyter kernel API and runs kernels in Docker containers or as local processes."""

    name = "jupyter-enterprise-gateway"
    version = __version__
    description = __doc__ or ""
    examples = """jupyter enterprisegateway --ip=0.0.0.0 --port=8888
jupyter enterprisegateway --RemoteMappingKernelManager.cull_idle_timeout=3600
jupyter enterprisegateway --generate-config
jupyter enterprisegateway kernels list"""
    classes = [*CLASSES]  # noqa: RUF012 - traitlets' own way to declare them
    aliases = {  # noqa: RUF012 - likewise
        **base_aliases,
        "ip": "EnterpriseGatewayApp.ip",
        "port": "EnterpriseGatewayApp.port",
        "port_retries": "EnterpriseGatewayApp.port_retries",
        "keyfile": "EnterpriseGatewayApp.keyfile",
        "certfile": "EnterpriseGatewayApp.certfile",
        "client-ca": "EnterpriseGatewayApp.client_ca",
        "ssl_version": "EnterpriseGatewayApp.ssl_version",
    }

    subcommands = {  # noqa: RUF012 - likewise
        "kernels": ("enterprise_gateway.app.kernels.KernelsApp", "List and stop kernels."),
    }

    log_json = Bool(default_value=False, help="Log JSON objects, one a line, instead of text.").tag(
        config=True, env=("EG_LOG_JSON",)
    )
    log_format = Unicode(
        logs.FORMAT,
        help="Format of log lines; %(color)s and %(end_color)s take effect on a terminal only.",
    ).tag(config=True)

    @default("config_file_name")
    def _default_config_file_name(self) -> str:
        return "jupyter_enterprise_gateway_config"

    @observe("log_json")
    def _change_format(self, _change: object) -> None:
        self._configure_logging()

    def get_default_logging_config(self) -> dict[str, Any]:
        """Give this package's loggers, and everybody's warnings, the application's handler."""
        config: dict[str, Any] = super().get_default_logging_config()
        if self.log_json:
            formatter: type = logs.JsonFormatter
        else:
            formatter = logs.ColorFormatter if sys.stderr.isatty() else logs.LineFormatter
        config["formatters"]["console"]["class"] = (
            f"{formatter.__module__}.{formatter.__qualname__}"
        )
        config["loggers"][type(self).__name__]["propagate"] = False
        config["loggers"]["enterprise_gateway"] = {
            "level": "DEBUG",
            "handlers": ["console"],
            "propagate": False,
        }
        config["root"] = {"level": "WARNING", "handlers": ["console"]}
        config["filters"] = {"no_config": {"()": logs.NoConfiguration}}
        config["handlers"]["console"]["filters"] = ["no_config"]
        return config

    @catch_config_error
    def initialize(self, argv: list[str] | None = None) -> None:
        """Read command line, configuration files and environment, in this order of precedence."""
        super().initialize(argv)
        self._argv = argv
        if self._dispatching:
            return
        try:
            self._merge_environment()
        except ConfigurationError as exc:
            self._give_up(exc)

    def read_settings(self, previous: Settings | None = None) -> Settings:
        """Make the settings that the options ask for.

        Args:
            previous: The settings in force, if any: what is read only at start is taken from them.

        Raises:
            ConfigurationError: An option contradicts itself, or a secret cannot be read or kept.
        """
        own = {"parent": self}
        secret = self._find_cluster_secret() if previous is None else previous.cluster_secret
        settings = Settings(
            server=compose.make_server_settings(self),
            access=compose.make_access_settings(self, self._find_auth_token(secret)),
            kernels=compose.make_kernel_settings(
                self,
                mapping=RemoteMappingKernelManager(**own),
                manager=RemoteKernelManager(**own),
                restarter=AsyncIOLoopKernelRestarter(**own),
                specs=KernelSpecManager(**own),
                cache=KernelSpecCache(**own),
                environ=os.environ,
                own_username=_own_username(),
            ),
            response=compose.make_response_settings(self),
            docker=compose.make_docker_settings(self, os.environ),
        )
        if previous is not None:
            return replace(
                settings,
                server=previous.server,
                docker=replace(
                    settings.docker,
                    host=previous.docker.host,
                    tls_verify=previous.docker.tls_verify,
                    cert_path=previous.docker.cert_path,
                ),
                cluster_secret=previous.cluster_secret,
                runtime_dir=previous.runtime_dir,
            )
        return replace(
            settings,
            cluster_secret=secret,
            runtime_dir=_make_private(Path(self.runtime_dir) / "enterprise_gateway"),
        )

    def read_again(self) -> "EnterpriseGatewayApp":
        """Return a second application with what command line, files and environment say now.

        Raises:
            ConfigurationError: A file cannot be read, or a value is wrong.
        """
        fresh = type(self)()
        fresh.raise_config_file_errors = True
        try:
            fresh.initialize(self._argv)
        except SystemExit as exc:  # how traitlets ends on a bad value, which it has logged
            raise ConfigurationError("a value is wrong, see above") from exc
        except Exception as exc:  # a configuration file is a program, which may raise anything
            raise ConfigurationError(f"{type(exc).__name__}: {exc}") from exc
        return fresh

    def start(self) -> None:
        """Run the gateway until SIGTERM or SIGINT. Kernels go on running."""
        super().start()
        try:
            asyncio.run(self.run())
        except GatewayError as exc:
            self._give_up(exc)

    def start_show_config(self) -> None:
        """Print the configuration, secrets left out."""
        for section in self.section_names():
            for name in type(self).class_traits(secret=True):
                if section in self.config and self.config[section].get(name):
                    self.config[section][name] = "<hidden>"
        super().start_show_config()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            GatewayError: It cannot start; the text says why.
        """
        from enterprise_gateway.web.server import build, serve  # noqa: PLC0415 - --help and --version need no web server

        raise_descriptor_limit()
        settings = self.read_settings()
        live = LiveSettings(settings)
        authorizer = load_authorizer(settings.access.authorizer_class, self)
        with suppress(asyncio.CancelledError), cancelled_by_signals():
            async with serve(build(live, authorizer), live) as port, Watch(self, live):
                self._announce(settings, port)
                await asyncio.get_running_loop().create_future()
        self.log.info("Stopped; kernels go on running.")

    def _announce(self, settings: Settings, port: int) -> None:
        scheme = "https" if settings.server.certfile else "http"
        ip = settings.server.ip
        host = "127.0.0.1" if ip in _ALL_INTERFACES else f"[{ip}]" if ":" in ip else ip
        url = f"{scheme}://{host}:{port}{settings.server.base_url}"
        self.log.info("Enterprise Gateway %s is available at %s", __version__, url)
        if not settings.access.auth_token:
            self.log.warning("Authentication is off: everybody who reaches %s can run code.", url)
        elif self.auth_token is None and not self.auth_token_file:
            # to the operator, not to the log, which others may read
            sys.stdout.write(
                f"Generated token; connect to {url}?token={settings.access.auth_token}\n"
            )
            sys.stdout.flush()
        own = _own_username()
        if (
            settings.kernels.impersonation_enabled
            and own not in settings.kernels.unauthorized_users
        ):
            self.log.warning(
                "Impersonation is enabled and the gateway's user %s is not in unauthorized_users.",
                own,
            )

    def _merge_environment(self) -> None:
        classes: tuple[type[HasTraits], ...] = (type(self), *CLASSES)
        reading = read_environment(os.environ, classes)
        merged = reading.config
        old_names = adopt_old_names(self.config, classes) | reading.deprecated
        merged.merge(self.config)
        ignored = find_ignored(merged, classes) | reading.ignored
        self.update_config(merged)
        for old, new in old_names.items():
            self.log.warning("%s is deprecated, use %s", old, new)
        if ignored:
            reasons = ", ".join(f"{name} ({reason})" for name, reason in sorted(ignored.items()))
            self.log.info("Settings without meaning here are ignored: %s", reasons)

    def _find_auth_token(self, cluster_secret: bytes) -> str:
        if self.auth_token_file and not self.auth_token:
            return read_token_file(Path(self.auth_token_file))
        if self.auth_token is not None:
            return self.auth_token
        return derive_auth_token(cluster_secret)

    def _find_cluster_secret(self) -> bytes:
        if self.cluster_secret:
            return derive_secret(self.cluster_secret, "the configuration")
        if self.cluster_secret_file:
            return read_secret_file(Path(self.cluster_secret_file))
        return keep_secret(Path(self.data_dir) / "enterprise_gateway")

    def _give_up(self, exc: GatewayError) -> NoReturn:
        self.log.critical("%s", exc)
        sys.exit(1)


def _own_username() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without an entry in passwd
        return ""


def _make_private(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as exc:
        raise ConfigurationError(f"Cannot make the folder {folder}: {exc}.") from exc
    return folder


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    EnterpriseGatewayApp.launch_instance(argv)
