"""Checks of what configuration files and the command line set. Files are read to name lines.

traitlets starts an application in spite of a file that it cannot read or a name that it does not
know. Such a gateway would run without the token, limits and users that its operator wrote down.
Here each fault is a `ConfigurationError`, which names the file and the line, the option, and the
nearest valid name.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from traitlets import Dict, HasTraits, List, Set, TraitError, TraitType
from traitlets.config import Config, Configurable
from traitlets.config.loader import DeferredConfig, LazyConfigValue

from enterprise_gateway.errors import ConfigurationError

Options = Mapping[str, TraitType[Any, Any]]
Sections = Mapping[str, Options]
"""Options by the class names under which they may be set."""

_SECRET = re.compile(r"password|secret|token", re.IGNORECASE)
_NOT_SECRET = re.compile(r"_file|_files", re.IGNORECASE)
_SHARED_FILES = frozenset({"jupyter_config.py", "jupyter_config.json"})
"""Read by all Jupyter applications: these files may set options of others."""


def is_secret(option: str) -> bool:
    """Whether the name of an option says that its value must not be shown."""
    return bool(_SECRET.search(option)) and not _NOT_SECRET.search(option)


def find_sections(classes: Iterable[type[HasTraits]]) -> dict[str, Options]:
    """Return the options of classes and of their parents, by the name of the class."""
    return {
        parent.__name__: parent.class_traits(config=True)
        for cls in classes
        for parent in cls.__mro__
        if issubclass(parent, Configurable)
    }


def section_of(cls: type[HasTraits], trait: TraitType[Any, Any]) -> str:
    """Return the name of the configurable class that defines an option.

    An option of a mix-in, under which nothing can be written, belongs to the class given.
    """
    owners = [
        parent
        for parent in cls.__mro__
        if issubclass(parent, Configurable) and trait.name in parent.class_traits()
    ]
    return owners[-1].__name__


def suggest(name: str, candidates: Iterable[str], form: str = "{}") -> str:
    """Return `; did you mean NAME?` for the nearest candidate, "" if none is near."""
    near = get_close_matches(name, sorted(candidates), n=1)
    return f"; did you mean {form.format(near[0])}?" if near else ""


def describe(trait: TraitType[Any, Any]) -> str:
    """Say what an option's value must be, such as "an int from 0 to 65535"."""
    low, high = getattr(trait, "min", None), getattr(trait, "max", None)
    has_low, has_high = low not in (None, -math.inf), high not in (None, math.inf)
    bounds = {
        (True, True): f" from {low} to {high}",
        (True, False): f" of at least {low}",
        (False, True): f" of at most {high}",
        (False, False): "",
    }
    return f"{trait.info()}{bounds[has_low, has_high]}"


def is_valid(trait: TraitType[Any, Any], value: object) -> bool:
    """Whether a value is valid for an option."""
    if isinstance(value, LazyConfigValue):
        return _can_change(trait, value)
    if isinstance(value, DeferredConfig) or (value is None and trait.allow_none):
        return True
    if isinstance(value, float) and not math.isfinite(value):
        return False
    validate: Callable[[HasTraits, object], object] | None = getattr(trait, "validate", None)
    try:
        return validate is None or validate(HasTraits(), value) is not None
    except TraitError:
        return False


def _can_change(trait: TraitType[Any, Any], change: LazyConfigValue) -> bool:
    """Whether an option's type supports a change such as `c.Class.option.append(1)`.

    traitlets silently ignores a change that it does not support.
    """
    known = {"extend", "prepend", "inserts"} if isinstance(trait, List) else set()
    return change.to_dict().keys() <= ({"update"} if isinstance(trait, Dict | Set) else known)


class Source:
    """One configuration file, or the command line, and how messages name a place in it."""

    def __init__(self, path: str = "") -> None:
        self._path = path
        self.is_shared = Path(path).name in _SHARED_FILES

    def spell(self, section: str, option: str) -> str:
        """Return the name of an option and the place where this source sets it."""
        name = f"{section}.{option}" if option else section
        if not self._path:
            return f"--{name}"
        return f"{self._path}{self._line_of(section, option)}: {name}"

    def _line_of(self, section: str, option: str) -> str:
        """Return `:LINE` of the first mention of an option, "" if it is not found."""
        wanted = re.compile(rf"\b{re.escape(option or section)}\b")
        try:
            lines = Path(self._path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return ""
        found = (
            number
            for number, line in enumerate(lines, 1)
            if wanted.search(line) and not line.lstrip().startswith("#")
        )
        number = next(found, 0)
        return f":{number}" if number else ""


def check(config: Config, sections: Sections, source: Source) -> dict[str, str]:
    """Check all options that one source sets.

    Returns:
        The classes that are not among `sections`, each with the error to report unless the class is
        one of the site's own.

    Raises:
        ConfigurationError: an option is unknown, or a value is invalid.
    """
    unknown = {}
    for section, options in _walk(config):
        if not isinstance(options, Config):
            if not source.is_shared:
                raise ConfigurationError(
                    f"{source.spell(section, '')} must be a class with its options, such as "
                    f"EnterpriseGatewayApp.port{suggest(section, sections.keys() - {section})}"
                )
        elif section in sections:
            _check_options(section, options, sections, source)
        elif options and not source.is_shared:
            hint = suggest(section, sections)
            unknown[section] = f"{source.spell(section, '')} is an unknown class of options{hint}"
    return unknown


def _walk(config: Config) -> Iterator[tuple[str, object]]:
    """Yield each section with its options, and sections in sections, such as `Parent.Child`."""
    for name, value in config.items():
        yield name, value
        if isinstance(value, Config):
            yield from _walk(Config({k: v for k, v in value.items() if isinstance(v, Config)}))


def _check_options(section: str, options: Config, sections: Sections, source: Source) -> None:
    known = sections[section]
    for option, value in options.items():
        if isinstance(value, Config):
            continue
        if option not in known:
            if source.is_shared:
                continue
            raise ConfigurationError(
                f"{source.spell(section, option)} is an unknown option"
                f"{_suggest_option(section, option, sections)}"
            )
        if not is_valid(known[option], value):
            found = "" if is_secret(option) else f", not {value!r}"
            raise ConfigurationError(
                f"{source.spell(section, option)} must be {describe(known[option])}{found}"
            )


def _suggest_option(section: str, option: str, sections: Sections) -> str:
    """Suggest the class that has the option, or an option of the same class."""
    owner = next((name for name, options in sections.items() if option in options), "")
    if owner:
        return f"; did you mean {owner}.{option}?"
    return suggest(option, sections[section], f"{section}.{{}}")
