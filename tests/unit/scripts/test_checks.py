"""What scripts/test hands to pytest."""

from bringup.checks import pytest_arguments


def test_pytest_arguments_start_with_the_folders_that_exist() -> None:
    """Folders that a checkout lacks are left out; options follow."""
    assert pytest_arguments(["-x"], ["tests/unit", "tests/missing"]) == ["tests/unit", "-x"]


def test_pytest_arguments_named_paths_replace_the_folders() -> None:
    """A path, with or without a test's name, is all that runs."""
    arguments = ["tests/unit/scripts/test_checks.py::test_x", "-q"]
    assert pytest_arguments(arguments, ["tests/unit"]) == arguments
    assert pytest_arguments(["-k", "scripts"], ["tests/unit"]) == ["tests/unit", "-k", "scripts"]
