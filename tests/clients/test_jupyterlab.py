"""JupyterLab in headless Chromium, its kernels behind a gateway: what a user sees and does."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.browser import PRINTING, Notebook
from harness.gateway import Gateway
from harness.languages import R
from harness.notebook_server import NotebookServer, jupyterlab
from harness.notebooks import write_notebook
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
    notebook.run(0)
    expect(notebook.cell(0).locator(".jp-InputArea-prompt")).to_have_text("[1]:")


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
    expect(notebook.cell(4).locator(".jp-InputArea-prompt")).to_have_text("[*]:")
    notebook.choose("Kernel", "Interrupt Kernel")
    expect(notebook.cell(4).locator(".jp-InputArea-prompt")).not_to_have_text("[*]:")
    notebook.run(5)
    expect(notebook.output(5)).to_contain_text("42")
