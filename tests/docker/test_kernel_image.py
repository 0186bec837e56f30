"""What is in the image `kernel-py`, as a kernel's first cells find it."""

import asyncio
import time

import docker
import pytest

from devtools.images import KERNEL

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

COMPLETE = """
import pathlib
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

cache = pathlib.Path.home() / ".cache/jedi"
there = set(cache.rglob("*.pkl"))
assert there, "no cache"
shell = InteractiveShell.instance()
shell.run_cell("import os, numpy as np, pandas as pd, matplotlib.pyplot as plt")
shell.run_cell("table = pd.DataFrame()")
for code in ("pri", "import o", "os.pa", "np.ze", "pd.con", "table.he", "plt.sc"):
    with provisionalcompleter():
        assert list(shell.Completer.completions(code, len(code))), code
print(*set(cache.rglob("*.pkl")) - there)
"""


async def in_image(*command: str, **options: str) -> str:
    """Return what a command prints in a fresh container of the image."""
    client = docker.from_env(timeout=300)
    try:
        output: bytes = await asyncio.to_thread(
            client.containers.run, KERNEL.tag, command, remove=True, network_mode="none", **options
        )
    finally:
        client.close()
    return output.decode().strip()


@pytest.mark.parametrize("user", ["1000:100", "12345:100"])
async def test_first_completion_parses_nothing(user: str) -> None:
    """All that jedi looks up for names of the usual packages is in its cache already."""
    assert await in_image("python3", "-c", COMPLETE, user=user) == ""


async def test_cache_of_completions_outlives_the_age_of_the_image() -> None:
    """A month after the build jedi would throw it away when it writes to it."""
    last_cleared = await in_image("stat", "-c", "%Y", "/home/jovyan/.cache/jedi/PARSO-CACHE-LOCK")
    assert int(last_cleared) > 1.5 * time.time()


async def test_no_program_gives_a_user_more_rights() -> None:
    """Neither setuid nor setgid."""
    command = ("find", "/", "-xdev", "-type", "f", "-perm", "/6000")
    assert await in_image(*command, user="0") == ""


async def test_usual_packages_are_there() -> None:
    """Tables and progress bars are what most notebooks want first."""
    code = "import pandas, tqdm.auto; print(pandas.DataFrame({'a': [1, 2]}).a.sum())"
    assert await in_image("python3", "-W", "ignore", "-c", code) == "3"
