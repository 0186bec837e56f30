"""Launch scripts in the preloaded process."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from harness.engines.leftovers import find_processes
from harness.waiting import wait_until

from enterprise_gateway.services.processproxies.scripts.runner import ScriptResult, ScriptRunner
from enterprise_gateway.services.processproxies.scripts.server import LaunchServer

MARKER = f"SCRIPT_TEST=run-{os.getpid()}"
ENV = {"PATH": os.environ["PATH"], "SCRIPT_TEST": f"run-{os.getpid()}"}
DEADLINE = 60.0


@pytest.fixture
async def runner() -> AsyncIterator[ScriptRunner]:
    """Return a runner whose server is stopped afterwards."""
    runner = ScriptRunner()
    yield runner
    await runner.close()
    assert not find_processes(MARKER)


def write_script(folder: Path, text: str) -> list[str]:
    """Return the command that runs a Python script with this text."""
    script = folder / "launch.py"
    script.write_text(text)
    return [sys.executable, str(script)]


def parent_of(pid: int) -> int:
    """Return the process id of a process's parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def outcome(runner: ScriptRunner, argv: list[str], env: dict[str, str] = ENV) -> ScriptResult:
    """Run a command to its end."""
    run = await runner.run(argv, env, "/")
    return await asyncio.wait_for(run.result, DEADLINE)


async def test_script_finds_what_a_fresh_interpreter_would_give_it(
    runner: ScriptRunner, tmp_path: Path
) -> None:
    """It gets its own arguments, environment, working directory and module path."""
    (tmp_path / "neighbour.py").write_text("FOUND = 'neighbour'")
    argv = write_script(
        tmp_path,
        "import neighbour, os, sys\n"
        "print(sys.argv[1:], sorted(os.environ), os.getcwd(), __name__, neighbour.FOUND)",
    )
    result = await outcome(runner, [*argv, "a b", "{c}"])
    assert result.succeeded
    assert result.output == "['a b', '{c}'] ['PATH', 'SCRIPT_TEST'] / __main__ neighbour\n"


SHOW_PROXY = "import os; print(os.environ.get('HTTP_PROXY'), 'EG_KERNEL_ENV' in os.environ)"


async def test_kernels_variables_stay_out_of_the_script(
    runner: ScriptRunner, tmp_path: Path
) -> None:
    """They are in one variable, which the script passes on."""
    env = {**ENV, "EG_KERNEL_ENV": '{"HTTP_PROXY": "http://kernel"}'}
    result = await outcome(runner, write_script(tmp_path, SHOW_PROXY), env)
    assert result.output == "None True\n"


@pytest.mark.parametrize("wrapped", [False, True], ids=["python", "shell"])
async def test_script_that_knows_nothing_of_that_has_them_among_its_own(
    runner: ScriptRunner, tmp_path: Path, *, wrapped: bool
) -> None:
    """Like one of Enterprise Gateway, which passes its whole environment on."""
    env = {**ENV, "EG_KERNEL_ENV": '{"HTTP_PROXY": "http://kernel"}'}
    argv = write_script(tmp_path, SHOW_PROXY.replace("EG_KERNEL_ENV", "EG_KERNEL_" + "' 'ENV"))
    result = await outcome(runner, ["sh", "-c", '"$@"', "sh", *argv] if wrapped else argv, env)
    assert result.output == "http://kernel False\n"


SANDBOXED = {**ENV, "EG_SANDBOX": '{"is_stated": true}'}


@pytest.mark.parametrize("knows", [True, False])
@pytest.mark.parametrize(
    "words",
    [
        [sys.executable],
        [sys.executable, "-u"],
        ["python3", "-E"],
        ["/bin/sh", "-c", 'exec "$0" "$@"', sys.executable],
    ],
)
async def test_script_that_would_ignore_the_sandbox_is_not_run(
    runner: ScriptRunner, tmp_path: Path, words: list[str], *, knows: bool
) -> None:
    """Whatever runs it; arguments that are no files, such as a long key, are none."""
    text = f"print('ran') # {'EG_SANDBOX' if knows else ''}"
    script = write_script(tmp_path, text)[1]
    argv = [*words, script, "--key", "x" * 5000, "", str(tmp_path)]
    result = await outcome(runner, argv, SANDBOXED)
    assert result.succeeded is knows
    assert (result.output == "ran\n") is knows
    assert (f"{script} does not apply EG_SANDBOX" in result.output) is not knows
    unstated = await outcome(runner, argv, {**ENV, "EG_SANDBOX": '{"is_stated": false}'})
    assert unstated.output == "ran\n"


async def test_command_without_a_script_is_not_run_if_a_sandbox_is_stated(
    runner: ScriptRunner, tmp_path: Path
) -> None:
    """Only what is at the beginning of a regular file that can be read counts."""
    late = tmp_path / "late"
    late.write_bytes(b"#" * (1 << 20) + b"EG_SANDBOX")
    pipe = tmp_path / "EG_SANDBOX"
    os.mkfifo(pipe)
    for argument in ("EG_SANDBOX", str(late), str(pipe)):
        result = await outcome(runner, ["echo", argument], SANDBOXED)
        assert result.ending == "exit code 1"
        assert "does not apply EG_SANDBOX" in result.output


async def test_program_on_the_path_is_looked_at(runner: ScriptRunner, tmp_path: Path) -> None:
    """As the one that runs."""
    program = tmp_path / "launch-kernel"
    program.write_text("#!/bin/sh\necho ran # EG_SANDBOX\n")
    program.chmod(0o755)
    env = {**SANDBOXED, "PATH": f"{tmp_path}:{ENV['PATH']}"}
    assert (await outcome(runner, ["launch-kernel"], env)).output == "ran\n"


async def test_script_inherits_no_descriptor_but_its_output(
    runner: ScriptRunner, tmp_path: Path
) -> None:
    """Neither the gateway's sockets nor those of other scripts are in reach."""
    argv = write_script(tmp_path, "import os; print(len(os.listdir('/proc/self/fd')))")
    # The fourth is the one that lists them.
    assert (await outcome(runner, argv)).output == "4\n"
    assert (await outcome(runner, ["sh", "-c", "ls /proc/self/fd | wc -l"])).output.strip() == "4"


async def test_docker_sdk_is_loaded_already(runner: ScriptRunner, tmp_path: Path) -> None:
    """The server exists to save that time."""
    argv = write_script(tmp_path, "import sys; print('docker' in sys.modules)")
    assert (await outcome(runner, argv)).output == "True\n"


@pytest.mark.parametrize(
    ("text", "ending", "output"),
    [
        ("import sys; sys.exit('no image')", "exit code 1", "no image\n"),
        ("import sys; sys.exit(3)", "exit code 3", ""),
        ("import os; os._exit(4)", "exit code 4", ""),
        ("import os; os.abort()", "killed by SIGABRT", ""),
        ("import ctypes; ctypes.string_at(0)", "killed by SIGSEGV", ""),
    ],
)
async def test_failure_is_told_with_its_words(
    runner: ScriptRunner, tmp_path: Path, text: str, ending: str, output: str
) -> None:
    """After any failure of a script its ending is reported, and the next one runs."""
    argv = write_script(tmp_path, text)
    assert await outcome(runner, argv) == ScriptResult(
        succeeded=False, ending=ending, output=output
    )
    assert (await outcome(runner, ["echo", "next"])).output == "next\n"


async def test_exception_is_told_with_its_traceback(runner: ScriptRunner, tmp_path: Path) -> None:
    """The author of a site's script needs it."""
    result = await outcome(runner, write_script(tmp_path, "def f():\n    1 / 0\nf()"))
    assert result.ending == "exit code 1"
    assert "ZeroDivisionError: division by zero" in result.output


async def test_long_output_is_cut_at_its_beginning(runner: ScriptRunner, tmp_path: Path) -> None:
    """The reason is at the end."""
    argv = write_script(tmp_path, "print('x' * 1000000); print('the reason'); raise SystemExit(1)")
    result = await outcome(runner, argv)
    assert result.output.endswith("the reason\n")
    assert len(result.output) <= 8192


async def test_other_command_runs_as_it_is(runner: ScriptRunner) -> None:
    """Only Python scripts are forked; anything else is executed."""
    result = await outcome(runner, ["sh", "-c", "echo $0 >&2; exit 5", "me"])
    assert (result.ending, result.output) == ("exit code 5", "me\n")
    missing = await outcome(runner, ["/no/such/command"])
    assert (missing.ending, missing.output) == (
        "exit code 127",
        "/no/such/command: No such file or directory\n",
    )


async def test_interpreter_settings_are_the_kernels(runner: ScriptRunner, tmp_path: Path) -> None:
    """They name folders in the container; the script passes them on and ignores them."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "json.py").write_text("raise SystemExit('subverted')")
    argv = write_script(tmp_path, "import json, os; print(os.environ['PYTHONHOME'])")
    env = {**ENV, "PYTHONHOME": "/in/container", "PYTHONPATH": str(tmp_path / "modules")}
    assert (await outcome(runner, argv, env)).output == "/in/container\n"


async def test_killed_script_takes_its_children_along(runner: ScriptRunner, tmp_path: Path) -> None:
    """None of its processes runs after `kill` has returned."""
    ready = tmp_path / "ready"
    run = await runner.run(["sh", "-c", f"sleep 100 & touch {ready}; wait"], ENV, "/")
    await asyncio.to_thread(wait_until, ready.exists)
    await run.kill()
    assert run.result.result().ending == "killed by SIGKILL"
    await asyncio.to_thread(wait_until, lambda: not find_processes(MARKER))
    await run.kill()


async def test_script_can_be_killed_before_it_has_begun(runner: ScriptRunner) -> None:
    """A client may leave at once; the script does not run on."""
    await outcome(runner, ["true"])
    for _ in range(20):
        run = await runner.run(["sleep", "100"], ENV, "/")
        await asyncio.wait_for(run.kill(), DEADLINE)
        assert run.result.result().ending == "killed by SIGKILL"


async def test_scripts_run_side_by_side(runner: ScriptRunner, tmp_path: Path) -> None:
    """A slow script delays no other."""
    slow = await runner.run(["sleep", "100"], ENV, "/")
    argv = write_script(tmp_path, "import sys; print(sys.argv[1])")
    results = await asyncio.gather(*(outcome(runner, [*argv, str(n)]) for n in range(20)))
    assert [result.output for result in results] == [f"{n}\n" for n in range(20)]
    assert not slow.result.done()
    await slow.kill()


async def test_server_that_ended_is_replaced(runner: ScriptRunner) -> None:
    """Its scripts end with it and are reported as lost; the next one runs in a new server."""
    run = await runner.run(["sleep", "100"], ENV, "/")
    script = await asyncio.to_thread(wait_until, lambda: find_processes(MARKER))
    os.kill(parent_of(script[0]), signal.SIGKILL)
    result = await asyncio.wait_for(run.result, DEADLINE)
    assert result.ending == "lost"
    await asyncio.to_thread(wait_until, lambda: not find_processes(MARKER))
    assert (await outcome(runner, ["echo", "again"])).output == "again\n"


def test_server_ends_in_order_if_the_gateway_has_not_read_all() -> None:
    """The connection ends differently then."""
    gateway, control = socket.socketpair()
    with control:
        control.sendall(b"the end of a script")
        gateway.close()
        LaunchServer(control).serve()


def test_server_ends_with_a_gateway_that_was_killed() -> None:
    """No other program would end it."""
    program = (
        "import asyncio\n"
        "from enterprise_gateway.services.processproxies.scripts.runner import ScriptRunner\n"
        "async def main():\n"
        "    runner = ScriptRunner()\n"
        "    print((await (await runner.run(['echo', 'up'], {}, '/')).result).output, flush=True)\n"
        "    await asyncio.sleep(100)\n"
        "asyncio.run(main())\n"
    )
    marker = {"GATEWAY_TEST": f"run-{os.getpid()}-{time.monotonic_ns()}"}
    name, value = next(iter(marker.items()))
    with subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, **marker}, stdout=subprocess.PIPE
    ) as gateway:
        assert gateway.stdout is not None
        assert gateway.stdout.readline() == b"up\n"
        assert len(find_processes(f"{name}={value}")) == 2
        gateway.kill()
    wait_until(lambda: not find_processes(f"{name}={value}"), what="end of the launch server")
