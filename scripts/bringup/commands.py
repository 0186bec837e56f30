"""The commands behind scripts/run, test, images and bench."""

import argparse
import os

from bringup import checks
from bringup.console import SetupError, say


def main() -> int:
    """Do what the command line says; the exit status."""
    parser = argparse.ArgumentParser(prog="scripts", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    test = commands.add_parser("test", prog="scripts/test", help="all checks and tests")
    scope = test.add_mutually_exclusive_group()
    scope.add_argument("--fast", action="store_true", help="static checks and unit tests only")
    scope.add_argument("--all", action="store_true", help="everything (the default)")
    options, rest = parser.parse_known_args()
    try:
        return test_command(options, rest)
    except SetupError as exc:
        say(f"error: {exc}")
        return 1
    except KeyboardInterrupt:
        return 130


def test_command(options: argparse.Namespace, rest: list[str]) -> int:
    """Run checks and tests."""
    clean = checks.run_checks()
    passed = checks.run_tests(rest, checks.FAST if options.fast else checks.ALL, dict(os.environ))
    return 0 if clean and passed else 1
