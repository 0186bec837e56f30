"""The commands behind scripts/run, images and bench."""

import argparse
import subprocess
import sys
from pathlib import Path

from devtools.console import SetupError, say
from devtools.engine import engine
from devtools.engine_keeper import keep_engine
from devtools.gateway import offer_kernelspecs, serve
from devtools.host import ROOT, environment
from devtools.images import (
    KERNEL,
    PROXY,
    built_images,
    ensure_images,
    find_images,
)
from devtools.private_engine import Paths, default_paths


def run_command(options: argparse.Namespace, rest: list[str]) -> int:
    """Serve kernels: in containers, or as local processes where there is no engine."""
    with engine(options.engine) as host:
        if host:
            ensure_images(host, [KERNEL])
            offer_kernelspecs(built_images(host))
        status = serve(rest, environment(host))
        if host == default_paths().host:
            say("Stopping the private Docker engine, and its containers with it …")
        return status


def bench_command(options: argparse.Namespace, rest: list[str]) -> int:
    """Run the benchmarks."""
    with engine(options.engine) as host:
        if host:
            ensure_images(host, [KERNEL, PROXY])
        command = [sys.executable, "-m", "benchmarks", *rest]
        # they measure in a Swarm of swarmlab
        env = {**environment(host), "PYTHONPATH": str(ROOT / "tools")}
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


def keep_engine_command(options: argparse.Namespace, _rest: list[str]) -> int:
    """Run a private engine until its last user has ended."""
    keep_engine(Paths(Path(options.data), Path(options.run), options.bridge))
    return 0
