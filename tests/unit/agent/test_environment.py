"""Where the agent reads its environment."""

import ast
from pathlib import Path

import kernel_agent

PACKAGE = Path(kernel_agent.__file__).parent
ENTRY_POINTS = {"__main__.py", "archive_main.py", "fork_server.py", "process/spare_script.py"}
"""The last one is a program of its own, which a kernel's Python runs."""
NAMES = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}


def reads_environment(node: ast.AST) -> bool:
    """Whether a node is `os.environ` or the like, or imports it."""
    if isinstance(node, ast.Attribute):
        return ast.unparse(node.value) == "os" and node.attr in NAMES
    if isinstance(node, ast.ImportFrom):
        return node.module == "os" and bool(NAMES & {alias.name for alias in node.names})
    return False


def test_only_entry_points_read_the_environment() -> None:
    """Every other module is passed the values that it needs."""
    readers = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if any(map(reads_environment, ast.walk(ast.parse(path.read_text()))))
    }
    assert readers == ENTRY_POINTS
