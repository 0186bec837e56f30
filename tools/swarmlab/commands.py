"""The command behind scripts/swarm."""

import argparse
import signal

from devtools.console import SetupError, say
from devtools.engine import engine
from devtools.images import SWARM_IMAGES, ensure_images
from swarmlab.lab import swarm_lab


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
