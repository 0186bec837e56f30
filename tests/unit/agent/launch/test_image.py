"""What is found in the files of an image."""

import json
import sys
from pathlib import Path

import pytest

from kernel_agent.launch import image
from kernel_agent.launch.command import BootstrapScript, Command
from kernel_agent.launch.image import find_kernel
from kernel_agent.launch.kernelspecs import NoKernelError


def add_program(path: Path) -> str:
    """Make an executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def add_kernelspec(data: Path, name: str, **document: object) -> None:
    """Make a kernelspec in a data folder."""
    folder = data / "kernels" / name
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps({"argv": [name], **document}))


@pytest.fixture(autouse=True)
def _no_other_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep this machine's own kernels out."""
    monkeypatch.setattr(image, "BOOTSTRAP_SCRIPT", str(tmp_path / "bootstrap-kernel.sh"))
    monkeypatch.setattr(image, "USUAL_PREFIXES", ())
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "agents"))
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr("kernel_agent.launch.kernelspecs.SYSTEM_FOLDERS", (f"{tmp_path}/system",))


def test_python_of_the_installation_runs_its_kernelspec(tmp_path: Path) -> None:
    """`python` of a kernelspec in PREFIX/share/jupyter is PREFIX/bin/python3, as pip means it."""
    python = add_program(tmp_path / "conda/bin/python3")
    argv = ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    add_kernelspec(tmp_path / "conda/share/jupyter", "python3", argv=argv, language="python")
    found = find_kernel({"PATH": f"/nowhere/bin:{tmp_path}/conda/bin"}, "python")
    assert found == Command((python, *argv[1:]))


def test_installation_behind_a_link_on_path_counts(tmp_path: Path) -> None:
    """/usr/local/bin/jupyter that is a link to /opt/x/bin/jupyter: its kernels are found."""
    add_program(tmp_path / "x/bin/jupyter")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/jupyter").symlink_to(tmp_path / "x/bin/jupyter")
    add_kernelspec(tmp_path / "x/share/jupyter", "ir", language="R")
    assert find_kernel({"PATH": f"{tmp_path}/bin"}, "r") == Command(("ir",))


def test_kernelspec_of_the_image_hides_that_of_the_home(tmp_path: Path) -> None:
    """A home may be a volume with kernels of other machines; what only it has is found."""
    home = tmp_path / "home/.local/share/jupyter"
    add_kernelspec(tmp_path / "system", "python3", argv=["image"], language="python")
    add_kernelspec(home, "Python3", argv=["home"], language="python")
    add_kernelspec(home, "ir", language="R", interrupt_mode="message", env={"A": "$B"})
    environ = {"PATH": "/nowhere", "HOME": f"{tmp_path}/home", "B": "b"}
    assert find_kernel(environ, "python") == Command(("image",))
    assert find_kernel(environ, "R") == Command(("ir",), {"A": "b"}, interrupt_by_message=True)


def test_broken_kernelspec_does_not_hide_others(tmp_path: Path) -> None:
    """A kernel.json that is no JSON, or no text, or not there, is left out."""
    (tmp_path / "system/kernels/empty").mkdir(parents=True)
    for name, data in {"binary": b"\xff\xfe", "text": b"{"}.items():
        (tmp_path / "system/kernels" / name).mkdir()
        (tmp_path / "system/kernels" / name / "kernel.json").write_bytes(data)
    add_kernelspec(tmp_path / "system", "only", language="R")
    assert find_kernel({"PATH": "/nowhere"}, "") == Command(("only",))


@pytest.mark.parametrize("packages", ["lib/python3.12/site-packages", "lib/python3/dist-packages"])
@pytest.mark.parametrize("language", ["python", ""])
def test_ipykernel_without_kernelspec_is_run(tmp_path: Path, packages: str, language: str) -> None:
    """In whatever installation it is, as pip or Debian puts it there."""
    python = add_program(tmp_path / "venv/bin/python3")
    (tmp_path / "venv" / packages / "ipykernel").mkdir(parents=True)
    found = find_kernel({"PATH": f"{tmp_path}/venv/bin"}, language)
    assert found == Command((python, "-m", "ipykernel_launcher", "-f", "{connection_file}"))


def test_ipykernel_of_the_agents_python_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever its modules come from."""
    (tmp_path / "modules/ipykernel").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "modules")])
    found = find_kernel({"PATH": "/nowhere"}, "python")
    assert isinstance(found, Command)
    assert found.argv[0] == sys.executable


def test_other_language_is_not_replaced_by_python(tmp_path: Path) -> None:
    """Who asks for R gets no Python kernel but a sentence."""
    add_kernelspec(tmp_path / "system", "python3", language="python")
    with pytest.raises(NoKernelError, match=r"no kernel for the language 'r': it has python3"):
        find_kernel({"PATH": "/nowhere"}, "r")


def test_bootstrap_script_of_enterprise_gateway_comes_first(tmp_path: Path) -> None:
    """Its images have kernelspecs, too, which are not how they are meant to be started."""
    add_kernelspec(tmp_path / "system", "python3", language="python")
    path = add_program(tmp_path / "bootstrap-kernel.sh")
    assert find_kernel({"PATH": "/nowhere"}, "python") == BootstrapScript(path)
