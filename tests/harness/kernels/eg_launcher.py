"""Agents that run the launcher of an image of Jupyter Enterprise Gateway."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.agents.agent import Agent

IMAGE_FILES = Path(__file__).parent / "eg_image"
BOOTSTRAP = IMAGE_FILES / "bootstrap-kernel.sh"


def make_agent(
    test: str = "",
    *,
    settings: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    bootstrap: Path = BOOTSTRAP,
) -> Agent:
    """Return an agent whose kernel comes from `eg_image`.

    Args:
        test: how the launcher breaks the contract, see there.
        settings: of the agent.
        env: more of its environment.
        bootstrap: another script.
    """
    return Agent(
        bootstrap=bootstrap,
        settings=settings,
        env={
            "KERNEL_LANGUAGE": "Python",
            "KERNEL_LAUNCHERS_DIR": str(IMAGE_FILES / "kernel-launchers"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TEST_LAUNCHER": test,
            **(env or {}),
        },
    )
