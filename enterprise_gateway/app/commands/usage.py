"""`jupyter enterprisegateway usage`: sums what users have used, from files of events.

The files are those of `event_log` of all gateways, or their JSON logs, in any order. A workload
counts when it has ended; those that run now are shown by `kernels list`.
"""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from traitlets import Unicode

from enterprise_gateway.app.commands.list_command import ListCommand
from enterprise_gateway.errors import ConfigurationError, InvalidRequestError
from enterprise_gateway.services.events.accounts import Account, Accounts
from enterprise_gateway.services.processproxies.workloads.names import unescape_username

COLUMNS = ("USER", "WORKLOADS", "KERNEL HOURS", "CPU HOURS", "GPU HOURS", "PEAK MEMORY (MiB)")
MAX_LINE_BYTES = 65536
_MEBIBYTE = 1024 * 1024
_LATER_THAN_ALL = "~"


class UsageApp(ListCommand):
    """Sums what users have used."""

    name = "jupyter enterprisegateway usage"
    description = __doc__ or ""
    examples = """jupyter enterprisegateway usage events.jsonl events.jsonl.1
jupyter enterprisegateway usage --since=2026-11 --until=2026-12 --json events*.jsonl"""
    takes_arguments = True
    aliases = {  # noqa: RUF012 - traitlets' own way to declare them
        **ListCommand.aliases,
        "since": "UsageApp.since",
        "until": "UsageApp.until",
    }

    since = Unicode(
        "", help="Count workloads that ended then or later: a time such as 2026-11-30, or its part."
    ).tag(config=True)
    until = Unicode("", help="Count workloads that ended before that.").tag(config=True)

    async def run(self) -> None:
        """Print a line for each user."""
        if not self.extra_args:
            raise InvalidRequestError("Name the files of events, those of all gateways.")
        accounts = Accounts()
        for path in self.extra_args:
            for line in _lines(Path(path)):
                accounts.add_line(line)
        if accounts.faulty:
            sys.stderr.write(f"{accounts.faulty} lines are no events and do not count.\n")
        users = accounts.by_owner(self.since, self.until or _LATER_THAN_ALL)
        self.print_list(
            [{**asdict(user), "user": unescape_username(user.owner)} for user in users],
            [COLUMNS, *(_cells(user) for user in users)],
            "No workload has ended.",
        )


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file; of longer ones their parts, which are no events."""
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES):
                yield line
    except OSError as exc:
        raise ConfigurationError(f"Cannot read the events in {path}: {exc}.") from exc


def _cells(user: Account) -> tuple[str, ...]:
    return (
        unescape_username(user.owner),
        str(user.workloads),
        f"{user.kernel_hours:.2f}",
        f"{user.cpu_hours:.2f}",
        f"{user.gpu_hours:.2f}",
        str(round(user.memory_peak_bytes / _MEBIBYTE)),
    )
