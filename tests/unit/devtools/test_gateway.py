"""What scripts/run tells its user."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from devtools import gateway
from devtools.gateway import AVAILABLE, banner, keep_token, kernelspec_images, offer_kernelspecs
from devtools.host import ROOT


def test_keep_token_is_made_once_and_readable_by_the_owner_only(tmp_path: Path) -> None:
    """Clients that know it go on after a restart."""
    file = tmp_path / "token"
    token = keep_token(file)
    assert len(token) >= 32
    assert keep_token(file) == token
    assert file.stat().st_mode & 0o077 == 0


def test_banner_has_the_address_and_a_line_to_paste() -> None:
    """The token goes by the environment: an argument could be seen by all users."""
    text = banner("http://127.0.0.1:8888/base/", "abc")
    assert "http://127.0.0.1:8888/base/?token=abc\n" in text
    assert (
        "JUPYTER_GATEWAY_AUTH_TOKEN=abc jupyter lab --gateway-url=http://127.0.0.1:8888/base\n"
        in text
    )


def test_banner_without_authentication_names_no_token() -> None:
    """An empty token is not shown as one."""
    assert "oken" not in banner("http://127.0.0.1:8888/", "")


def test_available_line_of_the_gateway_is_recognised() -> None:
    """As the gateway logs it once it listens."""
    line = "[I 2026-01-02 03:04:05.678 App] Enterprise Gateway 1.0 is available at http://h:1/"
    match = AVAILABLE.search(line)
    assert match is not None
    assert match[1] == "http://h:1/"


def test_kernelspecs_are_offered_whose_images_are_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No tile in a launcher that cannot start; what the user has edited stays."""
    monkeypatch.setattr(gateway, "KERNELS", tmp_path)
    images = kernelspec_images()
    assert images.keys() >= {"python_docker", "R_docker", "scala_docker", "python_tf_docker"}
    offer_kernelspecs(images.values())  # type: ignore[arg-type]
    assert {folder.name for folder in tmp_path.iterdir()} == images.keys()
    (tmp_path / "R_docker" / "kernel.json").write_text("{}")
    offer_kernelspecs({images["python_docker"]})
    assert {folder.name for folder in tmp_path.iterdir()} == {"python_docker", "R_docker"}


@pytest.mark.parametrize("name", ["run", "test", "images", "swarm", "bench"])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_needs_nothing_installed(tmp_path: Path, name: str, option: str) -> None:
    """In a fresh clone it is there at once, and makes nothing."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    shutil.copy(ROOT / "scripts" / name, scripts)
    command = [str(scripts / name), "--no-engine", option]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    assert re.search(rf"scripts/{name}\b", done.stdout)
    assert "#" not in done.stdout
    assert [file.name for file in tmp_path.rglob("*")] == ["scripts", name]
