"""Requests for kernels that cannot start, for one reason each."""

import dataclasses

from enterprise_gateway.services.processproxies.contract import LaunchRequest
from harness.engine_rigs import EngineRig

NO_SUCH_IMAGE = "localhost:1/no/such-image:1"
MEMORY_HOG = """['sh', '-c', 'exec python3 -c "x = bytearray(200000000)"']"""
"""A command that needs more than 24 MiB, as an expression of a launch script."""


def with_env(rig: EngineRig, **env: str) -> LaunchRequest:
    """Return a request with more in its environment."""
    request = rig.request()
    return dataclasses.replace(request, env={**request.env, **env})


def missing_image(rig: EngineRig) -> LaunchRequest:
    """Name an image of a registry that is not there."""
    return with_env(rig, KERNEL_IMAGE=NO_SUCH_IMAGE)


def unknown_language(rig: EngineRig) -> LaunchRequest:
    """Have the entry point of the image refuse."""
    return with_env(rig, KERNEL_LANGUAGE="cobol")


def early_exit(rig: EngineRig) -> LaunchRequest:
    """Have the container print and end."""
    return rig.edited_request("command", "['sh', '-c', 'echo one; echo two >&2; exit 9']")


def command_not_found(rig: EngineRig) -> LaunchRequest:
    """Have the container start what its image does not have."""
    return rig.edited_request("command", "['/no/such/command']")


def broken_script(rig: EngineRig) -> LaunchRequest:
    """Edit the launch script badly."""
    return rig.edited_request("x", "undefined_name")
