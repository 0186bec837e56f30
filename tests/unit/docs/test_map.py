"""The map of `docs/architecture.md` shows every folder of source."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_map_shows_every_folder_of_source() -> None:
    """And none that is not there."""
    folders = {
        f"{module.parent.relative_to(ROOT)}/"
        for package in ("enterprise_gateway", "kernel_agent")
        for module in (ROOT / package).rglob("__init__.py")
        if "build" not in module.parts
    }
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| `((?:enterprise_gateway|kernel_agent)/[^`]*)`", page, re.MULTILINE)
    assert sorted(shown) == sorted(folders)
