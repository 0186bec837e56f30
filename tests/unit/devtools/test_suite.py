"""The plan of scripts/test, and what it hands to pytest."""

import argparse
from pathlib import Path

import pytest

from devtools import suite
from devtools.engine import EngineChoice
from devtools.host import environment
from devtools.parts import DOCKER, ENGINE, UNIT, UNIT_OTHERS, find_folders, names_paths
from devtools.schedule import Outcome
from devtools.suite import describe_outcomes, describe_plan, describe_total, make_job


def test_every_folder_with_tests_is_in_one_part(tmp_path: Path) -> None:
    """New folders are not forgotten; folders without tests are no test folders."""
    folders = ("zebra", "clients", "unit/agent/deep", "unit/new", "integration", "swarm", "docker")
    for name in folders:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "test_it.py").touch()
    (tmp_path / "harness").mkdir()
    found = {
        part.name: [str(each.relative_to(tmp_path)) for each in find_folders(part, tmp_path)]
        for part in (*UNIT, *ENGINE)
    }
    assert found == {
        "unit, proxies": ["unit/agent"],
        "unit, others": ["unit/new"],
        "swarm": ["swarm"],
        "integration": ["integration"],
        "kernels": ["clients"],
        "languages": [],
        "docker": ["docker", "zebra"],
    }


def test_parts_of_this_checkout_have_tests() -> None:
    """No part names a folder that has moved."""
    for part in (*UNIT, *ENGINE):
        wanted = set(part.folders) - ({"unit"} if part is UNIT_OTHERS else set())
        assert wanted <= {
            str(each.relative_to(suite.TESTS)) for each in find_folders(part, suite.TESTS)
        }


def test_parts_that_cannot_share_an_engine_wait() -> None:
    """What `tests/docker` starts, every gateway of its engine lists."""
    assert {"integration", "kernels"} <= set(DOCKER.after)


def test_other_arguments_go_to_each_part() -> None:
    """They select among its tests."""
    assert all(make_job(part, ["-k", "x"]).command[-2:] == ["-k", "x"] for part in ENGINE)


def test_paths_are_run_instead_of_the_parts() -> None:
    """A path, with or without a test's name."""
    assert names_paths(["tests/unit/devtools/test_suite.py::test_x", "-q"])
    assert not names_paths(["-k", "scripts"])


def test_plan_names_what_is_run() -> None:
    """Nothing that needs an engine with --fast, nothing else where tests are named."""
    whole = describe_plan(is_fast=False)
    assert all(part.name in whole for part in (*UNIT, *ENGINE))
    assert "swarm" not in describe_plan(is_fast=True)
    assert "unit" not in describe_plan(is_fast=False, named=["tests/web"])


def test_table_has_a_line_for_each_part_and_a_total() -> None:
    """Also of parts without a test that matches, which have not failed."""
    outcomes = [
        Outcome("unit", 0, 59.6, "2000 passed, 1 skipped"),
        Outcome("swarm", 1, 600.0, "1 failed, 40 passed"),
        Outcome("docker", 5, 1.0),
    ]
    assert describe_outcomes(outcomes).split("\n")[2:5] == [
        "  unit         60  passed: 2000 passed, 1 skipped",
        "  swarm       600  FAILED (exit code 1): 1 failed, 40 passed",
        "  docker        1  no test",
    ]
    total = describe_total(outcomes, 700.0)
    assert total == "2040 passed, 1 skipped, 1 failed in 700 s (12 min)"


def test_named_tests_are_counted(tmp_path: Path) -> None:
    """As those of the parts, so that the last line of the run is true."""
    file = tmp_path / "test_it.py"
    file.write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert False\n"
        "@pytest.mark.parametrize('number', range(2))\n"
        "def test_skipped(number): pytest.skip()\n"
    )
    outcome = suite.run_pytest([str(file), "-q", "-p", "no:cacheprovider"], environment(None))
    assert not outcome.is_good
    assert outcome.counts == {"passed": 1, "failed": 1, "skipped": 2}


def test_red_checks_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any test, with exit status 1."""

    def refuse(*_: object) -> None:
        raise AssertionError("tests were run")

    monkeypatch.setattr(suite.checks, "install_tools", lambda **_: None)
    monkeypatch.setattr(suite.checks, "run_checks", lambda _env: False)
    monkeypatch.setattr(suite, "run_jobs", refuse)
    options = argparse.Namespace(fast=True, engine=EngineChoice.ANY)
    assert suite.test_command(options, []) == 1
