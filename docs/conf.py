"""Configuration of the documentation site, which Sphinx builds from these pages.

`sphinx-build -WEq --keep-going docs build/site` builds it, and fails on a broken link.
`scripts/test` does so.
"""

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

from enterprise_gateway._version import __version__

project = "Enterprise Gateway"
release = version = __version__

extensions = ["myst_parser"]
myst_heading_anchors = 4  # headings have the anchors that they have on GitHub

html_theme = "furo"
html_title = project
html_show_copyright = False
html_show_sourcelink = False

SITE_PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
"""The files beside this folder that are pages of the site, and the page that includes each."""

INCLUDE = re.compile(r"```{include} (\S+)\n```")
LINK = re.compile(r"(?<=\]\()(?![a-z]+:)[^)#\s]+")


def relocate_links(text: str, source: Path, page: Path) -> str:
    """Return the text of a file with its relative links as they are to be in a page of the site."""
    docs = Path(__file__).parent

    def relocate(link: re.Match[str]) -> str:
        target = (source.parent / link[0]).resolve()
        site_page = SITE_PAGES.get(os.path.relpath(target, docs.parent))
        if site_page:
            target = docs / site_page
        is_file = target.suffix == ".md" and not target.is_relative_to(docs)
        return ("path:" if is_file else "") + os.path.relpath(target, page.parent)

    return LINK.sub(relocate, text)


def assemble_page(app: Sphinx, docname: str, content: list[str]) -> None:
    """Expand the includes of a page and relocate its links."""
    page = Path(app.srcdir, f"{docname}.md")

    def include(directive: re.Match[str]) -> str:
        source = page.parent.joinpath(directive[1]).resolve()
        app.env.note_dependency(str(source))
        return relocate_links(source.read_text(encoding="utf-8"), source, page)

    content[0] = INCLUDE.sub(include, relocate_links(content[0], page, page))


def setup(app: Sphinx) -> None:
    """Register the step that reads each page."""
    app.connect("source-read", assemble_page)
