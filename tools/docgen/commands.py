"""The command `scripts/docs`."""

import argparse
import sys
from pathlib import Path

from docgen.diagrams import draw, stale_sources
from docgen.settings_page import render

DOCS = Path(__file__).resolve().parents[2] / "docs"
SETTINGS_PAGE = DOCS / "settings.md"
DIAGRAMS = DOCS / "diagrams"


def docs_command(_options: argparse.Namespace, _rest: list[str]) -> int:
    """Write the generated parts of docs/ anew; the exit status."""
    page = SETTINGS_PAGE.read_text(encoding="utf-8")
    SETTINGS_PAGE.write_text(render(page), encoding="utf-8")
    for source in stale_sources(DIAGRAMS):
        try:
            draw(source)
        except FileNotFoundError:
            sys.stderr.write(f"Drawing {source.name} needs Graphviz: apt-get install graphviz\n")
            return 1
    return 0
