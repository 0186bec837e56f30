"""Wheels and source distributions hold what is needed, and nothing else."""

import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("enterprise_gateway", "kernel_agent")
ABOUT_AGENT = {"LICENSE", "README.md", "pyproject.toml"}
"""Files of the agent's folder that describe the package and are not in it."""


def source_files(sources: Path, package: str) -> Iterator[str]:
    """Return the files that a package needs, by their paths in a wheel."""
    for file in (sources / package).rglob("*"):
        name = str(file.relative_to(sources / package))
        is_about = package == "kernel_agent" and name in ABOUT_AGENT
        if file.is_file() and not is_about and ".egg-info/" not in name:
            yield f"{package}/{name}"
    if package == "enterprise_gateway":
        yield f"{package}/launchers/launch_docker.py"
        for file in (sources / "etc/kernelspecs").glob("*/*"):
            yield f"{package}/kernelspecs/{file.parent.name}/{file.name}"


def distribution(folder: Path, package: str, ending: str) -> Path:
    """Return the only distribution of a package with this ending."""
    (file,) = folder.glob(f"{package}-*{ending}")
    return file


def test_wheels_hold_the_packages(distributions: Path, sources: Path) -> None:
    """Each file of the packages, what operators install, metadata and license; no test."""
    for package in PACKAGES:
        wheel = distribution(distributions, package, ".whl")
        metadata = {"METADATA", "RECORD", "WHEEL", "licenses/LICENSE", "top_level.txt"}
        if package == "enterprise_gateway":
            metadata.add("entry_points.txt")
        name, version, _ = wheel.name.split("-", 2)
        expected = {f"{name}-{version}.dist-info/{file}" for file in metadata}
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            license_text = archive.read(f"{name}-{version}.dist-info/licenses/LICENSE")
        assert sorted(names) == sorted({*source_files(sources, package), *expected})
        assert license_text == (sources / "LICENSE").read_bytes()


def test_wheels_hold_what_is_not_python(distributions: Path) -> None:
    """Named one by one, since a pattern that matches nothing would pass unnoticed."""
    with zipfile.ZipFile(distribution(distributions, "enterprise_gateway", ".whl")) as archive:
        names = archive.namelist()
    for name in (
        "py.typed",
        "services/api/openapi.json",
        "web/home/page.html",
        "kernelspecs/python_docker/kernel.json",
        "kernelspecs/python_docker/logo-svg.svg",
        "launchers/launch_docker.py",
    ):
        assert f"enterprise_gateway/{name}" in names
    with zipfile.ZipFile(distribution(distributions, "kernel_agent", ".whl")) as archive:
        assert {"kernel_agent/py.typed", "kernel_agent/prelude.sh"} <= set(archive.namelist())


def test_sdists_hold_the_sources(distributions: Path, sources: Path) -> None:
    """The sources of the wheel, and what describes them."""
    for package in PACKAGES:
        with tarfile.open(distribution(distributions, package, ".tar.gz")) as archive:
            names = {member.name.partition("/")[2] for member in archive if member.isfile()}
        named = {name for name in names if ".egg-info/" not in name}
        about = {"LICENSE", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg"}
        assert about <= named
        assert {in_wheel(name, package) for name in named - about} == {
            *source_files(sources, package)
        }


def in_wheel(name: str, package: str) -> str:
    """Return the path in the wheel of a file of the sdist."""
    if package == "kernel_agent":
        return f"kernel_agent/{name}"
    name = name.replace("etc/kernelspecs/", "enterprise_gateway/kernelspecs/")
    return name.replace("etc/kernel-launchers/docker/scripts/", "enterprise_gateway/launchers/")


def test_metadata_satisfies_an_index(distributions: Path) -> None:
    """Twine finds no fault, and renders both descriptions."""
    files = sorted(str(file) for file in distributions.iterdir())
    command = [sys.executable, "-m", "twine", "--no-color", "check", "--strict", *files]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=140)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == len(files) == 4
