"""What is in the kernel images, `kernel-py` above all, as a kernel's first cells find it."""

import asyncio
import time

import docker
import pytest

from devtools.images import KERNEL, R_KERNEL, SCALA_KERNEL, TENSORFLOW_KERNEL, Image

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


IMPORT = """
import importlib.util, kernel_agent, pkgutil
names = [module.name for module in pkgutil.walk_packages(kernel_agent.__path__, "kernel_agent.")]
names.remove("kernel_agent.archive_main")  # which runs the agent
for name in ("ipykernel.kernelapp", "ipywidgets", "matplotlib.pyplot", "pandas", "tensorflow"):
    if importlib.util.find_spec(name.partition(".")[0]) is not None:
        names.append(name)
for name in names:
    importlib.import_module(name)
"""
IMPORT_AND_FIND = (
    *("sh", "-ec", 'touch /tmp/begun; python3 -W ignore -c "$0"; "$@"', IMPORT),
    *("find", "/", "-xdev", "-name", "*.pyc", "-newer", "/tmp/begun"),
)


async def in_image(*command: str, image: Image = KERNEL, **options: str) -> str:
    """Return what a command prints in a fresh container of an image."""
    client = docker.from_env(timeout=300)
    try:
        output: bytes = await asyncio.to_thread(
            client.containers.run, image.tag, command, remove=True, network_mode="none", **options
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


@pytest.mark.parametrize(
    "image",
    [KERNEL, R_KERNEL, SCALA_KERNEL, TENSORFLOW_KERNEL],
    ids=lambda image: str(image.name),
)
async def test_first_import_compiles_nothing(image: Image) -> None:
    """The bytecode of the agent, of ipykernel and of the usual packages is there.

    Root could write what is missing.
    """
    assert await in_image(*IMPORT_AND_FIND, image=image, user="0") == ""
