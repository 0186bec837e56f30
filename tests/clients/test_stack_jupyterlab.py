"""JupyterLab whose kernels are behind the load balancer of the deployed stack."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.browser import PRINTING, Notebook
from harness.notebook_server import NotebookServer, jupyterlab
from harness.notebooks import write_notebook
from harness.stack import START_DEADLINE, ReplicaContainer, Stack
from harness.waiting import wait_until
from playwright.sync_api import Page, expect

pytestmark = [
    pytest.mark.client,
    pytest.mark.kernel,
    pytest.mark.docker,
    pytest.mark.browser,
    pytest.mark.timeout(240),
]

AGENT_PORT = 8898
ESTABLISHED = "01"


@pytest.fixture
def lab(stack: Stack, tmp_path: Path) -> Iterator[NotebookServer]:
    """JupyterLab in front of the stack."""
    with jupyterlab(stack, tmp_path / "lab") as server:
        yield server


def count_connections(replica: ReplicaContainer) -> int:
    """Return how many connections to agents a replica has: one a kernel, and one a WebSocket."""
    remote_end = f":{AGENT_PORT:04X}"
    # proc_pid_net(5): sl local_address rem_address st …
    rows = [line.split() for line in replica.run("cat", "/proc/net/tcp").splitlines()[1:]]
    return sum(row[2].endswith(remote_end) and row[3] == ESTABLISHED for row in rows)


def find_carrier(stack: Stack) -> ReplicaContainer:
    """Return the replica that carries the only WebSocket of the only kernel."""
    *others, carrier = sorted(stack.replicas(), key=count_connections)
    assert all(count_connections(each) < count_connections(carrier) for each in others)
    return carrier


def test_user_does_not_see_that_a_replica_dies(
    stack: Stack, lab: NotebookServer, page: Page
) -> None:
    """`kill -9` in the middle of a cell: its output is complete, and nothing asks or complains."""
    write_notebook(lab.notebooks / "demo.ipynb", "python_docker", [PRINTING, PRINTING, "6 * 7"])
    notebook = Notebook(page)
    notebook.open(lab, "demo.ipynb")
    for number in (0, 1):
        notebook.run(number)
        expect(notebook.output(number)).to_contain_text("\n20\n")
        find_carrier(stack).kill()
        notebook.expect_all_printed(number)
        expect(page.locator(".jp-Dialog")).to_have_count(0)
        expect(notebook.status_bar).to_contain_text("| Idle")
        wait_until(stack.is_complete, deadline=START_DEADLINE, what="another replica")
    notebook.run(2)
    expect(notebook.output(2)).to_contain_text("42")
    (model,) = lab.request("GET", "/api/kernels").json()
    assert model["execution_state"] == "idle"
    stack.delete_kernel(model["id"])
