"""What scripts/test hands to pytest."""

from pathlib import Path

import pytest

from bringup.checks import pytest_arguments


def test_pytest_arguments_start_with_the_folders_that_exist() -> None:
    """Folders that a checkout lacks are left out; options follow."""
    assert pytest_arguments(["-x"], ["tests/unit", "tests/missing"]) == ["tests/unit", "-x"]


def test_pytest_arguments_named_paths_replace_the_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path, with or without a test's name, is all that runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_x.py").touch()
    assert pytest_arguments(["test_x.py::test_y", "-q"], ["tests/unit"]) == [
        "test_x.py::test_y",
        "-q",
    ]
