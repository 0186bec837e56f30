"""Source distributions and wheels of both packages, built once for all tests of this folder."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from devtools.images import GATEWAY

ROOT = Path(__file__).resolve().parents[3]
BUILD_DEADLINE = 140.0
_GENERATED = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of what the gateway's image is built from: builds leave files behind."""
    folder = tmp_path_factory.mktemp("sources")
    for name in GATEWAY.inputs:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=_GENERATED)
        else:
            shutil.copy(ROOT / name, target)
    return folder


@pytest.fixture(scope="session")
def distributions(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with what is published; the wheels are built from the sdists."""
    folder = tmp_path_factory.mktemp("dist")
    for source in (sources, sources / "kernel_agent"):
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder)]
        done = subprocess.run(
            [*command, str(source)],
            check=False,
            capture_output=True,
            text=True,
            timeout=BUILD_DEADLINE,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return folder
