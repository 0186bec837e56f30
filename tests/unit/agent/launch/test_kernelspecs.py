"""Which of an image's kernelspecs is run, and how."""

import json

import pytest

from kernel_agent.launch.command import Command, with_kernel_class
from kernel_agent.launch.kernelspecs import (
    Kernelspec,
    NoKernelError,
    choose_kernelspec,
    command_of,
    data_folders,
    explain_absence,
    is_kernel_name,
    parse_kernelspec,
)


def spec(name: str, language: str) -> Kernelspec:
    """Make a kernelspec."""
    text = json.dumps({"argv": ["kernel", "{connection_file}"], "language": language})
    made = parse_kernelspec(text, "/usr/share/jupyter", name)
    assert made is not None
    return made


IPYTHON = spec("python3", "python")
OTHER_PYTHON = spec("analysis", "Python")
R = spec("ir", "R")
OTHER_R = spec("r", "R")
JULIA = spec("julia-1.10", "julia")


@pytest.mark.parametrize(
    ("specs", "language", "expected"),
    [
        ([OTHER_PYTHON, R, IPYTHON], "python", IPYTHON),
        ([OTHER_PYTHON, R, IPYTHON], "PYTHON", IPYTHON),
        ([R, OTHER_PYTHON], "python", OTHER_PYTHON),
        ([IPYTHON, OTHER_R, R], "r", R),
        ([IPYTHON, OTHER_R, spec("another", "R")], "r", OTHER_R),
        ([spec("julia-1.9", "julia"), JULIA], "Julia", JULIA),
        ([IPYTHON, R], "scala", None),
        ([], "python", None),
        ([JULIA, IPYTHON, R], "", IPYTHON),
        ([JULIA], "", JULIA),
        ([], "", None),
    ],
)
def test_kernelspec_is_chosen_by_language_then_by_name(
    specs: list[Kernelspec], language: str, expected: Kernelspec | None
) -> None:
    """The usual name first, then the language's, then the first; whatever the order found."""
    assert choose_kernelspec(specs, language) == expected
    assert choose_kernelspec(specs[::-1], language) == expected


def test_image_of_several_kernels_without_a_language_is_an_error() -> None:
    """It names them, and what to do."""
    with pytest.raises(NoKernelError) as caught:
        choose_kernelspec([R, JULIA], "")
    assert "ir (R), julia-1.10 (julia)" in str(caught.value)
    assert "KERNEL_LANGUAGE" in str(caught.value)


def test_absence_says_what_there_is_and_where_it_was_looked_for() -> None:
    """One sentence that a user can act upon."""
    text = str(explain_absence("cobol", [R, JULIA], ["/usr/share/jupyter"]))
    for part in ("'cobol'", "ir (R), julia-1.10 (julia)", "/usr/share/jupyter", "argv"):
        assert part in text
    assert "none at all" in str(explain_absence("", [], ["/a"]))


def test_kernel_json_is_read_as_jupyter_does() -> None:
    """Every field that matters; unknown ones are left alone."""
    text = json.dumps(
        {
            "argv": ["python", "-m", "x", "{connection_file}"],
            "env": {"A": "1"},
            "language": "R",
            "display_name": "R 4",
            "interrupt_mode": "message",
            "metadata": {"debugger": True},
        }
    )
    assert parse_kernelspec(text, "/opt/conda/share/jupyter", "IR") == Kernelspec(
        name="ir",
        folder="/opt/conda/share/jupyter/kernels/IR",
        prefix="/opt/conda",
        argv=("python", "-m", "x", "{connection_file}"),
        env={"A": "1"},
        language="R",
        display_name="R 4",
        interrupt_by_message=True,
    )


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"argv": []}', '{"argv": "x"}', '{"argv": [1]}', '{"argv": ["x"], "env": 1}'],
)
def test_kernel_json_of_no_use_is_left_out(text: str) -> None:
    """A broken kernelspec does not hide the others."""
    assert parse_kernelspec(text, "/usr/share/jupyter", "x") is None


def test_names_of_kernelspecs_are_jupyters() -> None:
    """Letters, digits, dot, underscore, hyphen."""
    assert is_kernel_name("Julia-1.10_x")
    assert not is_kernel_name("a b")
    assert not is_kernel_name("")


def test_command_fills_in_folder_prefix_and_environment() -> None:
    """What Jupyter fills in, but for the connection file; unknown variables stay."""
    text = json.dumps(
        {
            "argv": ["python3", "{resource_dir}/run", "--prefix={prefix}", "{connection_file}"],
            "env": {"HOME_OF": "${NAME}/lib:$OTHER", "PLAIN": "1"},
        }
    )
    made = parse_kernelspec(text, "/opt/conda/share/jupyter", "x")
    assert made is not None
    command = command_of(made, {"NAME": "/n"}, "/opt/conda/bin/python3")
    assert command.argv == (
        "/opt/conda/bin/python3",
        "/opt/conda/share/jupyter/kernels/x/run",
        "--prefix=/opt/conda",
        "{connection_file}",
    )
    assert command.env == {"HOME_OF": "/n/lib:$OTHER", "PLAIN": "1"}


@pytest.mark.parametrize("word", ["python2", "/usr/bin/python3", "python3-dbg", "R"])
def test_command_that_is_no_bare_python_stays(word: str) -> None:
    """Only `python`, `python3` and `python3.N` stand for the Python of the installation."""
    made = parse_kernelspec(json.dumps({"argv": [word]}), "/usr/share/jupyter", "x")
    assert made is not None
    assert command_of(made, {}, "/other/python3").argv == (word,)


def test_data_folders_are_jupyters_with_the_users_last() -> None:
    """JUPYTER_PATH, installations, the system's, the user's; each once, none relative."""
    environ = {"JUPYTER_PATH": "/a/:rel:", "HOME": "/home/u"}
    assert data_folders(environ, ["/opt/conda", "/usr", "/"]) == [
        "/a",
        "/opt/conda/share/jupyter",
        "/usr/share/jupyter",
        "/share/jupyter",
        "/usr/local/share/jupyter",
        "/home/u/.local/share/jupyter",
    ]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_DATA_HOME": "/x"}, "/x/jupyter"),
        ({"XDG_DATA_HOME": "/x", "JUPYTER_DATA_DIR": "/d"}, "/d"),
        ({"PYTHONUSERBASE": "/base"}, "/base/share/jupyter"),
    ],
)
def test_data_folder_of_the_user_follows_its_variables(
    environ: dict[str, str], expected: str
) -> None:
    """As in jupyter_core."""
    assert expected in data_folders({"HOME": "/home/u", **environ}, [])


@pytest.mark.parametrize(
    ("argv", "added"),
    [
        (("python", "-m", "ipykernel_launcher", "-f", "x"), ("--IPKernelApp.kernel_class=my.K",)),
        (("python", "-m", "ipykernel_launcher", "--IPKernelApp.kernel_class=o.K"), ()),
        (("python", "-m", "ipykernel_launcher", "--IPKernelApp.kernel_class", "o.K"), ()),
        (("R", "-e", "IRkernel::main()"), ()),
        ((), ()),
    ],
)
def test_kernel_class_of_the_request_is_for_ipykernel(
    argv: tuple[str, ...], added: tuple[str, ...]
) -> None:
    """KERNEL_CLASS_NAME counts in images without an entry point of ours, too."""
    command = Command(argv)
    assert with_kernel_class(command, {"KERNEL_CLASS_NAME": "my.K"}).argv == argv + added
    assert with_kernel_class(command, {"KERNEL_CLASS_NAME": ""}) == command
    assert with_kernel_class(command, {}) == command
