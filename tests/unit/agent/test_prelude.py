"""The beginning of the bundle: which Python becomes the agent, and what is said if none can."""

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path

import pytest
from harness.agents import bundle

SHELLS = {
    name: [path, *options]
    for name, options in {"sh": [], "dash": [], "bash": ["--posix"], "busybox": ["sh"]}.items()
    if (path := shutil.which(name)) is not None
}
"""POSIX says what they have in common; `sh` is there on any machine."""
TOO_OLD = 'shift; EG_AGENT_TRIED="$EG_AGENT_TRIED (Python 3.6)" exec sh "$@"'
NO_PYZMQ = (
    'if [ -n "$EG_AGENT_ANY_PYTHON" ]; then echo "$0 $3"; exit; fi\n'
    'shift; EG_AGENT_TRIED="$EG_AGENT_TRIED (no pyzmq)" exec sh "$@"'
)
FIT = 'echo "$0 $*"'
FAKE_AGENT = {
    "kernel_agent/__init__.py": b"",
    "kernel_agent/__main__.py": b"import sys\ndef main():\n    print('ran', sys.argv[1:])\n",
}


class Image:
    """A folder that stands for the root of an image."""

    def __init__(self, root: Path, shell: list[str]) -> None:
        self.root = root
        self.shell = shell
        self.bundle = root / "agent"
        self.bundle.write_bytes(bundle.build(FAKE_AGENT, root))

    def program(self, path: str, script: str) -> str:
        """Add a shell script; return its path."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        return str(file)

    def kernelspec(self, text: str, folder: str = "usr/local/share/jupyter") -> None:
        """Add a kernel.json."""
        file = self.root / folder / "kernels" / "some" / "kernel.json"
        file.parent.mkdir(parents=True)
        file.write_text(text)

    def run(self, *args: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        """Start the bundle as a container does; return exit code, stdout, stderr."""
        done = subprocess.run(
            [*self.shell, str(self.bundle), *args],
            env={"PATH": f"{self.root}/bin", "EG_AGENT_TOKEN": "s3cret", **(env or {})},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert "s3cret" not in done.stdout + done.stderr
        return done.returncode, done.stdout.strip(), done.stderr.strip()


@pytest.fixture(params=list(SHELLS))
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Image:
    """An image with nothing but a shell."""
    Image(tmp_path, []).program("bin/sh", f'exec {" ".join(SHELLS[request.param])} "$@"')
    return Image(tmp_path, SHELLS[request.param])


def test_python3_on_path_becomes_the_agent_with_its_arguments(image: Image) -> None:
    """Arguments stay apart, blanks and stars in them too; stdout is the agent's alone."""
    python = image.program("bin/python3", 'printf "%s|" "$0" "$@"')
    image.program("bin/python", "echo no")
    assert image.run("--", "a b", "*", "") == (
        0,
        f"{python}|-Es|{image.bundle}|--|a b|*||",
        "",
    )


def test_each_python_is_tried_once_and_the_kernelspecs_before_usual_places(image: Image) -> None:
    """PATH's first, then that of a kernel.json, whatever its layout."""
    image.program("bin/python3", NO_PYZMQ)
    image.program("bin/python", NO_PYZMQ)
    image.program("opt/conda/bin/python3", "echo not me")
    python = image.program("srv/py/bin/python3.11", FIT)
    image.kernelspec(f'{{\n "argv": ["{python}", "-m", "ipykernel_launcher"]}}')
    assert image.run() == (0, f"{python} -Es {image.bundle}", "")


def test_kernelspec_of_the_user_counts(image: Image) -> None:
    """One in the home, with argv over several lines and no newline at its end."""
    python = image.program("srv/bin/python", FIT)
    image.kernelspec(f'{{"argv": [\n  "{python}"\n]}}', "home/.local/share/jupyter")
    assert image.run(env={"HOME": f"{image.root}/home"})[1] == f"{python} -Es {image.bundle}"


@pytest.mark.parametrize("path", ["opt/conda/bin/python3", "usr/bin/python3", "bin/python3.12"])
def test_python_elsewhere_is_found(image: Image, path: str) -> None:
    """Usual places outside PATH, and names with a version."""
    python = image.program(path, FIT)
    assert image.run()[1] == f"{python} -Es {image.bundle}"


def test_relative_folders_of_path_are_left_out(image: Image) -> None:
    """What lies in the working directory is the user's."""
    image.program("here/python3", "echo no")
    code, output, _ = image.run(env={"PATH": f".::here:{image.root}/bin"})
    assert (code, output) == (1, "")


def test_image_with_old_pythons_gets_a_sentence(image: Image) -> None:
    """It names what was looked at and what to do."""
    first = image.program("bin/python3", TOO_OLD)
    second = image.program("opt/conda/bin/python3", TOO_OLD)
    code, output, error = image.run()
    assert (code, output) == (1, "")
    assert error.startswith(
        "kernel_agent: the image has no python3 that is new enough "
        f"(looked at {first} (Python 3.6), {second} (Python 3.6)). "
        "Install a newer one in the image"
    )
    assert "\n" not in error


def test_image_without_pyzmq_runs_the_agent(image: Image) -> None:
    """Its kernel may be in any language; of its Pythons the first that can run the agent does."""
    image.program("bin/python3", TOO_OLD)
    second = image.program("opt/conda/bin/python3", NO_PYZMQ)
    assert image.run("x") == (0, f"{second} x", "")


def test_image_without_python_gets_a_sentence(image: Image) -> None:
    """It says where python3 was looked for."""
    code, output, error = image.run()
    assert (code, output) == (1, "")
    assert error.startswith(f"kernel_agent: the image has no python3 (looked in {image.root}/bin, ")


def test_image_with_an_agent_of_its_own_starts_that(image: Image) -> None:
    """A bootstrap-kernel.sh that mentions kernel_agent is executed, whatever Python there is."""
    script = "exec true -m kernel_agent; echo "
    image.program("bin/python3", "echo no")
    image.program("usr/local/bin/bootstrap-kernel.sh", f"echo own $EG_AGENT_TOKEN_IS\n# {script}")
    assert image.run() == (0, "own", "")


def test_launcher_of_enterprise_gateway_starts_where_no_agent_can(image: Image) -> None:
    """It gets what it needs to report, nothing of the agent's."""
    image.program("usr/local/bin/bootstrap-kernel.sh", 'echo "$RESPONSE_ADDRESS"; set')
    image.program("bin/python3", NO_PYZMQ)
    settings = {"RESPONSE_ADDRESS": "1.2.3.4:8877", "EG_AGENT_SETTINGS": "{}"}
    code, output, error = image.run(env=settings)
    assert (code, error) == (0, "")
    assert output.startswith("1.2.3.4:8877\n")
    assert "EG_AGENT" not in output


def test_python_without_pyzmq_hands_over_to_one_with_it(image: Image) -> None:
    """Real ones: an environment without pyzmq, and that of these tests in a kernel.json."""
    venv.create(image.root / "bare", symlinks=True)
    image.program("unused", "")
    (image.root / "bin" / "python3").symlink_to(image.root / "bare" / "bin" / "python3")
    bare = f"{image.root}/bare/bin"
    image.kernelspec(f'{{"argv": [\n"{sys.executable}"\n]}}')
    path = {"PATH": f"{bare}:{image.root}/bin"}
    assert image.run("--", "x", env=path) == (0, "ran ['--', 'x']", "")


def test_pyzmq_on_pythonpath_is_found(image: Image) -> None:
    """Where the kernel's Python looks the agent does, too."""
    venv.create(image.root / "bare", symlinks=True)
    packages = image.root / "packages" / "zmq"
    packages.mkdir(parents=True)
    (packages / "__init__.py").touch()
    image.program("opt/conda/bin/python3", "echo another")
    env = {"PATH": f"{image.root}/bare/bin"}
    assert image.run(env=env) == (0, "another", "")
    env["PYTHONPATH"] = os.fspath(packages.parent)
    assert image.run(env=env) == (0, "ran []", "")


SETS_UP = 'export HOOK=ran\nexec "$@"'
ENTRY_POINTS = {
    "path": (SETS_UP, ["{root}/bin/entry.sh"]),
    "name": (SETS_UP, ["entry.sh"]),
    "init": (SETS_UP, ["tini", "-g", "--", "entry.sh"]),
    "init with options": (SETS_UP, ["/usr/bin/dumb-init", "-e", "143", "-v", "entry.sh"]),
    "words of its own": ('shift 2; export HOOK=ran; exec "$@"', ["entry.sh", "-x", "a b"]),
    "condition": ('export HOOK=ran; if [ $# -gt 0 ]; then exec "$@"; fi', ["entry.sh"]),
    "init within": ('export HOOK=ran\n# exec tini -- jupyter\nexec env -- "$@"', ["entry.sh"]),
    "array": ('export HOOK=ran\nset -- "$@"\nfalse && exec "${cmd[@]}"\nexec "$@"', ["entry.sh"]),
    "shell": (SETS_UP, ["/bin/sh", "{root}/bin/entry.sh"]),
    "text": ("", ["/bin/sh", "-c", 'export HOOK=ran; exec "$@"', "sh"]),
    "login shell": ("", ["/bin/sh", "-l"]),
    "login shell with command": ("", ["/bin/sh", "-lc"]),
    "env": ("", ["env", "HOOK=ran"]),
    "conda": ("", ["conda", "run", "--no-capture-output", "-n", "science"]),
}


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_entry_point_that_goes_over_into_its_command_has_run(image: Image, name: str) -> None:
    """Its environment is the kernel's; the agent is what it becomes, with its arguments."""
    script, words = ENTRY_POINTS[name]
    image.program("bin/python3", 'printf "%s|" "$HOOK" "$@"')
    image.program("bin/entry.sh", script)
    image.program("bin/conda", 'shift 4; export HOOK=ran; exec "$@"')
    (image.root / "bin" / "env").symlink_to("/usr/bin/env")
    (image.root / ".profile").write_text(f"export HOOK=ran PATH={image.root}/bin\n")
    entry = "".join(f"{word.format(root=image.root)}\n" for word in words)
    env = {"EG_AGENT_ENTRYPOINT": entry, "HOME": str(image.root)}
    expected = (0, f"ran|-Es|{image.bundle}|--|a b|")
    assert image.run("--", "a b", env=env)[:2] == expected  # what /etc/profile says is this host's


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ('export HOOK=ran; exec jupyter lab "$@"', ["entry.sh"]),
        ('# exec "$@"\n    # exec "$@"\nexport HOOK=ran', ["entry.sh"]),
        (SETS_UP, ["jupyter", "lab"]),
        (SETS_UP, ["/no/such/entry.sh"]),
        (SETS_UP, ["tini", "--"]),
        (SETS_UP, ["/bin/sh", "-c", "export HOOK=ran; exit 7"]),
        (SETS_UP, ["/bin/sh"]),
        (SETS_UP, ["conda", "info"]),
        (SETS_UP, []),
    ],
)
def test_entry_point_that_is_the_application_is_left_out(
    image: Image, script: str, words: list[str]
) -> None:
    """It would be started in the kernel's place."""
    image.program("bin/python3", 'echo "<$HOOK>"')
    image.program("bin/entry.sh", script)
    env = {"EG_AGENT_ENTRYPOINT": "".join(f"{word}\n" for word in words)}
    assert image.run(env=env) == (0, "<>", "")


@pytest.mark.parametrize(
    ("stated", "hook"), [(None, "ran"), ("tini\n-g\n--\n", "ran"), ("none", ""), ("image", "")]
)
def test_start_sh_of_docker_stacks_is_known(image: Image, stated: str | None, hook: str) -> None:
    """Where the entry point is unknown, or its command would have called it; once only."""
    image.program("bin/python3", 'echo "<$HOOK>"')
    image.program(
        "usr/local/bin/start.sh", 'export HOOK="${HOOK:-}ran"\ncmd=("$@")\nexec "${cmd[@]}"'
    )
    shebang = (image.root / "usr/local/bin/start.sh").read_text().replace("/bin/sh", "/bin/bash")
    (image.root / "usr/local/bin/start.sh").write_text(shebang)
    env = {} if stated is None else {"EG_AGENT_ENTRYPOINT": stated}
    assert image.run(env=env) == (0, f"<{hook}>", "")
