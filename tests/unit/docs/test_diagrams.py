"""The diagrams of `docs/architecture.md`: drawn from their sources, which name files that exist."""

import re
from pathlib import Path

import pytest

from docgen.diagrams import stale_sources

ROOT = Path(__file__).parents[3]
SOURCES = sorted((ROOT / "docs/diagrams").glob("*.dot"))
FOLDERS = (
    ROOT,
    ROOT / "enterprise_gateway",
    ROOT / "enterprise_gateway/services/processproxies",
    ROOT / "enterprise_gateway/services",
    ROOT / "kernel_agent",
)
"""Where a path in a diagram may begin."""


def test_drawings_are_up_to_date() -> None:
    """`scripts/docs` draws those anew whose source has changed."""
    assert stale_sources(ROOT / "docs/diagrams") == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_diagram_names_what_exists(source: Path) -> None:
    """Each path in a label is a file or folder."""
    labels = " ".join(re.findall(r'label="([^"]*)"', source.read_text(encoding="utf-8")))
    named = re.findall(r"[a-z_]+(?:/[a-z_]+)+(?:\.py)?", labels)
    assert [path for path in named if not any((top / path).exists() for top in FOLDERS)] == []


def test_page_shows_all_diagrams() -> None:
    """None is drawn in vain."""
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"\]\(diagrams/([a-z]+)\.svg\)", page))
    assert shown == {source.stem for source in SOURCES}
