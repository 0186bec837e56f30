"""The tables of `docs/settings.md`, written of the options that the gateway declares.

A table stands between two comments of the page. The first says what is in it:

    <!-- table: options ServerSettings dynamic_config_interval -->
    <!-- end of table -->

- `options` followed by groups of the settings and single options: options of EnterpriseGatewayApp;
- `options-of-other-classes`: those that are written under another class;
- `ignored`: options and variables that are accepted and have no effect.

Everything else on the page is written by hand.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from traitlets import HasTraits, TraitType
from traitlets.config import Configurable

import enterprise_gateway.settings
from enterprise_gateway.app.application import EnterpriseGatewayApp
from enterprise_gateway.app.configuration.compatibility import IGNORED_VARIABLES
from enterprise_gateway.app.managers import CLASSES
from enterprise_gateway.settings.option import APPLICATION, find_all_options

Trait = TraitType[Any, Any]
Row = tuple[str, ...]

_PACKAGE = "enterprise_gateway.app"
_NONE = "\N{EN DASH}"
_TABLE = re.compile(r"(<!-- table: (\S+)([^>]*) -->\n).*?(<!-- end of table -->)", re.DOTALL)
_VALUE = re.compile(
    r"""
    `[^`]*`                            # a code span
    | (?<!\w) '([^' ]+)'               # a quoted value
    | (?<![\w*]) ([A-Z*]*[_*][A-Z_*]+ | [A-Z]+_?\*)  # the name of a variable, or several
    """,
    re.VERBOSE,
)


def render(page: str) -> str:
    """Return the page with its tables as they must be now.

    Raises:
        KeyError: a comment asks for a table, a group or an option that does not exist.
    """
    makers: dict[str, Callable[[Sequence[str]], str]] = {
        "options": application_table,
        "options-of-other-classes": lambda _: other_classes_table(),
        "ignored": lambda _: ignored_table(),
    }

    def fill(found: re.Match[str]) -> str:
        return f"{found[1]}\n{makers[found[2]](found[3].split())}\n\n{found[4]}"

    return _TABLE.sub(fill, page)


def application_table(names: Iterable[str]) -> str:
    """Return the table of options of EnterpriseGatewayApp.

    Args:
        names: of groups of the settings, and of single options.
    """
    traits = EnterpriseGatewayApp.class_traits(config=True)
    members = sorted(name for each in names for name in _find_members(each))
    rows = [option_row(name, traits[name]) for name in members]
    return format_table(("`c.EnterpriseGatewayApp.`", "environment", "default", "meaning"), rows)


def other_classes_table() -> str:
    """Return the table of options that are written under other classes."""
    rows = [
        option_row(name, trait)
        for name, trait in _find_options(*CLASSES)
        if "ignored" not in trait.metadata
    ]
    return format_table(("option", "environment", "default", "meaning"), rows)


def ignored_table() -> str:
    """Return the table of options and variables that are accepted and ignored."""
    options = [
        (f"`{name}`", _variables(trait), trait.metadata["ignored"])
        for name, trait in (*_find_application_options(), *_find_options(*CLASSES))
        if "ignored" in trait.metadata
    ]
    variables = [(_NONE, f"`{name}`", reason) for name, reason in IGNORED_VARIABLES.items()]
    return format_table(("option", "environment", "why"), [*options, *variables])


def option_row(name: str, trait: Trait) -> Row:
    """Return the row of an option: its name, its variables, its default and its meaning."""
    return f"`{name}`", _variables(trait), _default(trait), mark_up(trait.help)


def format_table(head: Row, rows: Iterable[Row]) -> str:
    """Lay out a table."""
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    lines.insert(1, "|---" * len(head) + "|")
    return "\n".join(lines)


def mark_up(text: str) -> str:
    """Return the help of an option as Markdown: names of variables and quoted values as code."""

    def mark(found: re.Match[str]) -> str:
        value = found[1] or found[2]
        return f"`{value}`" if value else found[0]

    return _VALUE.sub(mark, " ".join(text.split()))


def _find_members(name: str) -> Iterator[str]:
    """Yield the options of a group of the settings, or the one option of that name."""
    group = getattr(enterprise_gateway.settings, name, None)
    if group is None:
        yield name
        return
    for _, option in find_all_options(group):
        if option.section == APPLICATION:
            yield option.name
            if option.old_name:
                yield option.old_name


def _find_application_options() -> Iterator[tuple[str, Trait]]:
    for name, trait in sorted(EnterpriseGatewayApp.class_traits(config=True).items()):
        yield f"{APPLICATION}.{name}", trait


def _find_options(*classes: type[HasTraits]) -> Iterator[tuple[str, Trait]]:
    """Yield the options of classes and their parents in this package, each with its full name."""
    parents = dict.fromkeys(parent for cls in classes for parent in reversed(cls.__mro__))
    for parent in parents:
        if issubclass(parent, Configurable) and parent.__module__.startswith(_PACKAGE):
            for name, trait in sorted(parent.class_own_traits(config=True).items()):
                yield f"{parent.__name__}.{name}", trait


def _variables(trait: Trait) -> str:
    deprecated = trait.metadata.get("deprecated_env", ())
    return (
        " ".join(
            f"`{name}` (deprecated)" if name in deprecated else f"`{name}`"
            for name in trait.metadata.get("env", ())
        )
        or _NONE
    )


def _default(trait: Trait) -> str:
    if text := trait.metadata.get("default_text"):
        return str(text)
    value = trait.default()
    if value is None:
        return "none"
    if isinstance(value, list | set):
        value = ", ".join(map(str, value))
    return "empty" if value == "" else f"`{value}`"
