"""The diagrams of the documentation: drawings by Graphviz, each beside its source.

The last line of a drawing has the digest of its source. So a test that the drawings are up to date
needs no Graphviz, and gives the same answer with each of its versions.
"""

import hashlib
import subprocess
from pathlib import Path

COMMAND = ("dot", "-Tsvg")


def stale_sources(folder: Path) -> list[Path]:
    """Return the sources whose drawing is missing or was made from another text."""
    return [source for source in sorted(folder.glob("*.dot")) if not _is_drawn(source)]


def draw(source: Path) -> None:
    """Draw a diagram, next to its source.

    Raises:
        FileNotFoundError: Graphviz is not installed.
        subprocess.CalledProcessError: the source has an error, which is on stderr.
    """
    drawn = subprocess.run([*COMMAND, source], check=True, stdout=subprocess.PIPE, text=True)
    drawing = source.with_suffix(".svg")
    drawing.write_text(drawn.stdout + _last_line(source), encoding="utf-8")


def _is_drawn(source: Path) -> bool:
    drawing = source.with_suffix(".svg")
    return drawing.is_file() and drawing.read_text(encoding="utf-8").endswith(_last_line(source))


def _last_line(source: Path) -> str:
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    return f"<!-- sha256 of {source.name}: {digest} -->\n"
