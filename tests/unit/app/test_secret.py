"""The cluster secret is private, durable, and the same for every gateway of a user."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from enterprise_gateway.app.secret import (
    SECRET_BYTES,
    derive_secret,
    load_or_create_secret,
    read_secret_file,
)
from enterprise_gateway.errors import ConfigurationError


def test_secret_is_kept(tmp_path: Path) -> None:
    """A gateway that starts again finds the same secret, so it can talk to its kernels."""
    first = load_or_create_secret(tmp_path / "data")
    assert len(first) == SECRET_BYTES
    assert load_or_create_secret(tmp_path / "data") == first


def test_secret_is_private(tmp_path: Path) -> None:
    """Only the gateway's user may read it, and the folder has no other file."""
    load_or_create_secret(tmp_path / "data")
    [path] = (tmp_path / "data").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_racing_processes_get_the_same_secret(tmp_path: Path) -> None:
    """Two replicas that start at once agree."""
    count = 16
    barrier = Barrier(count)

    def race() -> bytes:
        barrier.wait()
        return load_or_create_secret(tmp_path / "data")

    with ThreadPoolExecutor(count) as pool:
        found = {future.result() for future in [pool.submit(race) for _ in range(count)]}
    assert len(found) == 1
    assert len(list((tmp_path / "data").iterdir())) == 1


def test_secret_of_an_operator_is_derived_alike_everywhere(tmp_path: Path) -> None:
    """A file and the option give the same secret; white space around it does not matter."""
    text = "correct horse battery"
    path = tmp_path / "secret"
    path.write_text(f"{text}\n")
    assert read_secret_file(path) == derive_secret(text, "the configuration")
    assert derive_secret(f"{text}!", "the configuration") != derive_secret(text, "here")


def test_short_secret_is_refused_without_repeating_it(tmp_path: Path) -> None:
    """A guessable secret is no secret; the message does not show it."""
    path = tmp_path / "secret"
    path.write_text("hunter2")
    with pytest.raises(ConfigurationError, match="fewer than 16") as caught:
        read_secret_file(path)
    assert "hunter2" not in str(caught.value)


def test_unreadable_secret_file_is_a_configuration_error(tmp_path: Path) -> None:
    """The operator reads which file is missing."""
    with pytest.raises(ConfigurationError, match="nowhere"):
        read_secret_file(tmp_path / "nowhere")


def test_emptied_secret_file_is_an_error_and_not_replaced(tmp_path: Path) -> None:
    """A damaged secret is not silently made anew: running kernels would be lost."""
    load_or_create_secret(tmp_path)
    (tmp_path / "cluster_secret").write_text("")
    with pytest.raises(ConfigurationError):
        load_or_create_secret(tmp_path)
