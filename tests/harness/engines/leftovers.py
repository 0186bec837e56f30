"""Find and remove what a test's kernels left on the machine, and nothing of other runs.

Every test gateway starts its kernels under a user name of its own. The name is in each kernel
process's environment and at the head of each container's name, so it tells this run's kernels from
all others, whatever state the gateway was left in.
"""

import os
import signal
from contextlib import suppress
from pathlib import Path

import docker
from docker.errors import APIError, NotFound
from docker.models.containers import Container

from harness.waiting import wait_until


def find_containers(username: str) -> list[Container]:
    """Return the user's containers, in any state."""
    found = list_containers("app=enterprise-gateway")
    return [each for each in found if str(each.name).startswith(f"{username}-")]


def find_kernel_containers(kernel_id: str) -> list[Container]:
    """Return the kernel's containers, in any state: one, or none."""
    return list_containers(f"kernel_id={kernel_id}")


def list_containers(label: str) -> list[Container]:
    """Return all containers with a label (`NAME=VALUE`), in any state."""
    client = docker.from_env()
    try:
        return list(client.containers.list(all=True, filters={"label": label}, ignore_removed=True))
    finally:
        client.close()


def find_processes(marker: str) -> list[int]:
    """Return the ids of processes with `marker` (`NAME=value`) in their environment."""
    wanted = marker.encode()
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # ended meanwhile
            continue
        if wanted in environment:
            found.append(int(folder.name))
    return found


def find_session_members(session: int) -> list[int]:
    """Return the ids of the processes in the session that process `session` leads or led."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            status = (folder / "stat").read_text()
        except OSError:  # ended meanwhile
            continue
        # proc(5): "pid (comm) state ppid pgrp session …", where comm may hold spaces
        state, _, _, member_of = status.rpartition(")")[2].split()[:4]
        if int(member_of) == session and state != "Z":
            found.append(int(folder.name))
    return found


def kill_workload(kernel_id: str) -> None:
    """Kill a kernel together with its agent."""
    containers = find_kernel_containers(kernel_id)
    for container in containers:
        container.kill()
    for process_id in [] if containers else find_processes(f"KERNEL_ID={kernel_id}"):
        with suppress(ProcessLookupError):
            os.kill(process_id, signal.SIGKILL)


def stop_container(kernel_id: str) -> None:
    """`docker stop`."""
    (container,) = find_kernel_containers(kernel_id)
    container.stop()


def kill_local_agent(kernel_id: str) -> None:
    """Kill the agent of a local kernel, and not its kernel, whose parent it is."""
    os.kill(min(find_processes(f"KERNEL_ID={kernel_id}")), signal.SIGKILL)


def kill_local_kernels(username: str) -> None:
    """Kill the user's local kernels, with their agents."""
    for process_id in find_processes(f"KERNEL_USERNAME={username}"):
        try:
            os.kill(process_id, signal.SIGKILL)
        except ProcessLookupError:
            continue


def remove_kernels(username: str) -> None:
    """Kill the user's local kernels and remove the user's containers.

    The former come first: without an engine the latter fails.
    """
    kill_local_kernels(username)
    for container in find_containers(username):
        try:
            container.remove(force=True, v=True)
        except NotFound:
            continue
        except APIError as error:
            if error.status_code != 409:  # 409: its removal is under way
                raise
    wait_until(lambda: not find_containers(username), what="removal of the test's containers")
