"""The agent's code is for the oldest Python that kernel images bring."""

import ast
from pathlib import Path

import pytest

import kernel_agent

PACKAGE = Path(kernel_agent.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_parses_with_the_grammar_of_python_3_9(path: Path) -> None:
    """No syntax of later versions, and no annotation that is evaluated."""
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    is_trivial = path.stem in {"__init__", "_version", "archive_main"}  # the last for Python 2, too
    assert is_trivial or any(node.module == "__future__" for node in imports)
