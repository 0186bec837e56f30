"""The pages that lead a newcomer: what they point to is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("etc/**/*.md")]
SITE = [page for page in PAGES if page.name != "README.md"]
LINK = re.compile(r"\[[^]]*\]\(([^)#\s]+)[^)]*\)")
CODE = re.compile(r"^ *```.*?^ *```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
SENTENCE_END = re.compile(r"[a-z)*\"][.!?] +[A-Z\[*]")
PATH = re.compile(
    r"`((?:benchmarks|docs|enterprise_gateway|etc|kernel_agent|scripts|tests|tools)/[\w./-]*)`"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_pages_lead_somewhere(page: Path) -> None:
    """Those within the repository."""
    links = LINK.findall(page.read_text(encoding="utf-8"))
    local = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", SITE, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_of_pages_hold_one_sentence(page: Path) -> None:
    """So that a change shows the sentences that it changes; tables and code are as they are."""
    text = CODE.sub("code", page.read_text(encoding="utf-8"))
    prose = [line for line in text.splitlines() if not line.lstrip().startswith(("|", "<"))]
    assert [line for line in prose if SENTENCE_END.search(line)] == []


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/architecture.md", "docs/glossary.md"])
def test_paths_named_by_pages_exist(name: str) -> None:
    """Where to change what, and where its tests are."""
    paths = PATH.findall((ROOT / name).read_text(encoding="utf-8"))
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_index_has_the_title_of_every_decision() -> None:
    """In the order of their numbers."""
    folder = ROOT / "docs/decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    rows = []
    for page in sorted(folder.glob("0*.md")):
        number, title = page.read_text(encoding="utf-8").partition("\n")[0][2:].split(" ", 1)
        rows.append(f"| [{number}]({page.name}) | {title} |")
    assert [line for line in index.splitlines() if line.startswith("| [")] == rows
