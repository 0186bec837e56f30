"""Commands that print a list: a table for people, JSON for programs."""

import json
from collections.abc import Iterable, Sequence

from traitlets import Bool

from enterprise_gateway.app.commands.command import Command, print_line

_EMPTY_CELL = "-"


class ListCommand(Command):
    """A command that prints a list."""

    flags = {  # noqa: RUF012 - traitlets' own way to declare them
        **Command.flags,
        "json": ({"ListCommand": {"as_json": True}}, "Print JSON instead of a table."),
    }

    as_json = Bool(default_value=False, help="Print JSON instead of a table.").tag(config=True)

    def print_list(
        self, documents: Sequence[object], table: Iterable[Sequence[str]], nothing: str
    ) -> None:
        """Print a list.

        Args:
            documents: what JSON shows of it.
            table: a line with the names of the columns, and one for each document.
            nothing: what is printed in place of a table without documents.
        """
        if self.as_json:
            print_line(json.dumps(documents, indent=2))
        else:
            print_line(format_table(table) if documents else nothing)


def format_table(lines: Iterable[Sequence[str]]) -> str:
    """Align the cells of lines in columns; the texts may be anything."""
    rows = [[_format_cell(text) for text in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _format_cell(text: str) -> str:
    """Return a cell as one line without control characters."""
    plain = " ".join(text.split())
    return (
        "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in plain) or _EMPTY_CELL
    )
