"""A Jupyter application that does not start with a configuration that has a fault."""

import os
import sys
from collections.abc import Iterator
from logging.config import dictConfig
from typing import Any, NoReturn, Self

from jupyter_core.application import JupyterApp
from traitlets import HasTraits
from traitlets.config import Config, Configurable

from enterprise_gateway.app.configuration.check import (
    Sections,
    Source,
    check,
    find_sections,
    is_secret,
    suggest,
)
from enterprise_gateway.app.configuration.command_line import CommandLine
from enterprise_gateway.app.configuration.compatibility import adopt_old_names, find_ignored
from enterprise_gateway.app.configuration.environment import find_unknown, read_environment
from enterprise_gateway.app.configuration.files import (
    JSONFile,
    PythonFile,
    expect_file,
    generate,
)
from enterprise_gateway.app.logs import DEFAULT_FORMAT, expect_format
from enterprise_gateway.app.managers import CLASSES
from enterprise_gateway.errors import ConfigurationError, GatewayError


class StrictApp(JupyterApp):
    """Reads command line, configuration files and environment variables, and ends on a fault.

    traitlets starts an application in spite of a file that it cannot read.
    """

    python_config_loader_class = PythonFile
    json_config_loader_class = JSONFile
    takes_arguments = False
    """Whether the command line may have arguments that are not options."""

    def initialize(self, argv: list[str] | None = None) -> None:
        """Read the configuration, or end with one line that names its fault."""
        try:
            self.read_configuration(argv)
        except ConfigurationError as exc:
            self.give_up(exc)

    def read_configuration(self, argv: list[str] | None) -> None:
        """Read command line, configuration files and environment, in this order of precedence.

        Raises:
            ConfigurationError: one of them has a fault.
        """
        self._argv = argv
        self._foreign: dict[str, str] = {}
        super().initialize(argv)
        if self._dispatching:
            return
        if self.extra_args and not self.takes_arguments:
            word = self.extra_args[0]
            raise ConfigurationError(
                f"'{word}' is not a command of {self.name}{suggest(word, self.subcommands)}"
            )
        self._merge_environment()
        if self._foreign:
            known = find_sections(self.find_foreign_classes())
            for fault in (text for name, text in self._foreign.items() if name not in known):
                raise ConfigurationError(fault)

    def read_again(self) -> Self:
        """Read command line, files and environment again, into a second application.

        Raises:
            ConfigurationError: a file cannot be read, or a value is invalid.
        """
        fresh = type(self)()
        try:
            fresh.read_configuration(self._argv)
        except SystemExit as exc:  # how traitlets ends on a fault that it has logged
            raise ConfigurationError("A value is invalid, see above.") from exc
        return fresh

    def find_foreign_classes(self) -> tuple[type[HasTraits], ...]:
        """Return the site's own classes, which may have options, too.

        Raises:
            ConfigurationError: one of them cannot be imported.
        """
        return ()

    def load_config_file(self, suppress_errors: bool = False) -> None:  # type: ignore[override]  # noqa: FBT001, FBT002 - as its base has it
        """Read the configuration files.

        Raises:
            ConfigurationError: one of them cannot be read.
        """
        del suppress_errors
        self.raise_config_file_errors = True
        if self.config_file:
            expect_file(self.config_file)
        super().load_config_file(suppress_errors=False)

    def start_show_config(self) -> None:
        """Print the configuration without secrets."""
        for options in self.config.values():
            for name in filter(is_secret, options if isinstance(options, Config) else ()):
                options[name] = "<hidden>" if options[name] else options[name]
        super().start_show_config()

    def generate_config_file(self, classes: object = None) -> str:
        """Return a configuration file with every option, those without effect last."""
        del classes
        return generate((type(self), *CLASSES))

    def give_up(self, exc: GatewayError) -> NoReturn:
        """Log an error and end the process with exit code 1."""
        self.log.critical("%s", exc)
        sys.exit(1)

    def configure_logging(self) -> None:
        """Configure logging as this configuration states, in place of one that was read later."""
        self._configure_logging()

    def _configure_logging(self) -> None:
        try:
            expect_format(self.log_format)
            super()._configure_logging()
        except Exception as exc:  # handlers and formatters may be of any class
            config = self.get_default_logging_config()
            config["formatters"]["console"]["format"] = DEFAULT_FORMAT
            dictConfig(config)
            raise ConfigurationError(
                f"log_format or logging_config cannot be used: {type(exc).__name__}: "
                f"{exc.__cause__ or exc}"
            ) from exc

    @classmethod
    def _sections(cls) -> Sections:
        return find_sections((cls, *CLASSES))

    def _check(self, config: Config, source: Source) -> None:
        self._foreign |= check(config, self._sections(), source)

    def _create_loader(
        self,
        argv: list[str] | None,
        aliases: dict[str, Any],
        flags: dict[str, Any],
        classes: list[type[Configurable]] | None,
    ) -> CommandLine:
        loader = CommandLine(argv, aliases, flags, classes=classes, log=self.log)
        loader.inspect = lambda config: self._check(config, Source())
        return loader

    def _load_config_files(  # type: ignore[override] # called on the instance only
        self,
        *args: Any,  # noqa: ANN401 - as its base takes them
        **kwargs: Any,  # noqa: ANN401 - likewise
    ) -> Iterator[tuple[Config, str]]:
        for config, path in super()._load_config_files(*args, **kwargs):
            self._check(config, Source(path))
            yield config, path

    def _merge_environment(self) -> None:
        classes: tuple[type[HasTraits], ...] = (type(self), *CLASSES)
        reading = read_environment(os.environ, classes)
        unknown = find_unknown(os.environ, classes)
        merged = reading.config
        old_names = adopt_old_names(self.config, classes) | reading.deprecated
        merged.merge(self.config)
        ignored = find_ignored(merged, classes) | reading.ignored
        self.update_config(merged)
        for old, new in old_names.items():
            self.log.warning("%s is deprecated, use %s", old, new)
        if ignored:
            reasons = ", ".join(f"{name} ({reason})" for name, reason in sorted(ignored.items()))
            self.log.info("Settings without effect are ignored: %s", reasons)
        if unknown:
            self.log.warning(
                "Variables that look like the gateway's but set none of its options: %s",
                ", ".join(unknown),
            )
