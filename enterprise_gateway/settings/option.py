"""Options: how an operator sets the fields of the settings.

A field that an operator can set is declared with `option`, and nowhere else. From it,
`enterprise_gateway.app` derives the trait, the environment variables, `--help-all` and
`docs/settings.md`, and it fills the field with the value that it reads. Pure.
"""

from collections.abc import Callable, Iterator
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar

APPLICATION = "EnterpriseGatewayApp"
"""The class under whose name most options are written."""

_OPTION = "option"
_START_ONLY = "start_only"

T = TypeVar("T")


def _unchanged(value: Any) -> Any:  # noqa: ANN401 - the value of any option
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """How an operator sets a field.

    Attributes:
        help: for users: the meaning, the unit, and what special values and the default stand for.
        default: as an operator would write it; `parse` turns it into the field's default.
        takes: type of the value that an operator writes: `bool`, `int`, `float`, `str`, a list or
            set of these, or one of these or None.
        env: variables that set it; the first that is set counts.
        old_env: deprecated variables, which come after those.
        name: name of the option, if it is not that of the field.
        old_name: deprecated name of the option.
        section: name of the class under which the option is written.
        low: smallest number accepted.
        high: largest number accepted.
        casts: whether every value is accepted and counts as true or false as in Python.
        parse: turns the value that an operator wrote into that of the field.
        default_text: the default as documented, if the gateway works it out when it starts.
        start_only: whether a change has no effect before the next start.
        secret: whether the value is left out of the text of the settings.
    """

    help: str
    default: Any
    takes: Any
    env: tuple[str, ...] = ()
    old_env: tuple[str, ...] = ()
    name: str = ""
    old_name: str = ""
    section: str = APPLICATION
    low: float | None = None
    high: float | None = None
    casts: bool = False
    parse: Callable[[Any], Any] = _unchanged
    default_text: str = ""
    start_only: bool = False
    secret: bool = False


def option(help_text: str, *, default: object, takes: object = None, **details: Any) -> Any:  # noqa: ANN401 - stands for a default of the field's own type
    """Declare a field that an operator can set.

    Args:
        help_text: see `Option.help`.
        default: see `Option.default`.
        takes: see `Option.takes`; by default the type of `default`.
        **details: other attributes of `Option`.

    Returns:
        The field, for the body of a dataclass.
    """
    declared = Option(help=help_text, default=default, takes=takes or type(default), **details)
    return field(
        default=declared.parse(default), repr=not declared.secret, metadata={_OPTION: declared}
    )


def group(cls: Callable[[], T], *, start_only: bool = False) -> T:
    """Declare a field that holds a group of settings.

    Args:
        cls: the group's class.
        start_only: whether changes in it have no effect before the next start.
    """
    declared: Any = field(default_factory=cls, metadata={_START_ONLY: start_only})
    result: T = declared
    return result


def fixed(default: T, *, secret: bool = False) -> T:
    """Declare a field that no option sets and that keeps its value until the gateway ends."""
    declared: Any = field(default=default, repr=not secret, metadata={_START_ONLY: True})
    result: T = declared
    return result


def find_options(cls: type[Any]) -> Iterator[tuple[str, Option]]:
    """Yield the name of each field of a group that an option sets, with the option."""
    for each in fields(cls):
        declared: Option | None = each.metadata.get(_OPTION)
        if declared is not None:
            yield each.name, replace(declared, name=declared.name or each.name)


def find_groups(cls: type[Any]) -> Iterator[tuple[str, type[Any]]]:
    """Yield the name of each field that holds a group of settings, with the group's class."""
    for each in fields(cls):
        factory: Any = each.default_factory
        if is_dataclass(factory) and isinstance(factory, type):
            yield each.name, factory


def find_all_options(cls: type[Any]) -> Iterator[tuple[type[Any], Option]]:
    """Yield the options of a group and of the groups in it, each with the class of its group."""
    for _, declared in find_options(cls):
        yield cls, declared
    for _, part in find_groups(cls):
        yield from find_all_options(part)


def keep_start_values(new: T, previous: T) -> T:
    """Return new settings that keep the previous values of what changes only at a start."""
    kept: dict[str, Any] = {}
    for each in fields(new):  # type: ignore[arg-type] # a dataclass, which T cannot say
        before = getattr(previous, each.name)
        if _is_start_only(each):
            kept[each.name] = before
        elif is_dataclass(before):
            kept[each.name] = keep_start_values(getattr(new, each.name), before)
    return replace(new, **kept)  # type: ignore[type-var] # likewise


def _is_start_only(each: "Field[Any]") -> bool:
    declared: Option | None = each.metadata.get(_OPTION)
    return declared.start_only if declared else bool(each.metadata.get(_START_ONLY))
