"""`jupyter enterprisegateway kernels`: lists and stops kernels, whether a gateway runs or not.

Kernels outlive gateways, so this asks the engine and the agents itself. It must run as the
gateway's user, with its configuration: it needs the same runtime folder and cluster secret.
"""

import asyncio
import json
import logging
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

from traitlets import Bool, default

from enterprise_gateway.app.application import EnterpriseGatewayApp
from enterprise_gateway.errors import GatewayError, InvalidRequestError, UnavailableError
from enterprise_gateway.services.processproxies.contract import Workload
from enterprise_gateway.settings import LiveSettings
from enterprise_gateway.web.services import Services

CONCURRENT_STOPS = 16
COLUMNS = ("KERNEL ID", "KERNELSPEC", "STATE", "USER", "CONNECTIONS", "LAST ACTIVITY", "WORKLOAD")


@dataclass(frozen=True, slots=True)
class Line:
    """One kernel in the list."""

    id: str
    name: str
    execution_state: str
    username: str
    connections: int
    last_activity: str
    workload: str
    reason: str = ""

    def cells(self) -> tuple[str, ...]:
        """Return what the columns of the table show."""
        state = f"{self.execution_state} ({self.reason})" if self.reason else self.execution_state
        return (
            self.id,
            self.name or "?",
            state,
            self.username,
            str(self.connections),
            self.last_activity,
            self.workload,
        )


def format_table(rows: Iterable[Sequence[str]]) -> str:
    """Lay out rows in columns as wide as they must be."""
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


class KernelsCommand(EnterpriseGatewayApp):
    """A command about kernels; prints what it is for, and logs only what goes wrong."""

    @default("log_level")
    def _quiet(self) -> int:
        return logging.WARNING


class KernelListApp(KernelsCommand):
    """Lists the kernels of this machine's gateways."""

    name = "jupyter-enterprisegateway-kernels-list"
    description = __doc__ or ""
    examples = "jupyter enterprisegateway kernels list --json"
    flags = {  # noqa: RUF012 - traitlets' own way to declare them
        **EnterpriseGatewayApp.flags,
        "json": ({"KernelListApp": {"as_json": True}}, "Print JSON instead of a table."),
    }

    as_json = Bool(default_value=False, help="Print JSON instead of a table.").tag(config=True)

    async def run(self) -> None:
        """Print the kernels."""
        services = Services(LiveSettings(self.read_settings()))
        async with services.running():
            lines = await list_kernels(services)
        if self.as_json:
            print_out(json.dumps([asdict(line) for line in lines], indent=2))
        elif lines:
            print_out(format_table([COLUMNS, *(line.cells() for line in lines)]))
        else:
            print_out("No kernels.")


class KernelStopApp(KernelsCommand):
    """Stops kernels, by their ids or all of them."""

    name = "jupyter-enterprisegateway-kernels-stop"
    description = __doc__ or ""
    examples = "jupyter enterprisegateway kernels stop --all"
    flags = {  # noqa: RUF012 - likewise
        **EnterpriseGatewayApp.flags,
        "all": ({"KernelStopApp": {"every": True}}, "Stop every kernel."),
    }

    every = Bool(default_value=False, help="Stop every kernel.").tag(config=True)

    async def run(self) -> None:
        """Stop the kernels named; the exit code is 1 if one could not be stopped."""
        wanted: list[str] = list(self.extra_args)
        if bool(wanted) == self.every:
            raise InvalidRequestError("Say which kernels to stop: their ids, or --all.")
        services = Services(LiveSettings(self.read_settings()))
        async with services.running():
            if self.every:
                wanted = [line.id for line in await list_kernels(services)]
            limit = asyncio.Semaphore(CONCURRENT_STOPS)
            stopped = await asyncio.gather(*(self._stop(services, each, limit) for each in wanted))
        if not all(stopped):
            sys.exit(1)

    async def _stop(self, services: Services, kernel_id: str, limit: asyncio.Semaphore) -> bool:
        async with limit:
            try:
                await services.kernels.shutdown(kernel_id)
            except GatewayError as exc:
                self.log.error("%s", exc)  # noqa: TRY400 - the text says it all
                return False
        print_out(f"Stopped {kernel_id}")
        return True


class KernelsApp(KernelsCommand):
    """Lists and stops kernels, whether a gateway runs or not."""

    name = "jupyter-enterprisegateway-kernels"
    description = __doc__ or ""
    examples = "jupyter enterprisegateway kernels list"
    subcommands = {  # noqa: RUF012 - likewise
        "list": (KernelListApp, "List the kernels."),
        "stop": (KernelStopApp, "Stop kernels."),
    }

    async def run(self) -> None:
        """Refuse: a subcommand is needed."""
        raise InvalidRequestError("Say what to do with kernels: list or stop.")


async def list_kernels(services: Services) -> list[Line]:
    """Return all kernels, the oldest first.

    Raises:
        UnavailableError: An engine does not answer.
    """
    models = await services.kernels.models()
    workloads: dict[str, Workload] = {}
    for proxy in services.proxies.all():
        # an engine that must answer has done so by now, another may be absent
        with suppress(UnavailableError):
            workloads |= {workload.kernel_id: workload for workload in await proxy.list()}
    lines = []
    for model in models:
        workload = workloads.get(model.id)
        lines.append(
            Line(
                id=model.id,
                name=model.name,
                execution_state=model.execution_state,
                username=workload.username if workload else "",
                connections=model.connections,
                last_activity=model.last_activity,
                workload=workload.name if workload else "",
                reason=model.reason,
            )
        )
    return lines


def print_out(text: str) -> None:
    """Write a line to standard output."""
    sys.stdout.write(f"{text}\n")
