"""The command line: an option that does not exist is a `ConfigurationError`."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from traitlets import TraitError
from traitlets.config import Config
from traitlets.config.loader import ArgumentError, KVArgParseConfigLoader

from enterprise_gateway.app.configuration.check import find_sections, suggest
from enterprise_gateway.errors import ConfigurationError


class CommandLine(KVArgParseConfigLoader):
    """Reads the command line."""

    class _Parser(KVArgParseConfigLoader.parser_class):  # type: ignore[valid-type,misc]
        def error(self, message: str) -> None:
            raise ArgumentError(message)

    parser_class = _Parser

    inspect: Callable[[Config], None]
    """Called with the options; raises a ConfigurationError if they have a fault."""

    def load_config(self, *args: Any, **kwargs: Any) -> Config:  # noqa: ANN401 - as its base takes them
        """Return the options on the command line.

        Raises:
            ConfigurationError: an option is unknown, or a value is invalid.
        """
        short = {f"{'-' if len(name) == 1 else '--'}{name}" for name in self._short_names()}
        for argument in self._options(self.argv):
            name = argument.partition("=")[0]
            if "." not in name and name not in short:
                raise ConfigurationError(f"Unknown option {name}{suggest(name, short)}")
            section, _, option = name.lstrip("-").partition(".")
            if option and not section[:1].isupper():
                hint = suggest(section, find_sections(self.classes), f"--{{}}.{option}")
                raise ConfigurationError(f"Unknown option {name}{hint}")
        try:
            config: Config = super().load_config(*args, **kwargs)
        except (ArgumentError, TraitError) as exc:
            raise ConfigurationError(f"Command line: {exc}") from exc
        self.inspect(config)
        return config

    def _short_names(self) -> Iterator[str]:
        for names in (*self.aliases, *self.flags):
            yield from (names,) if isinstance(names, str) else names

    @staticmethod
    def _options(argv: Sequence[str]) -> list[str]:
        before = argv[: argv.index("--")] if "--" in argv else argv
        return [each for each in before if re.match(r"-{1,2}[^\d.-]", each)]
