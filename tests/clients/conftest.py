"""What tests with a browser share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.clients.browser import open_page
from playwright.sync_api import Page


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Keep a picture of the page of a failed test."""
    report = yield
    values = getattr(item, "funcargs", {})
    page, folder = values.get("page"), values.get("tmp_path")
    if report.failed and report.when == "call" and isinstance(page, Page):
        picture = Path(folder) / "failed.png"
        page.screenshot(path=str(picture))
        report.sections.append(("page", f"{page.url}, seen in {picture}"))
    return report


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """A page of a browser with a new, empty profile; a picture of it is kept if the test fails."""
    del tmp_path  # is where
    with open_page() as opened:
        yield opened
