"""Where an engine is looked for, and what a dead one leaves."""

import socket
import threading
from pathlib import Path

import pytest

from devtools import private_engine
from devtools.console import SetupError
from devtools.engine import EngineChoice, answers, candidates, engine
from devtools.engine_keeper import mount_points

USUAL = ["unix:///var/run/docker.sock", "unix:///run/user/7/docker.sock"]


@pytest.fixture(autouse=True)
def no_docker_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the contexts of the user who runs the tests out of them."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))


def test_candidates_are_the_system_socket_and_the_rootless_one() -> None:
    """In this order, when nothing is configured."""
    assert candidates({"XDG_RUNTIME_DIR": "/run/user/7"}) == USUAL


def test_candidates_docker_host_excludes_all_others() -> None:
    """Who names an engine does not want another one."""
    assert candidates({"DOCKER_HOST": "tcp://engine:2375"}) == ["tcp://engine:2375"]


def test_context_that_is_named_excludes_all_others() -> None:
    """As `DOCKER_HOST` does; one that does not exist is no engine."""
    assert candidates({"DOCKER_CONTEXT": "no-such-context"}) == []


@pytest.mark.parametrize(
    ("name", "value"), [("DOCKER_HOST", "unix:///nope.sock"), ("DOCKER_CONTEXT", "nope")]
)
def test_named_engine_that_does_not_answer_is_an_error(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Naming an engine never leads to another one, or to local kernels, without a word."""

    def refuse(*_: object) -> None:
        raise AssertionError("a private engine was started")

    for variable in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(private_engine, "lease", refuse)
    monkeypatch.setenv(name, value)
    with pytest.raises(SetupError, match=f"{name}.*{value}"), engine(EngineChoice.ANY):
        pass
    with engine(EngineChoice.NONE) as host:
        assert host is None


def test_missing_engine_does_not_answer(tmp_path: Path) -> None:
    """A socket that is missing, and an address of a kind that cannot be had."""
    assert not answers(f"unix://{tmp_path}/missing.sock")
    assert not answers("ssh://engine.invalid")


def test_answers_something_that_is_no_engine_is_false() -> None:
    """A server that closes the connection is not taken for an engine."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            server.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        assert not answers(f"tcp://127.0.0.1:{server.getsockname()[1]}")
        thread.join(10)


def test_mount_points_are_those_inside_the_innermost_first() -> None:
    """The folder itself, which may be a volume of the user's, is left alone."""
    points = ["/", "/data", "/data/overlay2/x/merged", "/data/a\\040b", "/data2/x"]
    lines = [f"36 35 98:0 / {point} rw - ext4 /dev/root rw" for point in points]
    assert mount_points(lines, [Path("/data")]) == ["/data/overlay2/x/merged", "/data/a b"]
