"""Configuration files: how they are read, and how one is written.

A file that cannot be read, or a statement in it that sets nothing, is a `ConfigurationError`.
"""

import ast
import json
import logging
import os
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from textwrap import wrap
from typing import Any

from traitlets import HasTraits, TraitType
from traitlets.config import Config
from traitlets.config.loader import (
    ConfigFileNotFound,
    FileConfigLoader,
    JSONFileConfigLoader,
    PyFileConfigLoader,
)

from enterprise_gateway.app.configuration.check import section_of
from enterprise_gateway.errors import ConfigurationError

_log = logging.getLogger(__name__)


class _StrictFile(FileConfigLoader):
    """A configuration file whose faults are errors that name the file and, if known, the line."""

    def load_config(self) -> Config:
        """Read the file.

        Raises:
            ConfigFileNotFound: there is no such file.
            ConfigurationError: it cannot be read.
        """
        try:
            return super().load_config()
        except (ConfigFileNotFound, ConfigurationError):
            raise
        except (Exception, SystemExit) as exc:  # a configuration file is a program
            raise ConfigurationError(
                f"Configuration file {self.full_filename}{self._line_of(exc)}: "
                f"{type(exc).__name__}: {' '.join(str(exc).split())}"
            ) from exc

    def _line_of(self, exc: BaseException) -> str:
        if isinstance(exc, SyntaxError | json.JSONDecodeError):
            return f":{exc.lineno}" if exc.lineno else ""
        frames = traceback.extract_tb(exc.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == self.full_filename]
        return f":{lines[-1]}" if lines else ""


class PythonFile(_StrictFile, PyFileConfigLoader):
    """A configuration file in Python."""

    def load_subconfig(self, fname: str, path: str | None = None) -> None:
        """Read another file, which may be missing; configuration files call this."""
        super().load_subconfig(fname, path)
        folder = self.path if path is None else path
        if not Path(folder or "", fname).exists():
            _log.warning("%s: there is no file %s to load", self.full_filename, fname)

    def _read_file_as_dict(self) -> None:
        super()._read_file_as_dict()
        with Path(self.full_filename).open("rb") as file:
            for line, option in find_idle_statements(file.read()):
                raise ConfigurationError(
                    f"{self.full_filename}:{line}: {option} is named but not set; "
                    "an option is set with ="
                )


def find_idle_statements(source: bytes) -> Iterator[tuple[int, str]]:
    """Yield line and option of statements such as `c.Class.option == 5` and `c.Class.option: 5`.

    They are valid Python and set nothing, so their limit or users would not be in force.
    """
    for node in ast.walk(ast.parse(source)):
        match node:
            case (
                ast.Expr(value=ast.Compare(left=target)) | ast.AnnAssign(target=target, value=None)
            ):
                option = ast.unparse(target)
                if option.startswith("c."):
                    yield node.lineno, option


class JSONFile(_StrictFile, JSONFileConfigLoader):
    """A configuration file in JSON."""


def expect_file(path: str) -> None:
    """Make sure that the file that `--config` names exists.

    Raises:
        ConfigurationError: it does not, or it has a name that no configuration file has.
    """
    file = Path(os.path.expandvars(path)).expanduser()
    if file.suffix not in {"", ".py", ".json"}:
        raise ConfigurationError(
            f"Configuration file {path} must be Python or JSON, and its name end in .py or .json"
        )
    names = [path] if file.suffix else [f"{file}.py", f"{file}.json"]
    if not any(Path(os.path.expandvars(name)).expanduser().is_file() for name in names):
        raise ConfigurationError(f"There is no configuration file {path}")


def generate(classes: Iterable[type[HasTraits]]) -> str:
    """Return the text of a configuration file with every option as a comment.

    Options without effect come last, each with the reason.
    """
    options = sorted(
        {(section_of(cls, trait), trait) for cls in classes for trait in _options_of(cls)},
        key=lambda each: (each[0] != "EnterpriseGatewayApp", each[0], each[1].name or ""),
    )
    lines = ["# Configuration file of Enterprise Gateway.", "", "c = get_config()  # noqa", ""]
    for section, trait in options:
        if "ignored" not in trait.metadata:
            lines += [
                *(f"# {line}" for line in wrap(" ".join(trait.help.split()), 96)),
                f"# Default: {trait.default_value_repr()}",
                f"# c.{section}.{trait.name} = {trait.default_value_repr()}",
                "",
            ]
    lines += ["# Options of Enterprise Gateway without effect here: accepted and ignored.", ""]
    for section, trait in options:
        if "ignored" in trait.metadata:
            lines.append(f"# c.{section}.{trait.name}  # {trait.metadata['ignored']}")
    return "\n".join([*lines, ""])


def _options_of(cls: type[HasTraits]) -> Iterator[TraitType[Any, Any]]:
    return iter(cls.class_traits(config=True).values())
