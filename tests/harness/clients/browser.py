"""Headless Chromium, and a JupyterLab notebook in it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Locator, Page, Route, expect, sync_playwright

from harness.clients.notebook_server import NotebookServer

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
DEADLINE_MS = 180_000
LINES = 400
PRINTING = f"""\
import time
for number in range({LINES}):
    print(number, flush=True)
    time.sleep(0.02)
print('all printed')"""


@contextmanager
def open_page() -> Iterator[Page]:
    """Have a page of a browser with a new, empty profile."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 920})
            page.set_default_timeout(DEADLINE_MS)
            page.route("**/lab/api/themes/**", _fetch_again)
            expect.set_options(timeout=DEADLINE_MS)
            yield page
        finally:
            browser.close()


def _fetch_again(route: Route) -> None:
    """Fetch a file of the theme, again if its connection is reset.

    The Jupyter server may close an idle connection just when the browser uses it; the browser does
    not try stylesheets again, and JupyterLab waits behind a dialog then.
    """
    route.fulfill(response=route.fetch(max_retries=3))


class Notebook:
    """The notebook that the page shows."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def open(self, lab: NotebookServer, name: str) -> None:
        """Go there, and wait until its kernel is idle."""
        self.page.goto(f"{lab.url}/lab/tree/{name}?token={lab.token}")
        expect(self.status_bar).to_contain_text("| Idle")

    @property
    def status_bar(self) -> Locator:
        """JupyterLab's indicator of the kernel's state."""
        return self.page.locator("#jp-main-statusbar")

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

    def expect_all_printed(self, number: int) -> None:
        """Wait for the end of a cell with `PRINTING`; all its lines are there, in order.

        What was in flight when a connection was cut may be there twice.
        """
        expect(self.output(number)).to_contain_text("all printed")
        printed = "".join(self.output(number).locator("pre").all_inner_texts())
        end = 0
        for line in range(LINES):
            end = printed.find(f"{line}\n", end) + 1
            assert end, f"{line} is missing in {printed}"
