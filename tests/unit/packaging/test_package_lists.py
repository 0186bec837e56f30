"""Every folder of source is in the list of packages that its `pyproject.toml` builds."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("package", "pyproject"),
    [
        ("enterprise_gateway", "pyproject.toml"),
        ("kernel_agent", "kernel_agent/pyproject.toml"),
    ],
)
def test_packages_are_listed(package: str, pyproject: str) -> None:
    """Folders that are mapped from elsewhere are listed, too."""
    tables = tomllib.loads((ROOT / pyproject).read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {
        ".".join(module.parent.relative_to(ROOT).parts)
        for module in (ROOT / package).rglob("__init__.py")
        if "build" not in module.parts
    }
    assert sorted(tables["packages"]) == sorted(folders | tables["package-dir"].keys())
