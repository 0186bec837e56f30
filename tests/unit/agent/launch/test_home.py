"""The home of a kernel that can write to none, and the name of a user that has none."""

import os
from pathlib import Path

import pytest

from kernel_agent.launch import home
from kernel_agent.launch.home import is_writable, name_user, replace_home, unix_name


def test_folder_that_is_not_there_or_no_folder_is_not_writable(tmp_path: Path) -> None:
    """HOME is often `/nonexistent`, `/dev/null` or unset."""
    (tmp_path / "file").touch()
    assert is_writable(str(tmp_path))
    assert not is_writable(f"{tmp_path}/nothing")
    assert not is_writable(f"{tmp_path}/file")
    assert not is_writable("")


def test_folders_in_the_home_move_with_it() -> None:
    """Those that programs write to; others, and values that only look so, stay."""
    environ = {
        "HOME": "/home/jovyan/",
        "XDG_CACHE_HOME": "/home/jovyan/.cache/",
        "IPYTHONDIR": "/home/jovyan/.ipython",
        "MPLCONFIGDIR": "/elsewhere",
        "XDG_DATA_HOME": "/home/jovyan2/x",
        "R_LIBS_USER": "/home/jovyan/R",
    }
    assert replace_home(environ, "/new") == {
        **environ,
        "HOME": "/new",
        "XDG_CACHE_HOME": "/new/.cache/",
        "IPYTHONDIR": "/new/.ipython",
    }


def test_packages_in_the_former_home_are_still_found(tmp_path: Path) -> None:
    """`pip install --user` in the image: PYTHONUSERBASE, unless the image says otherwise."""
    (tmp_path / ".local/lib").mkdir(parents=True)
    environ = {"HOME": str(tmp_path)}
    assert replace_home(environ, "/new")["PYTHONUSERBASE"] == f"{tmp_path}/.local"
    environ["PYTHONUSERBASE"] = "/own"
    assert replace_home(environ, "/new")["PYTHONUSERBASE"] == "/own"


def test_home_that_was_none_or_the_root_moves_nothing() -> None:
    """Docker gives a user without an entry in passwd the home `/`."""
    assert replace_home({"XDG_CACHE_HOME": "/cache"}, "/new") == {
        "XDG_CACHE_HOME": "/cache",
        "HOME": "/new",
    }
    environ = {"HOME": "/", "XDG_CACHE_HOME": "/cache"}
    assert replace_home(environ, "/new") == {**environ, "HOME": "/new"}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ann", "ann"),
        ("Ann.Smith", "ann-smith"),
        ("bob@example.org", "bob-example-org"),
        ("josé", "jos"),
        ("42", "u42"),
        ("-rf", "rf"),
        ("a:b\nroot:x:0:0", "a-b-root-x-0-0"),
        ("", "u"),
        ("日本", "u"),
        ("x" * 100, "x" * 32),
    ],
)
def test_unix_name_is_what_programs_take(text: str, name: str) -> None:
    """Whatever a client calls itself, it is one field of one line."""
    assert unix_name(text) == name


@pytest.fixture
def passwd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A passwd without an entry for the user, who may write to it."""
    path = tmp_path / "etc-passwd"
    path.write_text("root:x:0:0:root:/root:/bin/sh\n")
    monkeypatch.setattr(home, "USERS", str(path))
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    monkeypatch.setattr(os, "getgid", lambda: 100)
    return path


def test_user_with_an_entry_is_left_alone() -> None:
    """The image knows better."""
    assert name_user({"HOME": "/h"}, "ann", "/nowhere") == {"HOME": "/h"}


def test_user_without_an_entry_gets_one_where_that_can_be_written(passwd: Path) -> None:
    """As docker-stacks' start.sh does; the image's own USER counts more than the client's."""
    environ = {"HOME": "/h", "PATH": "/bin"}
    named = name_user(environ, "Bob@x", "/nowhere")
    assert named == {**environ, "USER": "bob-x", "LOGNAME": "bob-x"}
    assert passwd.read_text().endswith("\nbob-x:x:4242:100::/h:/bin/sh\n")
    assert name_user({"USER": "own"}, "ann", "/nowhere")["LOGNAME"] == "own"


def test_user_gets_a_name_where_no_entry_can_be_written(
    passwd: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By nss_wrapper with a copy, or by USER and LOGNAME alone."""
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)
    library = tmp_path / "libnss_wrapper.so"
    monkeypatch.setattr(home, "NSS_WRAPPERS", (str(library),))
    environ = {"HOME": "/h", "LD_PRELOAD": "/lib/own.so"}
    assert name_user(environ, "ann", str(tmp_path)) == {**environ, "USER": "ann", "LOGNAME": "ann"}
    library.touch()
    named = name_user(environ, "ann", str(tmp_path))
    assert named["LD_PRELOAD"] == f"/lib/own.so {library}"
    entries = Path(named["NSS_WRAPPER_PASSWD"]).read_text()
    assert entries == f"{passwd.read_text()}ann:x:4242:100::/h:/bin/sh\n"
