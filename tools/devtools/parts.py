"""The test suite in parts: the folders that one pytest process runs, and what they need."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devtools.host import ROOT

TESTS = ROOT / "tests"


@dataclass(frozen=True)
class Part:
    """Folders of `tests` that one pytest process runs."""

    name: str
    folders: tuple[str, ...]
    after: tuple[str, ...] = ()
    """The jobs that must have ended before."""

    def describe(self) -> str:
        """Return a line for the plan of a run."""
        condition = f", after {' and '.join(self.after)}" if self.after else ""
        return f"{self.name}: {', '.join(self.folders)}{condition}"


IMAGES = "other images"
"""The job that builds the images which few tests need."""

UNIT_PROXIES = Part("unit, proxies", ("unit/agent", "unit/processproxies"))
UNIT_OTHERS = Part("unit, others", ("unit",))
"""The folders of `unit` that no other part names."""

UNIT = (UNIT_PROXIES, UNIT_OTHERS)
"""These need neither an engine nor images."""

SWARM = Part("swarm", ("swarm", "stack"))
"""Has engines of its own, for which it loads images once."""

INTEGRATION = Part("integration", ("integration", "security"))
KERNELS = Part("kernels", ("contract", "crash", "clients"))
LANGUAGES = Part("languages", ("languages",), after=(IMAGES,))
DOCKER = Part("docker", ("docker",), after=(IMAGES, INTEGRATION.name, KERNELS.name))
"""Makes containers without the label of a cluster, which every gateway of the engine lists.

The tests of other parts know all the kernels that a gateway lists. Folders that no part names
belong here, too.
"""

ENGINE = (SWARM, INTEGRATION, KERNELS, LANGUAGES, DOCKER)
"""These need an engine. The longest come first."""


def find_folders(part: Part, tests: Path) -> list[Path]:
    """Return the folders of a part that have tests; those that no part names come with the last.

    Args:
        part: one of `UNIT` or `ENGINE`.
        tests: the folder of all tests.
    """
    with_tests = {file.relative_to(tests).parts for file in tests.glob("*/**/test_*.py")}
    folders = [name for name in part.folders if _has_tests(name, with_tests)]
    if part is UNIT_OTHERS:
        others = {f"unit/{path[1]}" for path in with_tests if path[0] == "unit" and len(path) > 2}
        folders = sorted(others - set(UNIT_PROXIES.folders)) or folders
    if part is DOCKER:
        named = {name.split("/")[0] for each in (*UNIT, *ENGINE) for name in each.folders}
        folders += sorted({path[0] for path in with_tests} - named)
    return [tests / name for name in folders]


def _has_tests(folder: str, with_tests: set[tuple[str, ...]]) -> bool:
    parts = tuple(folder.split("/"))
    return any(path[: len(parts)] == parts for path in with_tests)


def names_paths(arguments: Sequence[str]) -> bool:
    """Say whether pytest is told what to run, so that the parts do not apply."""
    paths = [argument.split("::")[0] for argument in arguments]
    return any("/" in path and (ROOT / path).exists() for path in paths)
