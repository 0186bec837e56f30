"""`jupyter enterprisegateway kernels`: lists and stops kernels, whether a gateway runs or not.

Kernels outlive gateways, so the command asks the engine and the agents itself. It must run as the
gateway's user and with its configuration: it needs the same runtime folder and cluster secret.
"""

import asyncio
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from traitlets import Bool

from enterprise_gateway.app.commands.command import Command, print_line
from enterprise_gateway.app.commands.list_command import ListCommand
from enterprise_gateway.errors import GatewayError, InvalidRequestError, UnavailableError
from enterprise_gateway.services.composition import GatewayServices
from enterprise_gateway.services.kernels.agents.state import format_time
from enterprise_gateway.services.processproxies.contract import Workload
from enterprise_gateway.services.processproxies.workloads.names import unescape_username
from enterprise_gateway.services.users import SHARED
from enterprise_gateway.settings import LiveSettings

_CONCURRENT_STOPS = 16
COLUMNS = (
    "KERNEL ID",
    "KERNELSPEC",
    "STATE",
    "USER",
    "CONNECTIONS",
    "STARTED",
    "LAST ACTIVITY",
    "NODE",
    "IMAGE",
    "REASON",
)
_AGE_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


@dataclass(frozen=True, slots=True)
class KernelRow:
    """One kernel in the list. Unknown values are ""; times are in ISO 8601."""

    id: str
    name: str
    execution_state: str
    username: str
    connections: int
    created: str
    last_activity: str
    workload: str
    image: str
    node: str
    reason: str

    def cells(self, now: datetime) -> tuple[str, ...]:
        """Return the cells of the kernel's row in the table."""
        return (
            self.id,
            self.name,
            self.execution_state,
            self.username,
            str(self.connections),
            format_age(self.created, now),
            format_age(self.last_activity, now),
            self.node,
            self.image,
            self.reason,
        )


def format_age(moment: str, now: datetime) -> str:
    """Return how long ago a time was, such as "3 min ago"; "" if the text is not a time."""
    try:
        seconds = max(0, int((now - datetime.fromisoformat(moment)).total_seconds()))
    except (ValueError, TypeError):
        return ""
    for size_seconds, unit in _AGE_UNITS:
        if seconds >= size_seconds:
            return f"{seconds // size_seconds} {unit} ago"
    return f"{seconds} s ago"


class KernelListApp(ListCommand):
    """Lists the kernels of this machine's gateways."""

    name = "jupyter enterprisegateway kernels list"
    description = __doc__ or ""
    examples = "jupyter enterprisegateway kernels list --json"

    async def run(self) -> None:
        """Print the list."""
        services = GatewayServices(LiveSettings(self.read_settings()))
        async with services.running():
            rows = await list_kernels(services)
        now = datetime.now(UTC)
        table = [COLUMNS, *(row.cells(now) for row in rows)]
        self.print_list([asdict(row) for row in rows], table, "No kernels.")


class KernelStopApp(Command):
    """Stops kernels, by their ids or all of them."""

    name = "jupyter enterprisegateway kernels stop"
    description = __doc__ or ""
    examples = "jupyter enterprisegateway kernels stop --all"
    flags = {  # noqa: RUF012 - traitlets' own way to declare them
        **Command.flags,
        "all": ({"KernelStopApp": {"stop_all": True}}, "Stop every kernel."),
    }

    takes_arguments = True
    stop_all = Bool(default_value=False, help="Stop every kernel.").tag(config=True)

    async def run(self) -> None:
        """Stop the kernels named, or all; exit with code 1 if one cannot be stopped."""
        wanted: list[str] = list(self.extra_args)
        if bool(wanted) == self.stop_all:
            raise InvalidRequestError("Name the kernels to stop: their ids, or --all.")
        services = GatewayServices(LiveSettings(self.read_settings()))
        async with services.running():
            if self.stop_all:
                wanted = [row.id for row in await list_kernels(services)]
            limit = asyncio.Semaphore(_CONCURRENT_STOPS)
            stopped = await asyncio.gather(*(self._stop(services, each, limit) for each in wanted))
        if not all(stopped):
            sys.exit(1)

    async def _stop(
        self, services: GatewayServices, kernel_id: str, limit: asyncio.Semaphore
    ) -> bool:
        async with limit:
            try:
                await services.kernels.shutdown(kernel_id, is_operator=True)
            except GatewayError as exc:
                self.log.error("%s", exc)  # noqa: TRY400 - a traceback would add nothing
                return False
        print_line(f"Stopped {kernel_id}")
        return True


class KernelsApp(Command):
    """Lists and stops kernels, whether a gateway runs or not."""

    name = "jupyter enterprisegateway kernels"
    description = __doc__ or ""
    examples = "jupyter enterprisegateway kernels list"
    subcommands = {  # noqa: RUF012 - likewise
        "list": (KernelListApp, "List the kernels."),
        "stop": (KernelStopApp, "Stop kernels."),
    }

    async def run(self) -> None:
        """Refuse to run without a subcommand."""
        raise InvalidRequestError("Name a subcommand: list or stop.")


async def list_kernels(services: GatewayServices) -> list[KernelRow]:
    """Return all kernels, the oldest first.

    Raises:
        UnavailableError: an engine does not answer.
    """
    models = await services.kernels.models(SHARED, listed=False)
    workloads: dict[str, Workload] = {}
    for proxy in services.proxies.all():
        # an engine that must answer has answered above; another one may be absent
        with suppress(UnavailableError):
            workloads |= {workload.kernel_id: workload for workload in await proxy.list()}
    rows = []
    for model in models:
        workload = workloads.get(model.id)
        rows.append(
            KernelRow(
                id=model.id,
                name=model.name,
                execution_state=model.execution_state,
                username=unescape_username(workload.username) if workload else "",
                connections=model.connections,
                created=format_time(workload.created) if workload else "",
                last_activity=model.last_activity,
                workload=workload.name if workload else "",
                image=workload.image if workload else "",
                node=workload.node if workload else "",
                reason=model.reason,
            )
        )
    return rows
