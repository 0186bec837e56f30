"""The commands behind scripts/run, test, images and bench."""

import argparse
import os

from bringup import checks
from bringup.console import SetupError, say
from bringup.engine import EngineChoice, engine
from bringup.guardian import guard
from bringup.kernel_image import KERNEL_IMAGE, ensure_kernel_image
from bringup.private_engine import places


def main() -> int:
    """Do what the command line says; the exit status."""
    options, rest = parser().parse_known_args()
    try:
        status: int = options.act(options, rest)
    except SetupError as exc:
        say(f"error: {exc}")
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(prog="scripts")
    commands = result.add_subparsers(required=True)

    which = argparse.ArgumentParser(add_help=False)
    choice = which.add_mutually_exclusive_group()
    choice.add_argument(
        "--private-engine",
        dest="engine",
        action="store_const",
        const=EngineChoice.PRIVATE,
        help="start a Docker engine of our own even if the machine has one",
    )
    choice.add_argument(
        "--no-engine",
        dest="engine",
        action="store_const",
        const=EngineChoice.NONE,
        help="do without Docker",
    )
    which.set_defaults(engine=EngineChoice.ANY)

    test = commands.add_parser("test", prog="scripts/test", parents=[which])
    scope = test.add_mutually_exclusive_group()
    scope.add_argument("--fast", action="store_true", help="static checks and unit tests only")
    scope.add_argument("--all", action="store_true", help="everything (the default)")
    test.set_defaults(act=test_command)

    images = commands.add_parser("images", prog="scripts/images", parents=[which])
    images.set_defaults(act=images_command)

    guardian = commands.add_parser("guard-engine", description="started by the others")
    guardian.set_defaults(act=guard_command)
    return result


def test_command(options: argparse.Namespace, rest: list[str]) -> int:
    """Run checks and tests."""
    clean = checks.run_checks()
    if options.fast:
        passed = checks.run_tests(rest, checks.FAST, dict(os.environ))
    else:
        with engine(options.engine) as host:
            passed = checks.run_tests(rest, checks.ALL, environment(host))
    return 0 if clean and passed else 1


def images_command(options: argparse.Namespace, rest: list[str]) -> int:
    """Build the kernel image."""
    if rest:
        raise SetupError(f"unknown arguments: {' '.join(rest)}")
    with engine(options.engine) as host:
        if host is None:
            return 1
        ensure_kernel_image(host)
        say(f"{KERNEL_IMAGE} is there")
    return 0


def guard_command(_options: argparse.Namespace, _rest: list[str]) -> int:
    """Be the guardian of the private engine."""
    guard(places())
    return 0


def environment(host: str | None) -> dict[str, str]:
    """Return this process' environment with the engine in it."""
    return {**os.environ, "DOCKER_HOST": host} if host else dict(os.environ)
