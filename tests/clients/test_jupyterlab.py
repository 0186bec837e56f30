"""JupyterLab in headless Chromium, its kernels behind a gateway: what a user sees and does."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from harness.gateway import Gateway
from harness.notebook_server import NotebookServer
from playwright.sync_api import Locator, Page, expect, sync_playwright

pytestmark = [pytest.mark.client, pytest.mark.kernel, pytest.mark.browser]

CHROMIUM = shutil.which("chromium")
# None: the one that Playwright installed
# without these, Chromium looks for hosts that a closed network does not have
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DEADLINE_MS = 30_000

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
LINES = 400
PRINTING = f"""\
import shutil
import time
for number in range({LINES}):
    print(number, flush=True)
    time.sleep(0.02)
print('all printed')"""
CELLS = [WHERE, PLOT, SLIDER, ENDLESS, NAME, PRINTING]


@pytest.fixture
def lab(own_gateway: Gateway, tmp_path: Path) -> Iterator[NotebookServer]:
    """JupyterLab in front of a gateway that the test may kill."""
    server = NotebookServer(own_gateway, tmp_path / "lab")
    try:
        server.write_lab_settings(
            "apputils-extension/notification", {"fetchNews": "false", "checkForUpdates": False}
        )
        server.start("lab")
        yield server
    finally:
        server.close()


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of a browser with a new, empty profile."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 920})
            page.set_default_timeout(DEADLINE_MS)
            expect.set_options(timeout=DEADLINE_MS)
            yield page
        finally:
            browser.close()


class Notebook:
    """The notebook that the page shows."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def cell(self, number: int) -> Locator:
        """Return a code cell, counted from 0."""
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(number)

    def output(self, number: int) -> Locator:
        """Return a cell's output area."""
        return self.cell(number).locator(".jp-Cell-outputWrapper")

    def run(self, number: int) -> None:
        """Select a cell and run it."""
        self.cell(number).scroll_into_view_if_needed()
        self.cell(number).locator(".jp-InputArea-editor").click()
        self.page.keyboard.press("Control+Enter")

    def choose(self, menu: str, item: str) -> None:
        """Choose an item of the menu bar."""
        self.page.get_by_role("menuitem", name=menu, exact=True).click()
        self.page.locator(".lm-Menu-item").filter(has_text=item).first.click()


def write_notebook(path: Path, kernel_name: str) -> None:
    """Write a notebook with `CELLS` for a kernel."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"name": kernel_name, "display_name": kernel_name}
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    nbformat.write(notebook, path)


def test_user_works_in_a_notebook(lab: NotebookServer, page: Page, kernel_name: str) -> None:
    """Plot, slider, interrupt, `input()`, `kill -9` of the gateway, restart: nothing is lost."""
    write_notebook(lab.notebooks / "demo.ipynb", kernel_name)
    page.goto(f"{lab.url}/lab/tree/demo.ipynb?token={lab.token}")
    notebook = Notebook(page)
    expect(page.locator("#jp-main-statusbar")).to_contain_text("| Idle")

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

    notebook.run(4)
    prompt = notebook.cell(4).locator("input.jp-Stdin-input")
    prompt.fill("Ada")
    prompt.press("Enter")
    expect(notebook.output(4)).to_contain_text("Hello Ada")

    notebook.run(5)
    expect(notebook.output(5)).to_contain_text("\n20\n")
    lab.gateway.kill()
    lab.gateway.start()
    expect(notebook.output(5)).to_contain_text("all printed")
    printed = "".join(notebook.output(5).locator("pre").all_inner_texts())
    end = 0
    for number in range(LINES):  # in order; what was in flight at the kill may come twice
        end = printed.find(f"{number}\n", end) + 1
        assert end, f"{number} is missing in {printed}"

    notebook.choose("Kernel", "Restart Kernel…")
    page.locator(".jp-Dialog button.jp-mod-accept").click()
    notebook.run(0)
    expect(notebook.cell(0).locator(".jp-InputArea-prompt")).to_have_text("[1]:")
