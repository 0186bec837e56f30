"""The pages that lead a newcomer: what they point to is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("etc/**/*.md")]
LINK = re.compile(r"\[[^]]*\]\(([^)#\s]+)[^)]*\)")
PATH = re.compile(
    r"`((?:benchmarks|docs|enterprise_gateway|etc|kernel_agent|scripts|tests)/[\w./-]*)`"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_pages_lead_somewhere(page: Path) -> None:
    """Those within the repository."""
    links = LINK.findall(page.read_text(encoding="utf-8"))
    local = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_paths_named_by_pages_exist(name: str) -> None:
    """Where to change what, and where its tests are."""
    paths = PATH.findall((ROOT / name).read_text(encoding="utf-8"))
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []
