"""The application: reads the configuration and runs the gateway until a signal stops it."""

import asyncio
import logging
import os
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from jupyter_core.application import base_aliases, base_flags
from traitlets import Bool, Enum, HasTraits, Integer, Unicode, default, observe

from enterprise_gateway._version import __version__
from enterprise_gateway.app.authorizer import find_authorizer, load_authorizer
from enterprise_gateway.app.compose import compose_settings
from enterprise_gateway.app.configuration.compatibility import IgnoredOptions
from enterprise_gateway.app.configuration.strict_app import StrictApp
from enterprise_gateway.app.logs import DEFAULT_FORMAT, logging_config
from enterprise_gateway.app.managers import CLASSES
from enterprise_gateway.app.options import HasOptions
from enterprise_gateway.app.process import (
    cancelled_by_signals,
    count_cpus,
    find_host,
    find_username,
    raise_descriptor_limit,
)
from enterprise_gateway.app.reload import ConfigWatcher
from enterprise_gateway.app.secret import (
    derive_auth_token,
    derive_secret,
    load_or_create_secret,
    read_secret_file,
    read_shared_text,
)
from enterprise_gateway.errors import ConfigurationError, GatewayError
from enterprise_gateway.services.events.signature import read_key
from enterprise_gateway.settings import LiveSettings, Settings
from enterprise_gateway.settings.access import STRONG_CHARS
from enterprise_gateway.settings.option import keep_start_values

_ALL_INTERFACES = frozenset({"", "*", "0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to


class EnterpriseGatewayApp(StrictApp, IgnoredOptions, metaclass=HasOptions):
    """Serves the Jupyter kernel API and runs kernels in Docker containers or as local processes.

    Clients must show a token: set it in the environment variable EG_AUTH_TOKEN or with
    --EnterpriseGatewayApp.auth_token, or take the one that is printed at the start. Most options
    can be set by an environment variable, too: EG_MAX_KERNELS=5 is
    --EnterpriseGatewayApp.max_kernels=5. The gateway does not start with an unknown option.
    """

    name = "jupyter enterprisegateway"
    version = __version__
    description = __doc__ or ""
    examples = """jupyter enterprisegateway --ip=0.0.0.0 --port=8888
jupyter enterprisegateway --RemoteMappingKernelManager.cull_idle_timeout=3600
jupyter enterprisegateway --generate-config
jupyter enterprisegateway kernels list"""
    classes = [*CLASSES]  # noqa: RUF012 - traitlets' own way to declare them
    aliases = {  # noqa: RUF012 - likewise
        **base_aliases,
        "log-level": "EnterpriseGatewayApp.log_level",
        "ip": "EnterpriseGatewayApp.ip",
        "port": "EnterpriseGatewayApp.port",
        "port_retries": "EnterpriseGatewayApp.port_retries",
        "keyfile": "EnterpriseGatewayApp.keyfile",
        "certfile": "EnterpriseGatewayApp.certfile",
        "client-ca": "EnterpriseGatewayApp.client_ca",
        "ssl_version": "EnterpriseGatewayApp.ssl_version",
    }

    flags = {  # noqa: RUF012 - likewise
        **base_flags,
        "debug": (
            {"EnterpriseGatewayApp": {"log_level": logging.DEBUG}},
            "Log at level DEBUG, the most detailed one.",
        ),
    }

    subcommands = {  # noqa: RUF012 - likewise
        "kernels": ("enterprise_gateway.app.commands.kernels.KernelsApp", "List and stop kernels."),
        "images": (
            "enterprise_gateway.app.commands.images.ImagesApp",
            "List and pull the images of kernelspecs.",
        ),
        "tokens": (
            "enterprise_gateway.app.commands.tokens.TokensApp",
            "Make, list and remove the tokens of users.",
        ),
        "kernelspecs": (
            "enterprise_gateway.app.commands.kernelspecs.KernelspecsApp",
            "Install kernelspecs for kernels in containers.",
        ),
        "usage": (
            "enterprise_gateway.app.commands.usage.UsageApp",
            "Sum what users have used.",
        ),
    }

    log_level = Enum(
        (0, 10, 20, 30, 40, 50, "DEBUG", "INFO", "WARN", "WARNING", "ERROR", "CRITICAL"),
        default_value=logging.INFO,
        help="Lowest level of the messages in the log, by number or name.",
    ).tag(config=True, env=("EG_LOG_LEVEL",))
    log_json = Bool(default_value=False, help="Log one JSON object per line instead of text.").tag(
        config=True, env=("EG_LOG_JSON",)
    )
    log_format = Unicode(
        DEFAULT_FORMAT,
        help="""Format of log lines; %(color)s and %(end_color)s take effect on a terminal only,
        %(request)s is the user and the id of the request that is being served.""",
    ).tag(config=True)
    dynamic_config_interval = Integer(
        0,
        min=0,
        help="""Seconds between checks of the configuration files for changes, which take effect
        without a restart; 0: no checks.""",
    ).tag(config=True, env=("EG_DYNAMIC_CONFIG_INTERVAL",))
    auth_token_file = Unicode(
        "",
        help="""File that holds the token, such as a Docker secret; `auth_token` counts instead
        unless it is empty.""",
    ).tag(config=True, env=("EG_AUTH_TOKEN_FILE",))
    cluster_secret = Unicode(
        "",
        help="""Secret that all replicas share: the tokens of kernel agents derive from it. By
        default it is generated and kept in the Jupyter data folder.""",
    ).tag(config=True, env=("EG_CLUSTER_SECRET",))
    cluster_secret_file = Unicode("", help="File that holds the cluster secret.").tag(
        config=True, env=("EG_CLUSTER_SECRET_FILE",)
    )
    balancer_secret_file = Unicode(
        "",
        help="""File that holds the secret that the gateways share with their load balancer, which
        may then connect clients' WebSockets to kernel agents by itself. By default all WebSockets
        pass through the gateway.""",
    ).tag(config=True, env=("EG_BALANCER_SECRET_FILE",))

    event_webhook_secret_file = Unicode(
        "",
        help="""File that holds the secret with which requests to `event_webhook_url` are signed:
        base64 of 24 to 64 bytes, with or without `whsec_` before it.""",
    ).tag(config=True, env=("EG_EVENT_WEBHOOK_SECRET_FILE",))

    # of the settings: HasOptions makes these traits, like all others
    auth_token: str | None
    authorizer_class: str
    user_tokens_file: str

    @default("config_file_name")
    def _default_config_file_name(self) -> str:
        return "jupyter_enterprise_gateway_config"

    @observe("log_json")
    def _change_log_format(self, _change: object) -> None:
        self._configure_logging()

    def get_default_logging_config(self) -> dict[str, Any]:
        """Return the configuration of the log unless `logging_config` changes it."""
        base: dict[str, Any] = super().get_default_logging_config()
        return logging_config(base, type(self).__name__, as_json=self.log_json)

    def find_foreign_classes(self) -> tuple[type[HasTraits], ...]:
        """Return the class of the site's own authorizer."""
        return find_authorizer(self.authorizer_class)

    def read_settings(self, previous: Settings | None = None) -> Settings:
        """Make the settings of the options.

        Args:
            previous: the settings in force, if any: values that change only at a start are taken
                from them.

        Raises:
            ConfigurationError: an option contradicts itself, or a secret cannot be read or kept.
        """
        secret = self._find_cluster_secret() if previous is None else previous.cluster_secret
        settings = compose_settings(
            (self, *(cls(parent=self) for cls in CLASSES)),
            auth_token=self._find_auth_token(secret),
            environ=os.environ,
            username=find_username(),
            cpus=count_cpus(),
            host=find_host(),
        )
        if previous is not None:
            return keep_start_values(settings, previous)
        settings = replace(
            settings,
            cluster_secret=secret,
            balancer_secret=self._find_balancer_secret(),
            event_webhook_key=self._find_webhook_key(settings.events.webhook_url),
        )
        kernels = _make_private(self._find_folder("runtime_dir") / "enterprise_gateway")
        # as with containers, gateways with another secret have nothing to do with these kernels
        return replace(settings, runtime_dir=_make_private(kernels / settings.cluster_id))

    def start(self) -> None:
        """Run the gateway until SIGTERM or SIGINT. Kernels go on running."""
        super().start()
        try:
            asyncio.run(self.run())
        except GatewayError as exc:
            self.give_up(exc)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            GatewayError: the gateway cannot start.
        """
        from enterprise_gateway.web.audit import audit_file  # noqa: PLC0415 - likewise
        from enterprise_gateway.web.server import build, serve  # noqa: PLC0415 - --help and --version need no web server

        raise_descriptor_limit()
        settings = self.read_settings()
        live = LiveSettings(settings)
        authorizer = load_authorizer(settings.access.authorizer_class, self)
        log_file = audit_file(settings.server.audit_log)
        with suppress(asyncio.CancelledError), cancelled_by_signals(), log_file:
            async with serve(build(live, authorizer), live) as port, ConfigWatcher(self, live):
                self._announce(settings, port)
                await asyncio.get_running_loop().create_future()
        self.log.info("Stopped; kernels go on running.")

    def _announce(self, settings: Settings, port: int) -> None:
        scheme = "https" if settings.server.certfile else "http"
        ip = settings.server.ip
        host = "127.0.0.1" if ip in _ALL_INTERFACES else f"[{ip}]" if ":" in ip else ip
        url = f"{scheme}://{host}:{port}{settings.server.base_url}"
        self.log.info("Enterprise Gateway %s is available at %s", __version__, url)
        if not settings.is_authentication_on:
            self.log.warning("Authentication is off: everyone who can reach %s can run code.", url)
        elif settings.access.is_auth_token_weak:
            self.log.warning(
                "The token is short enough to be found by trying: take %d random characters or "
                "more.",
                STRONG_CHARS,
            )
        elif self.auth_token is None and not self.auth_token_file:
            # to the operator, not to the log, which others may read
            sys.stdout.write(
                f"Generated token; connect to {url}?token={settings.access.auth_token}\n"
            )
            sys.stdout.flush()
        access = settings.access
        if access.allow_origin == "*" and access.allow_credentials.lower() == "true":
            self.log.warning(
                "allow_origin is '*' and allow_credentials is true: browsers reject such answers. "
                "Set allow_origin to the origin of the pages that may connect."
            )
        own = find_username()
        if (
            settings.kernels.impersonation_enabled
            and own not in settings.kernels.unauthorized_users
        ):
            self.log.warning(
                "Impersonation is enabled and the gateway's user %s is not in unauthorized_users.",
                own,
            )

    def _find_auth_token(self, cluster_secret: bytes) -> str:
        if self.auth_token_file and not self.auth_token:
            return read_shared_text(Path(self.auth_token_file), "auth token")
        if self.auth_token is not None:
            return self.auth_token
        return derive_auth_token(cluster_secret)

    def _find_balancer_secret(self) -> str:
        path = self.balancer_secret_file
        return read_shared_text(Path(path), "balancer secret") if path else ""

    def _find_webhook_key(self, url: str) -> bytes:
        path = self.event_webhook_secret_file
        if not url:
            return b""
        if not path:
            raise ConfigurationError(
                "event_webhook_url needs event_webhook_secret_file, so that the receiver can tell "
                "the gateway's events from forged ones."
            )
        try:
            return read_key(read_shared_text(Path(path), "webhook secret"))
        except ValueError as exc:
            raise ConfigurationError(f"The webhook secret of {path} is wrong: {exc}.") from exc

    def _find_cluster_secret(self) -> bytes:
        if self.cluster_secret:
            return derive_secret(self.cluster_secret, "the configuration")
        if self.cluster_secret_file:
            return read_secret_file(Path(self.cluster_secret_file))
        return load_or_create_secret(self._find_folder("data_dir") / "enterprise_gateway")

    def _find_folder(self, option: str) -> Path:
        """Return a folder of Jupyter, which traitlets creates when it is read."""
        try:
            return Path(getattr(self, option))
        except OSError as exc:
            raise ConfigurationError(f"The folder {option} cannot be created: {exc}.") from exc


def _make_private(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as exc:
        raise ConfigurationError(f"Cannot create the folder {folder}: {exc}.") from exc
    return folder


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    EnterpriseGatewayApp.launch_instance(argv)
