"""Environment variables as a traitlets configuration of the lowest precedence.

Pure: the environment comes in as a mapping, nothing is logged. What an operator should be told
comes back as notices.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from traitlets import Bool, CBool, Float, HasTraits, Integer, List, Set, TraitType, Unicode
from traitlets.config import Config, Configurable

from enterprise_gateway.app.compatibility import IGNORED_VARIABLES
from enterprise_gateway.errors import ConfigurationError

_TRUE = frozenset({"true", "1", "yes", "on", "y", "t"})
_FALSE = frozenset({"false", "0", "no", "off", "n", "f"})


@dataclass(frozen=True, slots=True)
class EnvironmentReading:
    """What the environment says.

    Attributes:
        config: Options by class name.
        ignored: Variables without meaning here, with the reason.
        deprecated: Old names in use, with the name to use instead.
    """

    config: Config
    ignored: dict[str, str] = field(default_factory=dict)
    deprecated: dict[str, str] = field(default_factory=dict)


def read_environment(
    environ: Mapping[str, str], classes: tuple[type[HasTraits], ...]
) -> EnvironmentReading:
    """Collect the options that environment variables set.

    Args:
        environ: The environment.
        classes: Classes whose options have `env` metadata; an option is attributed to the class
        that defines it, or for a
            mix-in that cannot be configured by itself, to the class given.

    Raises:
        ConfigurationError: A value cannot be parsed.
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
            continue  # compose files hand on variables that nobody set as empty ones
        if "ignored" in trait.metadata:
            reading.ignored[found] = trait.metadata["ignored"]
            continue
        if found in trait.metadata.get("deprecated_env", ()):
            reading.deprecated[found] = names[0]
        reading.config[section][trait.name] = parse_value(found, text, trait)
    return reading


def parse_value(name: str, text: str, trait: TraitType[Any, Any]) -> object:
    """Parse an environment variable's text as the option's type wants it.

    Raises:
        ConfigurationError: It cannot be parsed. The message leaves the text of secrets out.
    """
    try:
        return _parse(text, trait)
    except ValueError as exc:
        shown = "its value" if trait.metadata.get("secret") else repr(text)
        raise ConfigurationError(
            f"Environment variable {name}: {shown} is not {trait.info()}."
        ) from exc


def _parse(text: str, trait: TraitType[Any, Any] | None) -> object:
    match trait:
        case Bool() | CBool():
            return _parse_bool(text)
        case Integer():
            return int(text)
        case Float():
            return float(text)
        case Set():
            return {_parse(item, trait._trait) for item in split_names(text)}  # noqa: SLF001 - no other way to an item's type
        case List():
            return [_parse(item, trait._trait) for item in split_names(text)]  # noqa: SLF001 - likewise
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
    """Split `a,b`, `'a','b'` or `['a','b']`, as Enterprise Gateway's files do; `null` is none."""
    items = (item.strip().strip("'\"").strip() for item in text.strip().strip("[](){}").split(","))
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
            yield _section_of(cls, trait), trait


def _section_of(cls: type[HasTraits], trait: TraitType[Any, Any]) -> str:
    """Return the name of the configurable class that defines the option."""
    owners = [
        parent
        for parent in cls.__mro__
        if issubclass(parent, Configurable) and trait.name in parent.class_traits()
    ]
    return owners[-1].__name__
