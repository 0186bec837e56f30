"""The home of a kernel that can write to none."""

from pathlib import Path

from kernel_agent.home import is_writable, replace_home


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
