"""The commands behind scripts/run, test, images, swarm and bench."""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bringup import checks
from bringup.console import SetupError, say
from bringup.engine import EngineChoice, engine
from bringup.gateway import install_kernelspecs, serve
from bringup.guardian import guard
from bringup.host import ROOT, VENV
from bringup.images import (
    IMAGES,
    KERNEL,
    PROXY,
    SWARM_IMAGES,
    USUAL_IMAGES,
    ensure_images,
    find_images,
)
from bringup.private_engine import Places, places
from bringup.swarm_lab import swarm_lab

Command = Callable[[argparse.Namespace, list[str]], int]
"""Takes the options and the arguments that are for another program; gives the exit status."""


def main() -> int:
    """Do what the command line says; the exit status."""
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
    guardian = add("guard-engine", guard_command, "Run a private engine; started by the others.")
    for place in ("data", "run", "bridge"):
        guardian.add_argument(place)
    return result


def run_command(options: argparse.Namespace, rest: list[str]) -> int:
    """Serve kernels: in containers, or as local processes where there is no engine."""
    with engine(options.engine) as host:
        if host:
            ensure_images(host, [KERNEL])
            install_kernelspecs()
        status = serve(rest, environment(host))
        if host == places().host:
            say("Stopping the private Docker engine, and its containers with it …")
        return status


def test_command(options: argparse.Namespace, rest: list[str]) -> int:
    """Run checks and tests."""
    checks.install_tools(browser=not options.fast)
    clean = checks.run_checks(environment(None))
    if options.fast:
        passed = checks.run_tests(rest, environment(None), fast=True)
    else:
        with engine(options.engine) as host:
            if host:
                ensure_images(host, USUAL_IMAGES)
            passed = checks.run_tests(rest, environment(host), fast=False)
    return 0 if clean and passed else 1


def bench_command(options: argparse.Namespace, rest: list[str]) -> int:
    """Run the benchmarks."""
    with engine(options.engine) as host:
        if host:
            ensure_images(host, [KERNEL, PROXY])
        command = [sys.executable, "-m", "benchmarks", *rest]
        # This folder is where they find the Swarm that they measure in.
        env = {**environment(host), "PYTHONPATH": str(ROOT / "scripts")}
        return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode


def images_command(options: argparse.Namespace, rest: list[str]) -> int:
    """Build images."""
    images = find_images(options.name)
    if rest:
        raise SetupError(f"unknown arguments: {' '.join(rest)}")
    with engine(options.engine) as host:
        if host is None:
            return 1
        ensure_images(host, images)
        for image in images:
            say(f"{image.tag} is up to date")
    return 0


def swarm_command(options: argparse.Namespace, rest: list[str]) -> int:
    """Have a Swarm until Ctrl-C."""
    if rest:
        raise SetupError(f"unknown arguments: {' '.join(rest)}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with engine(options.engine) as host:
        if host:
            ensure_images(host, SWARM_IMAGES)
        images = [image.tag for image in SWARM_IMAGES] if host else []
        with swarm_lab(options.nodes, images=images, engine=host) as lab:
            say(lab.describe())
            signal.pause()
    return 0


def guard_command(options: argparse.Namespace, _rest: list[str]) -> int:
    """Be the guardian of a private engine."""
    guard(Places(Path(options.data), Path(options.run), options.bridge))
    return 0


def environment(host: str | None) -> dict[str, str]:
    """Return this process' environment, with the programs of .venv and the engine in it."""
    path = f"{VENV / 'bin'}:{os.environ.get('PATH', os.defpath)}"
    return {**os.environ, "PATH": path, **({"DOCKER_HOST": host} if host else {})}
