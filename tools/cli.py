"""The command line of `scripts/run`, `test`, `images`, `swarm`, `bench` and `docs`."""

import argparse
import signal
from collections.abc import Callable

from devtools.commands import (
    bench_command,
    images_command,
    keep_engine_command,
    run_command,
)
from devtools.console import SetupError, say
from devtools.engine import EngineChoice
from devtools.images import IMAGES
from devtools.suite import test_command
from docgen.commands import docs_command
from swarmlab.commands import swarm_command

Command = Callable[[argparse.Namespace, list[str]], int]
"""Takes the options and the arguments that are for another program; gives the exit status."""


def main() -> int:
    """Do what the command line says; the exit status."""
    # as Ctrl-C does, SIGTERM ends the programs that a command has started, too
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options, rest = parser().parse_known_args()
    act: Command = options.act
    try:
        return act(options, rest)
    except SetupError as exc:
        say(f"error: {exc}")
        return 1
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(prog="scripts", allow_abbrev=False)
    commands = result.add_subparsers(required=True)

    def add(name: str, act: Command, description: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, prog=f"scripts/{name}", description=description, allow_abbrev=False
        )
        command.set_defaults(act=act, engine=EngineChoice.ANY)
        return command

    def add_engine(command: argparse.ArgumentParser) -> None:
        choice = command.add_mutually_exclusive_group()
        for option, value, text in (
            ("--private-engine", EngineChoice.PRIVATE, "use a Docker engine of our own"),
            ("--no-engine", EngineChoice.NONE, "do without Docker"),
        ):
            choice.add_argument(option, dest="engine", action="store_const", const=value, help=text)

    add_engine(
        add(
            "run",
            run_command,
            "Serve kernels. Other arguments go to the gateway: see docs/settings.md.",
        )
    )
    add_engine(
        add(
            "bench",
            bench_command,
            "Measure. Other arguments go to the benchmarks: see docs/benchmarks.md.",
        )
    )
    images = add("images", images_command, "Build the images that are not up to date.")
    images.add_argument("name", nargs="*", help=", ".join(image.name for image in IMAGES))
    add_engine(images)
    swarm = add("swarm", swarm_command, "Have a Docker Swarm on this machine, for a try.")
    add_engine(swarm)
    swarm.add_argument("--nodes", type=int, default=3, metavar="N", help="how many (3)")
    test = add("test", test_command, "Check and test. Other arguments go to pytest.")
    add_engine(test)
    scope = test.add_mutually_exclusive_group()
    scope.add_argument("--fast", action="store_true", help="static checks and unit tests only")
    scope.add_argument("--all", action="store_true", help="everything (the default)")
    add("docs", docs_command, "Write the generated parts of docs/ anew.")
    keeper = add(
        "keep-engine", keep_engine_command, "Run a private engine; the other commands start it."
    )
    for place in ("data", "run", "bridge"):
        keeper.add_argument(place)
    return result
