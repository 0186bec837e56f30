"""`python -m benchmarks`: measure, print the table, write it to files."""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.figures import (
    away,
    boot,
    burst,
    cold_start,
    first_cell,
    many,
    pool_memory,
    relay,
    restart,
    round_trip,
    scale,
    sessions,
    swarm,
    warm_start,
)
from benchmarks.kernelspecs import write_kernelspecs
from benchmarks.machine import Machine, describe_machine
from benchmarks.report import Figure, to_json, to_markdown
from benchmarks.servers import Column

MEASUREMENTS: dict[str, Callable[[Bench], list[Figure]]] = {
    "boot": boot.measure,
    "cold-start": cold_start.measure,
    "warm-start": warm_start.measure,
    "first-cell": first_cell.measure,
    "pool-memory": pool_memory.measure,
    "restart": restart.measure,
    "round-trip": round_trip.measure,
    "relay": relay.measure,
    "sessions": sessions.measure,
    "away": away.measure,
    "many": many.measure,
    "burst": burst.measure,
    "swarm": swarm.measure,
    "scale": scale.measure,
}
COLUMNS = {column.name.lower().replace("_", "-"): column for column in Column}


def main() -> int:
    """Return 0 unless the gateway's own column could not be measured."""
    options = _parse()
    # As an exception, so that everything that was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="eg-bench-") as name:
        folder = Path(name)
        bench = Bench(
            folder,
            write_kernelspecs(folder / "prefix"),
            options.quick,
            frozenset(COLUMNS[column] for column in options.columns),
        )
        figures = []
        for only in options.only:
            started = time.monotonic()
            figures += MEASUREMENTS[only](bench)
            print(f"{only}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    failures = "".join(f"\n- {failure}" for failure in bench.failures)
    table = f"{_describe(machine)}\n\n{to_markdown(figures)}{failures}"
    print(table)
    if options.markdown:
        options.markdown.write_text(table, encoding="utf-8")
    if options.json:
        record = {"machine": asdict(machine), "figures": to_json(figures)}
        options.json.write_text(json.dumps(record, indent=1), encoding="utf-8")
    return int(any(Column.GATEWAY in figure.remarks for figure in figures))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS), help="measure these"
    )
    parser.add_argument(
        "--columns", nargs="+", choices=COLUMNS, default=list(COLUMNS), help="of these columns"
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds: shows that it works, not how fast"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there too")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write every measured value there"
    )
    return parser.parse_args()


def _describe(machine: Machine) -> str:
    return (
        f"{machine.processor}, {machine.cores} cores, {machine.memory_gib} GiB; "
        f"Linux {machine.kernel}, Python {machine.python}, ipykernel {machine.ipykernel}, "
        f"pyzmq {machine.pyzmq}, Docker {machine.docker}; load before the run {machine.load}.\n"
        "Medians [min..max]; in brackets after them multiples of this gateway's value."
    )


if __name__ == "__main__":
    sys.exit(main())
