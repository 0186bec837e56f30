"""The launch server: a process with the Docker SDK imported, which forks for each launch script.

A fresh interpreter takes 260 to 450 ms to import the SDK; a forked process takes 30 ms in all. The
gateway must not fork itself (threads, sockets, secrets), so it starts this program once and talks
to it over a socket pair. When the gateway closes its end, the program ends after the scripts that
are running.

Messages in both directions are a length of four bytes (big endian) followed by JSON:

- in: `{"id": 1, "argv": […], "env": {…}, "cwd": "…"}` runs a script, `{"id": 1, "kill": true}`
  kills it;
- out: `{"id": 1, "status": wait status, "output": the end of the output}`, once for each script.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

KERNEL_ENV = "EG_KERNEL_ENV"
"""A script's variable with the variables that are only for the kernel, as a JSON object."""
SANDBOX = "EG_SANDBOX"
"""A script's variable with what the container may do and see, as a JSON object."""
PRELOADED = ("docker", "argparse", "urllib3.util.retry")
MAX_SCRIPT_BYTES = 1 << 20
"""How much of each file of a command is searched for the names of variables."""
MAX_OUTPUT_BYTES = 8192
LENGTH_BYTES = 4
_GRACE_SECONDS = 10.0
"""How long scripts may continue once the gateway is gone. A script that ends by itself leaves no
half-created container, and an agent that cannot report ends.
"""
_NOT_EXECUTABLE = 127
_PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class _Script:
    run_id: int
    pid: int
    pidfd: int
    output_fd: int
    output: bytes = b""

    def read_output(self) -> bool:
        """Read the available output without waiting; return whether more may come."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self.output_fd, 65536):
                self.output = (self.output + chunk)[-MAX_OUTPUT_BYTES:]
            return False
        return True


class LaunchServer:
    """Serves one gateway until its end of the socket pair closes."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._selector = selectors.DefaultSelector()
        self._scripts: dict[int, _Script] = {}
        self._received = b""
        self._deadline: float | None = None

    def serve(self) -> None:
        """Run until the gateway is gone and the last script has ended."""
        self._selector.register(self._control, selectors.EVENT_READ)
        while self._deadline is None or self._scripts:
            remaining = None if self._deadline is None else self._deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                for script in self._scripts.values():
                    _kill(script)
            for key, _ in self._selector.select(remaining):
                script = key.data
                if script is None:
                    self._receive()
                elif key.fd == script.pidfd:
                    self._finish(script)
                elif not script.read_output():
                    self._selector.unregister(script.output_fd)

    def _receive(self) -> None:
        try:
            data = self._control.recv(1 << 20)
        except ConnectionResetError:  # the gateway was killed before it had read all answers
            data = b""
        if not data:
            self._selector.unregister(self._control)
            self._deadline = time.monotonic() + _GRACE_SECONDS
        self._received += data
        while len(self._received) >= LENGTH_BYTES:
            end = LENGTH_BYTES + int.from_bytes(self._received[:LENGTH_BYTES], "big")
            if len(self._received) < end:
                break
            message = json.loads(self._received[LENGTH_BYTES:end])
            self._received = self._received[end:]
            if "kill" in message:
                script = self._scripts.get(message["id"])
                if script is not None:
                    _kill(script)
            else:
                self._start(message)

    def _start(self, message: dict[str, Any]) -> None:
        reading, writing = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become_script(message["argv"], message["env"], message["cwd"], writing, parent)
        os.close(writing)
        os.set_blocking(reading, False)
        script = _Script(message["id"], pid, os.pidfd_open(pid), reading)
        self._scripts[script.run_id] = script
        self._selector.register(script.output_fd, selectors.EVENT_READ, script)
        self._selector.register(script.pidfd, selectors.EVENT_READ, script)

    def _finish(self, script: _Script) -> None:
        script.read_output()
        _, status = os.waitpid(script.pid, 0)
        for descriptor in (script.pidfd, script.output_fd):
            with contextlib.suppress(KeyError):
                self._selector.unregister(descriptor)
            os.close(descriptor)
        del self._scripts[script.run_id]
        self._send(script.run_id, status, script.output.decode(errors="replace"))

    def _send(self, run_id: int, status: int, output: str) -> None:
        payload = json.dumps({"id": run_id, "status": status, "output": output}).encode()
        with contextlib.suppress(OSError):  # the gateway is gone
            self._control.sendall(len(payload).to_bytes(LENGTH_BYTES, "big") + payload)


def _become_script(
    argv: list[str], env: dict[str, str], cwd: str, output: int, parent: int
) -> NoReturn:
    """Turn this forked process into the command, in a session of its own."""
    code = _NOT_EXECUTABLE
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(code)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.chdir(cwd)
        _expect_known(_stated(env), argv, env)
        env = _script_environment(argv, env)
        if not _is_python_script(argv):
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.execvpe(argv[0], argv, env)  # noqa: S606 - the kernelspec's command, without a shell
        code = _run_python_script(argv, env)
    except OSError as exc:
        missing = exc.filename if exc.filename != argv[0] else None
        place = f": {missing!r}" if missing else ""
        print(f"{argv[0]}: {exc.strerror}{place}", file=sys.stderr)  # noqa: T201 - the script's own
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _script_environment(argv: list[str], env: dict[str, str]) -> dict[str, str]:
    """Return a script's environment, in which `KERNEL_ENV` holds the kernel's variables.

    A script that does not mention `KERNEL_ENV`, such as Enterprise Gateway's, gets them directly.
    """
    if KERNEL_ENV not in env or (
        _is_python_script(argv) and KERNEL_ENV.encode() in Path(argv[1]).read_bytes()
    ):
        return env
    others = {name: value for name, value in env.items() if name != KERNEL_ENV}
    return {**others, **json.loads(env[KERNEL_ENV])}


def _stated(env: dict[str, str]) -> dict[str, str]:
    """Return the variables that the script must know, and what would be ignored otherwise."""
    if not json.loads(env.get(SANDBOX, "{}")).get("is_stated"):
        return {}
    return {SANDBOX: "security, volumes or network of its kernelspec, or volumes of the request,"}


def _expect_known(names: dict[str, str], argv: list[str], env: dict[str, str]) -> None:
    """Exit with a message if no file of the command mentions a variable that it must know.

    Args:
        names: of the variables, with what a script that does not know them ignores.
        argv: the command; a script, or an interpreter or wrapper with one among its arguments.
        env: its environment, whose `PATH` is searched for the program.
    """
    if not names:
        return
    program = shutil.which(argv[0], path=env.get("PATH", os.defpath)) or argv[0]
    files = [path for path in (program, *argv[1:]) if os.path.isfile(path)]  # noqa: PTH113 - any text
    texts = [_beginning(path) for path in files]
    for name, ignored in names.items():
        if any(name.encode() in text for text in texts):
            continue
        print(  # noqa: T201 - the script's own output
            f"{' '.join(files) or argv[0]} does not apply {name}: {ignored} would be ignored. Take "
            "the launch_docker.py of this release (jupyter enterprisegateway kernelspecs install), "
            f"and make the site's changes to it again. (A wrapper must mention {name} or have the "
            "script's path among its arguments.)",
            file=sys.stderr,
        )
        os._exit(1)


def _beginning(path: str) -> bytes:
    """Return the first `MAX_SCRIPT_BYTES` of a file, b"" if it cannot be read."""
    with contextlib.suppress(OSError), Path(path).open("rb") as file:
        return file.read(MAX_SCRIPT_BYTES)
    return b""


def _is_python_script(argv: list[str]) -> bool:
    """Return whether this process can run the command without starting an interpreter."""
    return len(argv) > 1 and argv[0] == sys.executable and argv[1].endswith(".py")


def _run_python_script(argv: list[str], env: dict[str, str]) -> int:
    """Run a script as the interpreter would, and return its exit code.

    `PYTHONPATH` and similar variables have no effect: they are meant for the kernel's interpreter.
    """
    os.environ.clear()
    os.environ.update(env)
    sys.argv = argv[1:]
    sys.path.insert(0, str(Path(argv[1]).resolve().parent))
    try:
        runpy.run_path(argv[1], run_name="__main__")
    except SystemExit as exc:
        return _exit_code(exc)
    except BaseException:  # noqa: BLE001 - reported as the interpreter does
        traceback.print_exc()
        return 1
    return 0


def _exit_code(end: SystemExit) -> int:
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    print(end.code, file=sys.stderr)  # noqa: T201 - as the interpreter does
    return 1


def _kill(script: _Script) -> None:
    """Kill a script and its children. It may be too young to lead a process group."""
    for send in (os.kill, os.killpg):
        with contextlib.suppress(ProcessLookupError):
            send(script.pid, signal.SIGKILL)


def main() -> None:
    """Serve on the file descriptor that the command line names."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    for name in PRELOADED:
        with contextlib.suppress(ImportError):  # a script that needs it reports that more clearly
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    LaunchServer(control).serve()


if __name__ == "__main__":
    main()
