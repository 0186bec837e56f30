"""Reads environment variables as a traitlets configuration of the lowest precedence. Pure."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from traitlets import (
    Bool,
    CBool,
    Enum,
    Float,
    HasTraits,
    Integer,
    List,
    Set,
    TraitType,
    Undefined,
    Unicode,
)
from traitlets.config import Config

from enterprise_gateway.app.configuration.check import describe, is_secret, is_valid, section_of
from enterprise_gateway.app.configuration.compatibility import FOREIGN_VARIABLES, IGNORED_VARIABLES
from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.settings import DelaySettings

DELAYS_VARIABLE = "EG_TEST_DELAYS"
"""Shortens, for tests, delays of a gateway that runs as a process."""

_TRUE = frozenset({"true", "1", "yes", "on", "y", "t"})
_LONG_NAME_LETTERS = 14
_BRACKETED = re.compile(r"[\[({](.*)[\])}]", re.DOTALL)
_FALSE = frozenset({"false", "0", "no", "off", "n", "f"})


@dataclass(frozen=True, slots=True)
class EnvironmentReading:
    """The options that the environment sets.

    Attributes:
        config: the options by class name.
        ignored: variables without effect here, each with the reason.
        deprecated: deprecated variables that are set, each with the one to use instead.
    """

    config: Config
    ignored: dict[str, str] = field(default_factory=dict)
    deprecated: dict[str, str] = field(default_factory=dict)


def read_environment(
    environ: Mapping[str, str], classes: tuple[type[HasTraits], ...]
) -> EnvironmentReading:
    """Collect the options that environment variables set.

    Args:
        environ: the environment.
        classes: classes whose options have `env` metadata.

    Raises:
        ConfigurationError: a value cannot be parsed.
    """
    reading = EnvironmentReading(Config())
    for name, reason in IGNORED_VARIABLES.items():
        if name in environ:
            reading.ignored[name] = reason
    for section, trait in _options_with_variables(classes):
        names: tuple[str, ...] = trait.metadata["env"]
        found = next((name for name in names if name in environ), None)
        if found is None:
            continue
        text = environ[found]
        if not text.strip() and not isinstance(trait, Unicode | List | Set):
            continue  # compose files pass variables that are not set as empty ones
        if "ignored" in trait.metadata:
            reading.ignored[found] = trait.metadata["ignored"]
            continue
        if found in trait.metadata.get("deprecated_env", ()):
            reading.deprecated[found] = names[0]
        reading.config[section][trait.name] = parse_value(found, text, trait)
    return reading


def find_unknown(environ: Mapping[str, str], classes: tuple[type[HasTraits], ...]) -> list[str]:
    """Return the variables that begin like the gateway's but are unknown to it and its scripts.

    A site may have its own, for its launch scripts.

    Raises:
        ConfigurationError: a variable is a misspelling of one of the gateway's.
    """
    options = {
        name for _, trait in _options_with_variables(classes) for name in trait.metadata["env"]
    }
    known = options | set(IGNORED_VARIABLES) | FOREIGN_VARIABLES
    unknown = [
        name
        for name in sorted(environ)
        if name.startswith(("EG_", "KG_")) and not name.startswith("EG_AGENT_")
        if name not in known
    ]
    for name in unknown:
        for meant in sorted(options):
            if is_slip(name, meant):
                raise ConfigurationError(
                    f"Environment variable {name} is no option; did you mean {meant}?"
                )
    return unknown


def make_delay_settings(environ: Mapping[str, str]) -> DelaySettings:
    """Make the delays, which only tests change.

    Args:
        environ: may hold `EG_TEST_DELAYS`, a JSON object of field names and seconds.

    Raises:
        ConfigurationError: it is not such an object.
    """
    text = environ.get(DELAYS_VARIABLE, "") or "{}"
    try:
        delays = json.loads(text)
    except ValueError as exc:
        raise ConfigurationError(f"{DELAYS_VARIABLE} is not JSON: {exc}.") from exc
    names = {field.name for field in fields(DelaySettings)}
    if not isinstance(delays, dict) or not delays.keys() <= names:
        raise ConfigurationError(
            f"{DELAYS_VARIABLE} must be a JSON object with some of: {', '.join(sorted(names))}."
        )
    for name, seconds in delays.items():
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not is_number or not math.isfinite(seconds) or seconds < 0:
            raise ConfigurationError(f"{DELAYS_VARIABLE}: {name} must be seconds, at least 0.")
    return DelaySettings(**delays)


def is_slip(written: str, meant: str) -> bool:
    """Whether a name is a misspelling of another one.

    It is if one letter, or in a long name two, is missing, added, wrong or swapped with the next.
    """
    allowed = 1 if len(meant) < _LONG_NAME_LETTERS else 2
    before: list[int] = []
    row = list(range(len(meant) + 1))
    for i, letter in enumerate(written, 1):
        following = [i]
        for j, other in enumerate(meant, 1):
            cost = min(row[j] + 1, following[-1] + 1, row[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == meant[j - 2] and written[i - 2] == other:
                cost = min(cost, before[j - 2] + 1)
            following.append(cost)
        before, row = row, following
    return row[-1] <= allowed


def parse_value(name: str, text: str, trait: TraitType[Any, Any]) -> object:
    """Parse the text of an environment variable as the option's type requires.

    Raises:
        ConfigurationError: it cannot be parsed. The message does not contain secrets.
    """
    try:
        value = _parse(text, trait)
    except ValueError:
        value = Undefined
    if value is Undefined or not is_valid(trait, value):
        shown = "its value" if is_secret(trait.name or "") else repr(text)
        raise ConfigurationError(f"Environment variable {name}: {shown} is not {describe(trait)}")
    return value


def _parse(text: str, trait: TraitType[Any, Any] | None) -> object:
    match trait:
        case Bool() | CBool():
            return _parse_bool(text)
        case Integer():
            return int(text)
        case Float():
            return float(text)
        case Enum():
            return int(text) if text.strip().isdecimal() else text.strip().upper()
        case Set() | List():
            items = [_parse(item, trait._trait) for item in split_names(text)]  # noqa: SLF001 - no other way to an item's type
            return set(items) if isinstance(trait, Set) else items
        case _:
            return text


def _parse_bool(text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(text)


def split_names(text: str) -> list[str]:
    """Split `a,b`, `'a','b'` or `['a','b']`, the forms of Enterprise Gateway; `null` is empty."""
    bracketed = _BRACKETED.fullmatch(text.strip())
    inner = bracketed[1] if bracketed else text
    items = (item.strip().strip("'\"").strip() for item in inner.split(","))
    return [item for item in items if item and item != "null"]


def _options_with_variables(
    classes: tuple[type[HasTraits], ...],
) -> Iterator[tuple[str, TraitType[Any, Any]]]:
    seen: set[TraitType[Any, Any]] = set()
    for cls in classes:
        for trait in cls.class_traits(env=lambda names: names is not None).values():
            if trait in seen:
                continue
            seen.add(trait)
            yield section_of(cls, trait), trait
