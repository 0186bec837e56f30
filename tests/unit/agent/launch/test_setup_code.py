"""The code that a kernel of a pool executes when it is taken."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_agent.launch.setup_code import setup_code

VALUES = {
    "A": "plain",
    "B": 'it\'s "fine" \\ \\n `x` ☃ 😀\n$HOME #{1}',
    "a`b\\c\"d'": "odd name",
    "UNWANTED": None,
}
R_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`', re.DOTALL)


def test_python_sets_what_it_is_given(tmp_path: Path) -> None:
    """Any name and value, and the folder; the expression has no value and leaves no name."""
    folder = tmp_path / 'it\'s "mine" \\ ☃'
    folder.mkdir()
    code = setup_code("Python", VALUES, str(folder))
    program = (
        "import json, os, sys\n"
        "before = sorted(globals())\n"
        "value = eval(sys.argv[1])\n"
        "names = sorted({*globals()} - {'value', 'before'})\n"
        "print(json.dumps([dict(os.environ), os.getcwd(), value, names == before]))"
    )
    command = [sys.executable, "-X", "utf8", "-c", program, str(code)]
    env = {**os.environ, "UNWANTED": "x"}
    done = subprocess.run(command, env=env, check=True, capture_output=True)
    environ, cwd, value, is_clean = json.loads(done.stdout)
    assert {name: environ.get(name) for name in VALUES} == VALUES
    assert (cwd, value, is_clean) == (str(folder), None, True)


def test_python_stays_where_it_is_if_it_cannot_enter_the_folder(tmp_path: Path) -> None:
    """The agent says so to the user."""
    for folder in (str(tmp_path / "missing"), __file__):
        code = setup_code("python", {}, folder)
        command = [sys.executable, "-c", f"{code}\nimport os; print(os.getcwd())"]
        done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
        assert done.stdout.strip() == str(tmp_path)


def test_r_sets_what_it_is_given() -> None:
    """One invisible expression with a scope of its own, which fails for no folder."""
    code = setup_code("R", {"A": "plain", "UNWANTED": None}, "/home/ann")
    assert code == (
        'invisible(base::local({ Sys.setenv(`A` = "plain"); Sys.unsetenv("UNWANTED"); '
        'try(setwd("/home/ann"), silent = TRUE) }))'
    )


def test_r_takes_no_value_for_code() -> None:
    """Quotes, backquotes and backslashes end no string; all else stands as it is."""
    code = str(setup_code("r", VALUES, 'C:\\"x"'))
    assert R_STRING.sub("_", code) == (
        "invisible(base::local({ Sys.setenv(_ = _); Sys.setenv(_ = _); Sys.setenv(_ = _); "
        "Sys.unsetenv(_); try(setwd(_), silent = TRUE) }))"
    )
    strings = [re.sub(r"\\(.)", r"\1", found[1:-1]) for found in R_STRING.findall(code)]
    expected = [text for item in VALUES.items() for text in item if text is not None]
    assert strings == [*expected, 'C:\\"x"']


@pytest.mark.parametrize(
    ("language", "env", "code"),
    [("python", {}, ""), ("scala", {}, ""), ("scala", {"A": "1"}, None), ("", {"A": "1"}, None)],
)
def test_other_languages_set_nothing(
    language: str, env: dict[str, str | None], code: str | None
) -> None:
    """No code where nothing changes, and none that would be wrong."""
    assert setup_code(language, env, "") == code
