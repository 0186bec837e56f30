"""The agent as one file."""

import asyncio
import importlib.metadata
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import kernel_agent
from enterprise_gateway.services.processproxies.injection.bundle import (
    PACKAGES,
    BundleMaker,
    build_bundle,
)
from enterprise_gateway.services.processproxies.injection.config import MAX_CONFIG_BYTES

OLDEST_PYTHON = (3, 9)


@pytest.fixture
def bundle_file(tmp_path: Path) -> Path:
    """The bundle on disk, where nothing else is."""
    file = tmp_path / "agent"
    file.write_bytes(build_bundle().content)
    return file


def test_bundle_has_the_agents_modules_and_no_others() -> None:
    """No tests, no data, nothing compiled."""
    with zipfile.ZipFile(io.BytesIO(build_bundle().content)) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names} == {"__main__.py", *PACKAGES}
    assert all(name.endswith(".py") for name in names)
    assert not any("test" in name for name in names)
    package = Path(kernel_agent.__file__).parent
    own = {str(path.relative_to(package.parent)) for path in package.rglob("*.py")}
    assert own == {name for name in names if name.startswith("kernel_agent/")}


def test_bundle_is_the_same_for_the_same_files() -> None:
    """So that gateways which share an engine share its volume, too."""
    assert build_bundle() == build_bundle()


def test_bundle_fits_into_a_config() -> None:
    """A swarm refuses larger ones."""
    assert len(build_bundle().content) < MAX_CONFIG_BYTES


def test_bundle_is_executed_by_shell_and_by_python(bundle_file: Path) -> None:
    """The shell never reads the archive, and Python takes no notice of the script before it.

    The agent says that it misses its token.
    """
    prelude = (Path(kernel_agent.__file__).parent / "prelude.sh").read_bytes()
    assert bundle_file.read_bytes().startswith(prelude)
    environment = {"PATH": str(Path(sys.executable).parent)}
    for command in (["/bin/sh", bundle_file], [sys.executable, "-I", bundle_file]):
        ended = subprocess.run(
            [*command, "--", "kernel"],
            cwd="/",
            env=environment,
            capture_output=True,
            check=False,
            text=True,
        )
        assert (ended.returncode, ended.stderr) == (2, "kernel_agent: EG_AGENT_TOKEN is not set\n")


@pytest.mark.parametrize("package", [name for name in PACKAGES if name != "kernel_agent"])
def test_what_is_bundled_runs_on_the_oldest_python_of_images(package: str) -> None:
    """Where pip would take an older release, the bundle has none to take."""
    required = importlib.metadata.metadata(package)["Requires-Python"]
    oldest = required.removeprefix(">=").split(",")[0].split(".")[:2]
    assert tuple(map(int, oldest)) <= OLDEST_PYTHON


async def test_bundle_is_made_once() -> None:
    """Cancelling the first caller does not cancel the build."""
    maker = BundleMaker()
    first = asyncio.create_task(maker.bundle())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert first.cancelled()
    assert await maker.bundle() is await maker.bundle()
