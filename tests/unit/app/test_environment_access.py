"""Only `app/` reads and changes the gateway's environment; all else gets settings."""

import ast
from pathlib import Path

import enterprise_gateway

ROOT = Path(enterprise_gateway.__file__).parent
FORKED = ROOT / "services" / "processproxies" / "scripts" / "server.py"
"""Gives a launch script's process, which it forks, the environment of the script."""
MODULES = {"os", "os.path", "Path", "pathlib.Path", "tempfile", "getpass", "paths"}
NAMES = {
    "environ", "environb", "getenv", "putenv", "get_exec_path", "expandvars", "expanduser", "home",
    "gettempdir", "getuser", "jupyter_path", "jupyter_data_dir",
}  # fmt: skip


def find_uses(file: Path) -> set[str]:
    """Return the names of a module that stand for the environment."""
    uses = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in MODULES:
            uses.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            uses |= {each.name for each in node.names}
    return uses & NAMES


def test_only_app_touches_the_environment() -> None:
    """Neither directly nor by a function that reads it."""
    uses = {str(file.relative_to(ROOT)): find_uses(file) for file in ROOT.rglob("*.py")}
    outside = {file for file in uses if uses[file] and not file.startswith("app/")}
    assert outside == {str(FORKED.relative_to(ROOT))}
