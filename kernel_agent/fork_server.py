"""The command `python3 -m kernel_agent.fork_server FD`: forks an agent for each local kernel.

It has imported what agents need, so that they lose no time with it and share the memory. It has one
thread and opens nothing. What is meant for an agent it never reads: the new process does, from a
socket of its own. The gateway is at the other end of `FD`; when that is closed, the program ends
and its agents go on. docs/agent-interface.md, section 7, has the messages.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import select
import socket
import ssl
import sys
import time
from contextlib import suppress
from typing import Dict, NamedTuple, Optional, Tuple

from kernel_agent.__main__ import EXIT_USAGE
from kernel_agent.__main__ import main as run_agent
from kernel_agent.system.exposure import hide_secrets
from kernel_agent.system.proc_self import show_arguments, show_variables, start_time

PRELOADED = ("concurrent.futures.thread", "encodings.idna", "kernel_agent.agent", "shutil")
"""What an agent imports after its first module."""
STDOUT, STDERR = 1, 2
NUMBER_BYTES = 8
SHOWN = ("KERNEL_ID", "KERNEL_USERNAME")
"""The variables that /proc shows, so that one agent can be told from another."""


class Launch(NamedTuple):
    """What the gateway sends for one agent.

    Attributes:
        number: the gateway's name for it.
        gateway: where the agent gets the rest from.
        log: a file descriptor, to become its stdout and stderr.
    """

    number: int
    gateway: socket.socket
    log: int

    def close(self) -> None:
        """Close the descriptors."""
        self.gateway.close()
        os.close(self.log)


class ForkServer:
    """Serves one gateway until its end of the socket pair closes."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._agents: Dict[int, Tuple[int, int]] = {}
        """The number and the pid of each, by its pidfd."""
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)

    def serve(self) -> Optional[Launch]:
        """Fork agents; return in each of them its launch, and None when the gateway is gone."""
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor in self._agents:
                    self._tell_exit(descriptor)
                    continue
                try:
                    launch = self._receive()
                except EOFError:
                    return None
                if launch is None:
                    continue
                if self._fork(launch.number):
                    return launch
                launch.close()

    def _receive(self) -> Optional[Launch]:
        """Return the next launch; None if this process cannot have more descriptors.

        Raises:
            EOFError: the gateway is gone.
        """
        try:
            number, descriptors, _, _ = socket.recv_fds(
                self._control, NUMBER_BYTES, 2, socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError as exc:  # it was killed before it had read all exits
            raise EOFError from exc
        if not number:
            raise EOFError
        if len(descriptors) != 2:
            for descriptor in descriptors:
                os.close(descriptor)
            return None
        return Launch(
            int.from_bytes(number, "big"), socket.socket(fileno=descriptors[0]), descriptors[1]
        )

    def _fork(self, number: int) -> bool:
        """Return whether this is the new process. If there is none, the gateway sees EOF."""
        try:
            pid = os.fork()
        except OSError:
            return False
        if pid == 0:
            self._control.close()
            for descriptor in self._agents:
                os.close(descriptor)
            return True
        descriptor = os.pidfd_open(pid)
        self._agents[descriptor] = number, pid
        self._poll.register(descriptor, select.POLLIN)
        return False

    def _tell_exit(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        os.close(descriptor)
        number, pid = self._agents.pop(descriptor)
        _, status = os.waitpid(pid, 0)
        with suppress(OSError):  # the gateway is gone
            self._control.send(number.to_bytes(NUMBER_BYTES, "big") + status.to_bytes(4, "big"))


def become_agent(launch: Launch) -> int:
    """Run the agent in this new process; return its exit code.

    The gateway sends what to run when it has heard of this process. If it gives up or dies before
    that, this process ends: the gateway may have launched the kernel in another way.
    """
    os.setsid()
    os.dup2(launch.log, STDOUT)
    os.dup2(launch.log, STDERR)
    os.close(launch.log)
    with launch.gateway as gateway:
        try:
            gateway.send(os.getpid().to_bytes(8, "big") + start_time().to_bytes(8, "big"))
            _, descriptors, _, _ = socket.recv_fds(gateway, 1, 1, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            descriptors = []
    if not descriptors:
        return 0
    with open(descriptors[0], "rb") as file:
        command = json.load(file)
    environ: Dict[str, str] = command["env"]
    try:
        os.environ.clear()
        os.environ.update(environ)
        time.tzset()
        os.chdir(command["cwd"])
    except (OSError, ValueError) as exc:
        sys.stderr.write(f"kernel_agent: {exc}\n")
        return EXIT_USAGE
    show_arguments(["kernel_agent", environ.get("KERNEL_ID", "")])
    show_variables(f"{name}={environ[name]}" for name in SHOWN if name in environ)
    sys.argv = ["kernel_agent", *command["argv"]]
    return run_agent()


def _rehearse() -> None:
    """Do what each agent does at first, so that they share what this leaves in memory.

    OpenSSL, for example, finds its algorithms when the first connection is made.
    """
    asyncio.run(asyncio.sleep(0))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO()).do_handshake()


def main() -> int:
    """Serve on the descriptor that the command line names; return the exit code."""
    hide_secrets()
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    for name in PRELOADED:
        importlib.import_module(name)
    _rehearse()
    gc.collect()
    gc.freeze()
    launch = ForkServer(control).serve()
    return become_agent(launch) if launch is not None else 0


if __name__ == "__main__":
    sys.exit(main())
