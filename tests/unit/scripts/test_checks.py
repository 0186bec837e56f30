"""What scripts/test hands to pytest."""

from pathlib import Path

from bringup.checks import folders_with_tests, pytest_arguments


def test_test_folders_come_in_order_and_new_ones_are_not_forgotten(tmp_path: Path) -> None:
    """Folders without tests are no test folders."""
    for name in ("zebra", "clients", "unit/deep", "integration"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "test_it.py").touch()
    (tmp_path / "harness").mkdir()
    names = [Path(folder).name for folder in folders_with_tests(tmp_path, fast=False)]
    assert names == ["unit", "integration", "clients", "zebra"]
    assert folders_with_tests(tmp_path, fast=True) == [str(tmp_path / "unit")]


def test_pytest_arguments_named_paths_replace_the_folders() -> None:
    """A path, with or without a test's name, is all that runs."""
    arguments = ["tests/unit/scripts/test_checks.py::test_x", "-q"]
    assert pytest_arguments(arguments, ["tests/unit"]) == arguments
    assert pytest_arguments(["-k", "scripts"], ["tests/unit"]) == ["tests/unit", "-k", "scripts"]
