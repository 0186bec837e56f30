"""Programs that run whole notebooks, exactly as docs/clients.md shows them."""

from pathlib import Path

import pytest
from harness.clients.notebooks import printed, read_outputs, write_notebook
from harness.clients.snippets import run_snippet
from harness.gateways.gateway import Gateway

pytestmark = [pytest.mark.client, pytest.mark.kernel]

SILENCE = 48
"""Seconds; nbclient's WebSocket gives up after 40 without a frame, and pings come every 30."""
WHERE = """\
import os, platform
own = os.environ["KERNEL_USERNAME"] + "-" + os.environ["KERNEL_ID"]
print("container" if platform.node() == own else "process")"""
PLACES = {"python3": "process\n", "python_docker": "container\n"}
"""What `WHERE` prints, by kernel name: a manager of kernels may forget what it was told."""


def write_cells(folder: Path, *cells: str, **tags: int) -> None:
    """Write `notebook.ipynb`; a tag is given with the number of the cell that has it."""
    numbered = {number: tag.replace("_", "-") for tag, number in tags.items()}
    write_notebook(folder / "notebook.ipynb", "python3", cells, tags=numbered)


def test_nbclient_runs_a_notebook(gateway: Gateway, kernel_name: str, tmp_path: Path) -> None:
    """Streams, results, rich output and expected errors end up in the notebook; its kernel goes."""
    write_cells(
        tmp_path,
        "import sys\nprint('out')\nprint('err', file=sys.stderr)",
        "x = 6 * 7\nx",
        "from IPython.display import HTML, display\ndisplay(HTML('<b>bold</b>'))",
        "#% expected\nraise ValueError('on purpose')",
        "x + 1",
        WHERE,
        raises_exception=3,
    )
    run = run_snippet(gateway, "python", "nbclient", cwd=tmp_path, kernel_name=kernel_name)
    assert run.returncode == 0, run.stderr
    outputs = read_outputs(tmp_path / "executed.ipynb")
    assert printed(outputs[0]) == "out\n"
    assert printed(outputs[0], "stderr") == "err\n"
    assert outputs[1][0]["data"]["text/plain"] == "42"
    assert outputs[2][0]["data"]["text/html"] == "<b>bold</b>"
    assert outputs[3][0]["ename"] == "ValueError"
    assert outputs[4][0]["data"]["text/plain"] == "43"
    assert printed(outputs[5]) == PLACES[kernel_name]
    gateway.wait_until_no_kernels()


def test_nbclient_reports_a_failing_cell(
    gateway: Gateway, kernel_name: str, tmp_path: Path
) -> None:
    """A cell that fails ends the run with its traceback, and leaves no kernel behind."""
    write_cells(tmp_path, "def f():\n    return 1 / 0\nf()", "print('never')")
    run = run_snippet(gateway, "python", "nbclient", cwd=tmp_path, kernel_name=kernel_name)
    assert run.returncode != 0
    assert "CellExecutionError" in run.stderr
    assert "ZeroDivisionError" in run.stderr
    gateway.wait_until_no_kernels()


@pytest.mark.parametrize("runner", ["nbclient", "papermill"])
def test_run_fails_when_the_kernel_dies(
    gateway: Gateway, kernel_name: str, tmp_path: Path, runner: str
) -> None:
    """With the reason, at the cell that was running, and at once: no runner has to time out."""
    cells = ["1", "import os\nos.kill(os.getpid(), 9)", "print('never')"]
    write_cells(tmp_path, *cells, parameters=0)
    run = run_snippet(gateway, "python", runner, cwd=tmp_path, kernel_name=kernel_name)
    assert run.returncode != 0
    assert "KernelDied: The kernel was killed by SIGKILL." in run.stderr
    gateway.wait_until_no_kernels()


def test_nbclient_survives_a_silent_cell(gateway: Gateway, tmp_path: Path) -> None:
    """A cell that says nothing for longer than the client's socket timeout still ends well."""
    write_cells(tmp_path, f"import time\ntime.sleep({SILENCE})\nprint('awake')")
    run = run_snippet(gateway, "python", "nbclient", cwd=tmp_path, kernel_name="python3")
    assert run.returncode == 0, run.stderr
    assert printed(read_outputs(tmp_path / "executed.ipynb")[0]) == "awake\n"


def test_silent_cell_may_outlast_a_clients_own_deadline(gateway: Gateway, tmp_path: Path) -> None:
    """KERNEL_LAUNCH_TIMEOUT, which is that of nbclient's WebSocket too: a ping comes before it."""
    write_cells(tmp_path, "import time\ntime.sleep(26)\nprint('awake')")
    env = {"KERNEL_LAUNCH_TIMEOUT": "24"}
    run = run_snippet(gateway, "python", "nbclient", cwd=tmp_path, kernel_name="python3", env=env)
    assert run.returncode == 0, run.stderr
    assert printed(read_outputs(tmp_path / "executed.ipynb")[0]) == "awake\n"


@pytest.mark.parametrize("runner", ["nbclient", "papermill"])
def test_binary_data_does_not_end_a_run(
    gateway: Gateway, kernel_name: str, tmp_path: Path, runner: str
) -> None:
    """Messages with buffers arrive without them; a notice stands under each cell that sent some."""
    comm = (
        "from comm import create_comm\n"
        "create_comm(target_name='t', data={}, buffers=[bytes(range(256))])"
    )
    widget = "import ipywidgets\nipywidgets.Image(value=bytes(range(256)))"
    write_cells(tmp_path, "count = 1", comm, widget, "print('went on')", parameters=0)
    run = run_snippet(gateway, "python", runner, cwd=tmp_path, kernel_name=kernel_name)
    assert run.returncode == 0, run.stderr
    outputs = read_outputs(tmp_path / "executed.ipynb")[-3:]
    assert [("Binary data" in printed(one, "stderr")) for one in outputs] == [True, True, False]
    assert printed(outputs[2]) == "went on\n"


def test_nbconvert_executes_a_notebook(gateway: Gateway, kernel_name: str, tmp_path: Path) -> None:
    """`jupyter nbconvert --execute` needs nothing but the kernel manager's name."""
    write_cells(tmp_path, WHERE)
    run = run_snippet(gateway, "sh", "nbconvert", cwd=tmp_path, kernel_name=kernel_name)
    assert run.returncode == 0, run.stderr
    assert printed(read_outputs(tmp_path / "executed.ipynb")[0]) == PLACES[kernel_name]
    gateway.wait_until_no_kernels()


def test_papermill_runs_twenty_cells_with_parameters(
    gateway: Gateway, kernel_name: str, tmp_path: Path
) -> None:
    """Twenty cells run in order with the given parameters, each on what the last one left."""
    steps = [f"total += count\nprint({number}, name, total)" for number in range(2, 20)]
    write_cells(tmp_path, "count = 1\nname = 'unknown'", "total = 0", *steps, WHERE, parameters=0)
    run = run_snippet(gateway, "python", "papermill", cwd=tmp_path, kernel_name=kernel_name)
    assert run.returncode == 0, run.stderr
    # papermill puts a cell with the given parameters after the tagged one
    lines = [printed(outputs) for outputs in read_outputs(tmp_path / "executed.ipynb")[3:]]
    totals = [f"{number} Ada {3 * (number - 1)}\n" for number in range(2, 20)]
    assert lines == [*totals, PLACES[kernel_name]]
    gateway.wait_until_no_kernels()
