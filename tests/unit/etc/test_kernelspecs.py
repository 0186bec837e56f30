"""The kernelspecs that the project ships, and their installer."""

import json
import runpy
from pathlib import Path

import pytest

from enterprise_gateway.app.commands.kernelspecs import Mode, install_kernelspecs
from enterprise_gateway.errors import ConfigurationError, InvalidRequestError

ROOT = Path(__file__).resolve().parents[3]
LAUNCH_SCRIPT = ROOT / "etc" / "kernel-launchers" / "docker" / "scripts" / "launch_docker.py"


@pytest.mark.parametrize(
    ("name", "display_name", "language", "image"),
    [
        ("R_docker", "R on Docker", "R", "kernel-r"),
        ("python_docker", "Python on Docker", "python", "kernel-py"),
        ("python_tf_docker", "Python on Docker with Tensorflow", "python", "kernel-tf-py"),
        (
            "python_tf_gpu_docker",
            "Python on Docker with Tensorflow with GPUs",
            "python",
            "kernel-tf-gpu-py",
        ),
        ("scala_docker", "Scala on Docker", "scala", "kernel-scala"),
    ],
)
def test_installed_kernelspec_is_complete(
    tmp_path: Path, name: str, display_name: str, language: str, image: str
) -> None:
    """Launch script and logos are in the folder, and the image has a version."""
    folder = tmp_path / name
    said = install_kernelspecs(tmp_path, Mode.SWARM, version="1.2.3")
    assert f"Installed kernelspec {folder}" in said
    spec = json.loads((folder / "kernel.json").read_text())
    assert (spec["display_name"], spec["language"]) == (display_name, language)
    image_name = spec["metadata"]["process_proxy"]["config"]["image_name"]
    assert image_name == f"localhost/enterprise-gateway/{image}:1.2.3"
    assert spec["argv"][1] == "{resource_dir}/scripts/launch_docker.py"
    assert (folder / "scripts" / "launch_docker.py").read_bytes() == LAUNCH_SCRIPT.read_bytes()
    logos = {file.name for file in folder.glob("logo-*")}
    assert logos == {"logo-32x32.png", "logo-64x64.png", "logo-svg.svg"}


@pytest.mark.parametrize(
    ("mode", "class_name"),
    [(Mode.SWARM, "DockerSwarmProcessProxy"), (Mode.DOCKER, "DockerProcessProxy")],
)
def test_mode_decides_what_a_kernel_becomes(tmp_path: Path, mode: Mode, class_name: str) -> None:
    """A service or a container, and the other on another day."""
    for each in (*Mode, mode):
        assert len(install_kernelspecs(tmp_path, each, names=["python_docker"])) == 1
    assert [folder.name for folder in tmp_path.iterdir()] == ["python_docker"]
    spec = json.loads((tmp_path / "python_docker/kernel.json").read_text())
    named = spec["metadata"]["process_proxy"]["class_name"]
    assert named == f"enterprise_gateway.services.processproxies.docker_swarm.{class_name}"


def test_update_keeps_what_the_site_edited(tmp_path: Path) -> None:
    """An edited file stays and is named; the others are brought up to date."""
    install_kernelspecs(tmp_path, Mode.SWARM, version="1")
    folder = tmp_path / "python_docker"
    script = folder / "scripts" / "launch_docker.py"
    script.write_text("# the site's own\n")
    for _ in range(2):
        said = install_kernelspecs(tmp_path, Mode.SWARM, version="2")
        kept = f"{script} was edited and is kept as it is"
        assert [line for line in said if "edited" in line] == [kept]
        assert script.read_text() == "# the site's own\n"
        assert "kernel-py:2" in (folder / "kernel.json").read_text()


def test_faulty_installation_says_what_to_do(tmp_path: Path) -> None:
    """A kernelspec that there is not, and a folder that cannot be written."""
    with pytest.raises(InvalidRequestError, match="did you mean python_docker"):
        install_kernelspecs(tmp_path, Mode.SWARM, names=["python_dokcer"])
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="--prefix"):
        install_kernelspecs(tmp_path / "file", Mode.SWARM)


@pytest.mark.parametrize(
    "name",
    [
        "debian",
        "localhost/enterprise-gateway/kernel-py:1.2.3",
        "localhost:5000/team/kernel_py:latest",
        "registry.example.org/a/b/c",
        "Registry.Example.Org:443/a-b/c.d:V1",
        "debian@sha256:" + "a" * 64,
        "localhost:5000/x:y@sha256:" + "0" * 64,
    ],
)
def test_image_name_of_any_registry_is_taken(name: str) -> None:
    """Ports, tags and digests are part of names."""
    assert runpy.run_path(str(LAUNCH_SCRIPT))["IMAGE_NAME"].fullmatch(name)


@pytest.mark.parametrize(
    "name", ["", "-v", "a b", "a;b", "a:b:c", "/a", "a/", "A", "a@sha256:xyz", "a\n", "$(a)"]
)
def test_what_is_no_image_name_is_refused(name: str) -> None:
    """Nothing but a name gets through to the engine."""
    assert not runpy.run_path(str(LAUNCH_SCRIPT))["IMAGE_NAME"].fullmatch(name)
