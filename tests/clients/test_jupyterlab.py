"""JupyterLab in headless Chromium, its kernels behind a gateway: what a user sees and does."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.clients.browser import PRINTING, Notebook
from harness.clients.languages import R
from harness.clients.notebook_server import NotebookServer, jupyterlab
from harness.clients.notebooks import write_notebook
from harness.clients.snippets import read_snippet
from harness.engines.leftovers import kill_local_agent, kill_workload, stop_container
from harness.gateways.gateway import Gateway
from harness.waiting import wait_until
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.client, pytest.mark.kernel, pytest.mark.browser]

PLOT = """\
%matplotlib inline
import matplotlib.pyplot as plt
import numpy as np

x = np.linspace(0, 4 * np.pi, 400)
fig, ax = plt.subplots(figsize=(7, 2.2))
ax.plot(x, np.sin(x), label="sin")
ax.plot(x, np.cos(x), label="cos")
ax.legend(loc="upper right")
plt.show()"""
SLIDER = """\
import ipywidgets as widgets

slider = widgets.IntSlider(value=3, min=0, max=10, description="n")
label = widgets.Label()

def show_square(change):
    label.value = f"n² = {change['new'] ** 2}"

slider.observe(show_square, names="value")
widgets.HBox([slider, label])"""
WHERE = """\
import os, platform
print("Hello from", platform.node(), "as process", os.getppid())"""
ENDLESS = "print('looping')\nwhile True:\n    pass"
NAME = "name = input('Who are you? ')\nprint('Hello', name)"
IMAGE = """\
import base64, ipywidgets as widgets
png = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
widgets.Image(value=png)"""
BUTTON = """\
image = widgets.Image()
button = widgets.Button(description="show")
button.on_click(lambda _: setattr(image, "value", png))
widgets.VBox([button, image])"""
SENDER = """\
import comm
button = widgets.Button(description="send")
button.on_click(lambda _: comm.create_comm(target_name="t", buffers=[b"1"]))
button"""
EXIT = """\
import os, time
try:
    print("on")
    time.sleep(1000)
except KeyboardInterrupt:
    os._exit(3)"""
FLOOD = "import time\nwhile True:\n    print('looping', flush=True)\n    time.sleep(0.1)"
KILLED = "KernelDied: The kernel's workload ended: "
STOPPED = "KernelShutDown: The kernel was told to stop (SIGTERM)"
CONNECTING = "Connecting to ws://"
"""In the Jupyter server's log."""
CELLS = [WHERE, PLOT, SLIDER, ENDLESS, NAME, PRINTING]


@pytest.fixture
def lab(own_gateway: Gateway, tmp_path: Path) -> Iterator[NotebookServer]:
    """JupyterLab in front of a gateway that the test may kill."""
    with jupyterlab(own_gateway, tmp_path / "lab") as server:
        yield server


def test_user_works_in_a_notebook(
    own_gateway: Gateway, lab: NotebookServer, page: Page, kernel_name: str
) -> None:
    """Plot, slider, interrupt, `input()`, `kill -9` of the gateway, restart: nothing is lost."""
    write_notebook(lab.notebooks / "demo.ipynb", kernel_name, CELLS)
    notebook = Notebook(page)
    notebook.open(lab, "demo.ipynb")

    notebook.run(0)
    expect(notebook.output(0)).to_contain_text("Hello from")
    notebook.run(1)
    expect(notebook.output(1).locator("img")).to_be_visible()
    notebook.run(2)
    handle = notebook.output(2).locator(".noUi-handle")
    expect(handle).to_be_visible()
    for _ in range(4):
        handle.press("ArrowRight")
    expect(notebook.output(2)).to_contain_text("n² = 49")
    page.screenshot(path=str(lab.home / "demo.png"))

    notebook.run(3)
    expect(notebook.output(3)).to_contain_text("looping")
    notebook.choose("Kernel", "Interrupt Kernel")
    expect(notebook.output(3)).to_contain_text("KeyboardInterrupt")
    expect(notebook.status_bar).to_contain_text("| Idle")  # aborts what comes before

    notebook.run(4)
    prompt = notebook.cell(4).locator("input.jp-Stdin-input")
    prompt.fill("Ada")
    prompt.press("Enter")
    expect(notebook.output(4)).to_contain_text("Hello Ada")

    notebook.run(5)
    expect(notebook.output(5)).to_contain_text("\n20\n")
    own_gateway.kill()
    own_gateway.start()
    notebook.expect_all_printed(5)

    notebook.choose("Kernel", "Restart Kernel…")
    page.locator(".jp-Dialog button.jp-mod-accept").click()
    notebook.run(1)
    expect(notebook.cell(1).locator(".jp-InputArea-prompt")).to_have_text("[1]:")


@pytest.mark.parametrize("config", ["", "binary-server"], ids=["legacy", "v1"])
def test_page_that_is_reloaded_shows_a_busy_kernel(
    own_gateway: Gateway, tmp_path: Path, page: Page, kernel_name: str, config: str
) -> None:
    """While the cell of the former page runs, and idle when that has ended; nothing asks."""
    stock = read_snippet("python", config) if config else ""
    with jupyterlab(own_gateway, tmp_path / "lab", config=stock) as lab:
        write_notebook(lab.notebooks / "busy.ipynb", kernel_name, [ENDLESS, "6 * 7"])
        notebook = Notebook(page)
        notebook.open(lab, "busy.ipynb")
        notebook.run(0)
        expect(notebook.output(0)).to_contain_text("looping")
        page.reload()
        expect(notebook.status_bar).to_contain_text("| Busy")
        expect(page.locator(".jp-Dialog")).to_have_count(0)
        notebook.choose("Kernel", "Interrupt Kernel")
        expect(notebook.status_bar).to_contain_text("| Idle")
        notebook.run(1)
        expect(notebook.output(1)).to_contain_text("42")


def test_reason_of_a_death_stands_under_its_cell(
    own_gateway: Gateway, lab: NotebookServer, page: Page, kernel_name: str
) -> None:
    """And says what becomes of the kernel; the cell behind it ends too, and the next one runs."""
    cells = [EXIT, "print('never')", "print('again')"]
    write_notebook(lab.notebooks / "death.ipynb", kernel_name, cells)
    notebook = Notebook(page)
    notebook.open(lab, "death.ipynb")
    notebook.run(0)
    expect(notebook.output(0)).to_contain_text("on")
    notebook.run(1)
    (kernel_id,) = own_gateway.list_kernels()
    wait_until(lambda: has_queued_cell(own_gateway, kernel_id), what="the second cell")
    own_gateway.request("POST", f"/api/kernels/{kernel_id}/interrupt")
    reason = "KernelDied: The kernel exited with code 3. It is started again"
    expect(notebook.output(0)).to_contain_text(reason)
    expect(notebook.output(1)).to_contain_text("This was not run.")
    for number in (0, 1):
        prompt = notebook.cell(number).locator(".jp-InputArea-prompt")
        expect(prompt).not_to_have_text("[*]:")
    page.locator(".jp-Dialog button.jp-mod-accept").click()
    notebook.run(2)
    expect(notebook.output(2)).to_contain_text("again")


@pytest.mark.parametrize(
    ("kernel_name", "end", "reason"),
    [
        pytest.param("python_docker", kill_workload, KILLED, marks=pytest.mark.docker),
        pytest.param("python_docker", stop_container, STOPPED, marks=pytest.mark.docker),
        ("python3", kill_local_agent, KILLED),
    ],
    ids=["killed container", "stopped container", "killed local agent"],
)
def test_cells_end_with_their_kernel_and_its_agent(
    own_gateway: Gateway,
    lab: NotebookServer,
    page: Page,
    kernel_name: str,
    end: Callable[[str], None],
    reason: str,
) -> None:
    """The one that printed and the one behind it, with the reason; then the menu restarts it."""
    write_notebook(lab.notebooks / "killed.ipynb", kernel_name, [FLOOD, "print('never')", "6 * 7"])
    notebook = Notebook(page)
    notebook.open(lab, "killed.ipynb")
    notebook.run(0)
    expect(notebook.output(0)).to_contain_text("looping")
    notebook.run(1)
    (kernel_id,) = own_gateway.list_kernels()
    wait_until(lambda: has_queued_cell(own_gateway, kernel_id), what="the second cell")
    connections = lab.read_log().count(CONNECTING)
    end(kernel_id)
    for number in (0, 1):
        expect(notebook.output(number)).to_contain_text(reason)
        prompt = notebook.cell(number).locator(".jp-InputArea-prompt")
        expect(prompt).not_to_have_text("[*]:")
    expect(notebook.output(1)).not_to_contain_text("never")
    if end is stop_container:  # the agent has closed the WebSocket
        wait_until(lambda: lab.read_log().count(CONNECTING) > connections, what="the next one")
    notebook.choose("Kernel", "Restart Kernel…")
    page.locator(".jp-Dialog button.jp-mod-accept").click()
    expect(notebook.status_bar).to_contain_text("| Idle")
    notebook.run(2)
    expect(notebook.output(2)).to_contain_text("42")


def has_queued_cell(gateway: Gateway, kernel_id: str) -> bool:
    """Say whether a kernel has got a cell that it does not run yet."""
    executions = gateway.get(f"/api/kernels/{kernel_id}/executions")
    return any(each["state"] == "queued" for each in executions)


def test_missing_binary_data_is_told_under_its_cell(
    lab: NotebookServer, page: Page, kernel_name: str
) -> None:
    """Under every cell that makes a widget with some, and under the one whose widget is used."""
    write_notebook(lab.notebooks / "image.ipynb", kernel_name, [IMAGE, IMAGE, SENDER])
    notebook = Notebook(page)
    notebook.open(lab, "image.ipynb")
    for number in (0, 1, 2):
        notebook.run(number)
        if number == 2:
            expect(notebook.output(number)).not_to_contain_text("Binary data")
            notebook.output(number).locator("button").click()
        expect(notebook.output(number)).to_contain_text("Binary data was left out")


def test_binary_data_is_shown_with_the_documented_connection(
    own_gateway: Gateway, tmp_path: Path, page: Page, kernel_name: str
) -> None:
    """An image in a widget, made by a cell and changed by a button."""
    config = read_snippet("python", "binary-server")
    with jupyterlab(own_gateway, tmp_path / "lab", config=config) as lab:
        write_notebook(lab.notebooks / "image.ipynb", kernel_name, [IMAGE, BUTTON])
        notebook = Notebook(page)
        notebook.open(lab, "image.ipynb")
        for number in (0, 1):
            notebook.run(number)
            if number == 1:
                notebook.output(number).locator("button").click()
            image = notebook.output(number).locator("img")
            expect(image).to_have_js_property("naturalWidth", 1)
            expect(notebook.output(number)).not_to_contain_text("Binary data")


def test_restart_of_a_kernel_that_hangs_is_no_crash(lab: NotebookServer, page: Page) -> None:
    """What is answered for the cell that hung neither alarms the user nor stays in the way."""
    deaf = (
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('deaf')\nwhile 1: pass"
    )
    write_notebook(lab.notebooks / "hang.ipynb", "python3", [deaf, "print('again')"])
    notebook = Notebook(page)
    notebook.open(lab, "hang.ipynb")
    notebook.run(0)
    expect(notebook.output(0)).to_contain_text("deaf")
    notebook.choose("Kernel", "Restart Kernel…")
    page.locator(".jp-Dialog button.jp-mod-accept").click()
    expect(notebook.cell(0).locator(".jp-InputArea-prompt")).not_to_have_text("[*]:")
    notebook.run(1)
    expect(notebook.output(1)).to_contain_text("again")
    expect(page.locator(".jp-Dialog")).to_have_count(0)


@pytest.mark.docker
def test_user_works_in_an_r_notebook(lab: NotebookServer, page: Page) -> None:
    """Output, a value, a plot, `readline()`, an interrupt: as with Python."""
    cells = [R.hello.code, R.value.code, R.plot, R.prompt, R.loop, R.value.code]
    name = R.kernel.lower()  # as it is listed, and chosen from the list
    write_notebook(lab.notebooks / "r.ipynb", name, cells, language=R.name)
    notebook = Notebook(page)
    notebook.open(lab, "r.ipynb")

    notebook.run(0)
    expect(notebook.output(0)).to_contain_text(R.hello.shows.strip())
    notebook.run(1)
    expect(notebook.output(1)).to_contain_text("42")
    notebook.run(2)
    plot = notebook.output(2).locator("img")
    expect(plot).to_be_visible()
    assert plot.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100

    notebook.run(3)
    prompt = notebook.cell(3).locator("input.jp-Stdin-input")
    prompt.fill("Ada")
    prompt.press("Enter")
    expect(notebook.output(3)).to_contain_text("hello Ada")

    notebook.run(4)
    expect(notebook.output(4)).to_contain_text("on")
    notebook.choose("Kernel", "Interrupt Kernel")
    expect(notebook.cell(4).locator(".jp-InputArea-prompt")).not_to_have_text("[*]:")
    expect(notebook.status_bar).to_contain_text("| Idle")
    notebook.run(5)
    expect(notebook.output(5)).to_contain_text("42")
