"""Requests for kernels that cannot start, for one reason each, and the errors that they cause."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import pytest

from enterprise_gateway.errors import LaunchError, LaunchTimeoutError
from enterprise_gateway.services.processproxies.contract import (
    BaseProcessProxyABC,
    LaunchRequest,
)
from enterprise_gateway.services.processproxies.resources import KernelResources
from enterprise_gateway.settings.values.amounts import Amounts
from harness.proxies.engine_rigs import EngineRig

NO_SUCH_IMAGE = "localhost:1/no/such-image:1"
MEMORY_HOG = """['sh', '-c', 'exec python3 -c "x = bytearray(200000000)"']"""
"""A command that needs more than 24 MiB, as an expression of a launch script."""


def with_env(rig: EngineRig, **env: str) -> LaunchRequest:
    """Return a request with more variables in its environment."""
    request = rig.request()
    return dataclasses.replace(request, env={**request.env, **env})


def missing_image(rig: EngineRig) -> LaunchRequest:
    """Name an image of a registry that does not exist."""
    return with_env(rig, KERNEL_IMAGE=NO_SUCH_IMAGE)


def unknown_language(rig: EngineRig) -> LaunchRequest:
    """Ask for a language that the image's entry point refuses."""
    return with_env(rig, KERNEL_LANGUAGE="cobol")


def early_exit(rig: EngineRig) -> LaunchRequest:
    """Run a command that prints and exits."""
    return rig.edited_request("command", "['sh', '-c', 'echo one; echo two >&2; exit 9']")


def command_not_found(rig: EngineRig) -> LaunchRequest:
    """Run a command that the image does not have."""
    return rig.edited_request("command", "['/no/such/command']")


def broken_script(rig: EngineRig) -> LaunchRequest:
    """Edit the launch script so that it raises."""
    return rig.edited_request("x", "undefined_name")


def gpus_where_there_are_none(rig: EngineRig) -> LaunchRequest:
    """Ask for GPUs on machines without."""
    return rig.request(resources=KernelResources(Amounts(gpus=2)))


COMMON_FAILURES: tuple[tuple[Callable[[EngineRig], LaunchRequest], str], ...] = (
    (unknown_language, r"exit code 1\.\nUnrecognized value for KERNEL_LANGUAGE: 'cobol'!"),
    (early_exit, r"exit code 9\.\n(one\ntwo|two\none)"),
    (command_not_found, r"/no/such/command"),
    (broken_script, r"NameError: name 'undefined_name'"),
)
"""Requests with a pattern of their error, which is the same for containers and services."""


def launch_failures(*own: tuple[Callable[[Any], LaunchRequest], str]) -> pytest.MarkDecorator:
    """Parametrise `make_request` and `words` with the common failures and an engine's own."""
    return pytest.mark.parametrize(
        ("make_request", "words"),
        [*COMMON_FAILURES, *own],
        ids=lambda value: getattr(value, "__name__", None),
    )


async def check_failure(
    rig: EngineRig, proxy: BaseProcessProxyABC, request: LaunchRequest, words: str
) -> None:
    """Launch a kernel that must fail with an error that names it and matches `words`.

    Nothing may be left of the launch.
    """
    with pytest.raises(LaunchError) as failure:
        await proxy.launch(request)
    assert not isinstance(failure.value, LaunchTimeoutError)
    assert request.kernel_id in str(failure.value)
    assert re.search(words, str(failure.value), re.DOTALL), str(failure.value)
    await rig.until_gone(request.kernel_id)
