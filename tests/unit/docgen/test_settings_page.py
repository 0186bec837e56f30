"""`docs/settings.md` has every option, with its variables and its default."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from traitlets import TraitType
from traitlets.config import Configurable

from docgen.settings_page import mark_up, render
from enterprise_gateway.app import EnterpriseGatewayApp
from enterprise_gateway.app.configuration.compatibility import IGNORED_VARIABLES
from enterprise_gateway.app.managers import CLASSES

PAGE = (Path(__file__).parents[3] / "docs" / "settings.md").read_text(encoding="utf-8")
NONE = "\N{EN DASH}"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith(("| `", f"| {NONE}"))
]
OURS = "enterprise_gateway.app"


def options() -> Iterator[tuple[str, TraitType[Any, Any]]]:
    """Yield every option of ours as the page names it."""
    inherited = set(EnterpriseGatewayApp.__mro__[-1].__dict__)
    base = next(cls for cls in EnterpriseGatewayApp.__mro__ if cls.__name__ == "JupyterApp")
    assert issubclass(base, Configurable)
    inherited |= set(base.class_traits(config=True)) - {"log_format", "log_level"}
    for name, trait in EnterpriseGatewayApp.class_traits(config=True).items():
        if name not in inherited:
            prefix = "EnterpriseGatewayApp." if "ignored" in trait.metadata else ""
            yield prefix + name, trait
    parents = {parent for cls in CLASSES for parent in cls.__mro__}
    for parent in parents:
        if parent.__module__.startswith(OURS):
            assert issubclass(parent, Configurable)
            for name, trait in parent.class_own_traits(config=True).items():
                yield f"{parent.__name__}.{name}", trait


@pytest.mark.parametrize(("name", "trait"), [pytest.param(*pair, id=pair[0]) for pair in options()])
def test_option_is_on_the_page(name: str, trait: TraitType[Any, Any]) -> None:
    """The option has a row that names its variables and its default."""
    rows = [row for row in ROWS if row[0] == f"`{name}`" and len(row) > 2]
    documented = [row for row in rows if all(f"`{v}`" in row[1] for v in variables(trait))]
    assert documented, f"docs/settings.md has no row for {name} with {variables(trait)}"
    default = trait.default_value
    if "ignored" not in trait.metadata and isinstance(default, bool | int | float):
        assert f"`{default}`" in documented[-1][2]


@pytest.mark.parametrize("name", IGNORED_VARIABLES)
def test_ignored_variable_is_on_the_page(name: str) -> None:
    """Variables without effect are named, with the reason."""
    assert any(row[1:] == [f"`{name}`", IGNORED_VARIABLES[name]] for row in ROWS)


def test_page_names_no_option_that_is_gone() -> None:
    """Every variable on the page is read."""
    known = {variable for _, trait in options() for variable in variables(trait)}
    named = {
        word.strip("`")
        for row in ROWS
        for word in (row[1].split() if len(row) > 2 else [])
        if word.startswith(("`EG_", "`KG_", "`DOCKER_"))
    }
    assert named - known - set(IGNORED_VARIABLES) == set()


def test_page_is_up_to_date() -> None:
    """The tables are those that the source yields."""
    assert render(PAGE) == PAGE, "docs/settings.md is stale: run scripts/docs"


def test_text_beside_a_table_is_kept() -> None:
    """Only text between the two comments is replaced."""
    table = "<!-- table: options ip -->\nold\n<!-- end of table -->\n"
    page = render(f"before\n{table}after\n")
    assert page.startswith("before\n<!-- table: options ip -->\n")
    assert page.endswith("<!-- end of table -->\nafter\n")
    assert "old" not in page
    assert "| `ip` | `EG_IP` `KG_IP` | `127.0.0.1` |" in page


@pytest.mark.parametrize("content", ["options no_such_option", "options NoSuchGroup", "nothing"])
def test_unknown_table_is_an_error(content: str) -> None:
    """A comment with a slip does not leave a table as it was."""
    with pytest.raises(KeyError):
        render(f"<!-- table: {content} -->\n<!-- end of table -->\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("besides KERNEL_*, PYTHON* and *_PROXY", "besides `KERNEL_*`, `PYTHON*` and `*_PROXY`"),
        ("'*' for all, the client's 'a.b'", "`*` for all, the client's `a.b`"),
        ("`KERNEL_UID` of a\n    request, TLS", "`KERNEL_UID` of a request, TLS"),
    ],
)
def test_names_and_values_are_code(text: str, expected: str) -> None:
    """Nothing in a help text is taken for emphasis."""
    assert mark_up(text) == expected


def variables(trait: TraitType[Any, Any]) -> tuple[str, ...]:
    """Return the variables that set an option."""
    names: tuple[str, ...] = trait.metadata.get("env", ())
    return names
