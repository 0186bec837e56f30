"""JupyterLab whose kernels are behind the load balancer of the deployed stack."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.clients.browser import PRINTING, Notebook
from harness.clients.notebook_server import NotebookServer, jupyterlab
from harness.clients.notebooks import write_notebook
from harness.gateways.stack import START_DEADLINE, Stack
from harness.waiting import wait_until
from playwright.sync_api import Page, expect

pytestmark = [
    pytest.mark.client,
    pytest.mark.kernel,
    pytest.mark.docker,
    pytest.mark.browser,
]


@pytest.fixture
def lab(stack: Stack, tmp_path: Path) -> Iterator[NotebookServer]:
    """JupyterLab in front of the stack."""
    with jupyterlab(stack, tmp_path / "lab") as server:
        yield server


def test_user_does_not_see_that_a_replica_dies(
    stack: Stack, lab: NotebookServer, page: Page
) -> None:
    """`kill -9` in the middle of a cell: its output is complete, and nothing asks or complains.

    One of the two replicas has authorised the WebSocket.
    """
    write_notebook(lab.notebooks / "demo.ipynb", "python_docker", [PRINTING, PRINTING, "6 * 7"])
    notebook = Notebook(page)
    notebook.open(lab, "demo.ipynb")
    for number, victim in enumerate(stack.replicas()):
        notebook.run(number)
        expect(notebook.output(number)).to_contain_text("\n20\n")
        victim.kill()
        notebook.expect_all_printed(number)
        expect(page.locator(".jp-Dialog")).to_have_count(0)
        expect(notebook.status_bar).to_contain_text("| Idle")
        wait_until(stack.is_complete, deadline=START_DEADLINE, what="another replica")
    notebook.run(2)
    expect(notebook.output(2)).to_contain_text("42")
    (model,) = lab.request("GET", "/api/kernels").json()
    wait_until(lambda: is_idle(lab, model["id"]), what="the kernel's state")
    stack.delete_kernel(model["id"])


def is_idle(lab: NotebookServer, kernel_id: str) -> bool:
    """Say whether the server's list shows that a kernel is idle."""
    models = {model["id"]: model for model in lab.request("GET", "/api/kernels").json()}
    return bool(models[kernel_id]["execution_state"] == "idle")
