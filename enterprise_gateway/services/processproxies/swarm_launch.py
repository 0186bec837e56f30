"""One service on its way up: what its task waits for, and why it ended too early."""

import contextlib
from collections.abc import Collection

from enterprise_gateway.errors import GatewayError
from enterprise_gateway.services.processproxies.couples import COMPANION_ENDED
from enterprise_gateway.services.processproxies.docker_services import DockerServices
from enterprise_gateway.services.processproxies.engine_launch import (
    OUTPUT_TAIL_BYTES,
    OUTPUT_TAIL_LINES,
    LaunchProgress,
    explain_companions_death,
)
from enterprise_gateway.services.processproxies.engine_watch import Sighting
from enterprise_gateway.services.processproxies.swarm_workloads import REJECTED

_NO_SHELL = 'exec: "/bin/sh"'
"""Part of what a node says if a service's entry point, the lent agent's, is not in the image."""


class ServiceLaunch(LaunchProgress):
    """The observer of the launch of one kernel as a service."""

    def __init__(self, services: DockerServices, predecessors: Collection[str]) -> None:
        super().__init__(predecessors)
        self._services = services

    async def explain_death(self, sighting: Sighting) -> str:
        """See the base class."""
        reason = sighting.workload.exit_reason
        if _NO_SHELL in reason:
            return (
                f"its image has no /bin/sh, which starts the kernel agent: {reason}. Build an "
                "image with a shell, python3 and pyzmq."
            )
        if reason.startswith(REJECTED):
            return (
                f"its task was {reason}. If it is the image that is missing: push it to a registry "
                "that every node reaches, load it on every node, or correct its name (image_name "
                "in kernel.json, KERNEL_IMAGE)."
            )
        is_companions = reason.startswith(COMPANION_ENDED)
        ended = sighting.companion_id if is_companions else sighting.engine_id
        output = ""
        with contextlib.suppress(GatewayError):  # a courtesy; the death is told anyway
            output = await self._services.log_tail(ended, OUTPUT_TAIL_LINES)
        if is_companions:
            return explain_companions_death(reason, output)
        advice = ""
        if "memory limit" in reason:
            advice = " Raise it in service_settings of the kernelspec's launch script."
        tail = output.encode()[-OUTPUT_TAIL_BYTES:].decode(errors="replace").strip()
        return f"its container ended before the kernel was ready: {reason}.{advice}\n{tail}"

    def describe_start(self, sighting: Sighting) -> str:
        """See the base class."""
        return sighting.detail
