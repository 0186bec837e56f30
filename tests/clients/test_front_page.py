"""The gateway's front page in headless Chromium."""

import datetime as dt
import subprocess
import sys
from pathlib import Path

import pytest
from harness.clients.snippets import client_env
from harness.gateways.gateway import Gateway
from playwright.sync_api import Page, ViewportSize, expect

pytestmark = [pytest.mark.client, pytest.mark.browser]

PHONE = ViewportSize(width=360, height=640)
HIDE_CLIPBOARD = """\
Object.defineProperty(navigator, 'clipboard', {value: undefined, configurable: true});"""
INJECTION = """\
const script = document.createElement('script');
script.textContent = 'window.injected = true';
document.body.append(script);"""


@pytest.fixture
def violations(page: Page) -> list[str]:
    """What the browser refused on behalf of the page's Content-Security-Policy."""
    seen: list[str] = []
    page.on(
        "console",
        lambda message: seen.append(message.text) if "Security Policy" in message.text else None,
    )
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    return seen


def read_clipboard(page: Page) -> str:
    """Return what was copied."""
    return str(page.evaluate("navigator.clipboard.readText()"))


def sign_in(page: Page, gateway: Gateway) -> None:
    """Go to the front page and type the token."""
    page.goto(gateway.url)
    field = page.get_by_label("Token")
    field.fill("not-the-token")
    field.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("wrong")
    field.fill(gateway.token)
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("The token is right.")).to_be_visible()


def stop_clock(page: Page) -> None:
    """Have buttons go on saying that they have copied, which they do for two seconds."""
    page.clock.install()
    page.clock.pause_at(dt.datetime.now(dt.UTC) + dt.timedelta(hours=1))


@pytest.mark.kernel
def test_user_copies_lines_that_work(
    gateway: Gateway, page: Page, violations: list[str], tmp_path: Path
) -> None:
    """The token is asked for, the copied program runs, and nothing foreign gets into the page."""
    sign_in(page, gateway)
    buttons = page.locator("section button")
    expect(buttons).to_have_count(3)
    lab, code, python = buttons.all()
    stop_clock(page)
    lab.click()
    expect(page.get_by_text("Copied")).to_be_visible()
    assert read_clipboard(page) == (
        f"JUPYTER_GATEWAY_AUTH_TOKEN={gateway.token} jupyter lab --gateway-url={gateway.url}"
    )
    code.press("Enter")
    page.wait_for_function("navigator.clipboard.readText().then(text => text.includes('?token='))")
    assert read_clipboard(page) == f"{gateway.url}/?token={gateway.token}"
    python.click()
    page.wait_for_function("navigator.clipboard.readText().then(text => text.includes('import'))")
    program = read_clipboard(page)
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        env=client_env(gateway, tmp_path),
        timeout=100,
    )
    assert done.stdout == "42\n\n", done.stderr
    assert violations == []
    with page.expect_console_message(lambda message: "Security Policy" in message.text):
        page.evaluate(INJECTION)
    assert page.evaluate("window.injected") is None
    assert len(violations) == 1


def test_lines_are_copied_without_https(
    gateway: Gateway, page: Page, violations: list[str]
) -> None:
    """Where a browser has no clipboard API the page copies in the old way."""
    sign_in(page, gateway)
    page.evaluate(HIDE_CLIPBOARD)
    stop_clock(page)
    page.get_by_role("button", name="Copy").first.click()
    expect(page.get_by_text("Copied")).to_be_visible()
    page.evaluate("delete navigator.clipboard")
    assert read_clipboard(page).endswith(f"jupyter lab --gateway-url={gateway.url}")
    assert violations == []


def test_page_works_on_a_phone_without_scripts(gateway: Gateway, page: Page) -> None:
    """Nothing is wider than the screen, in light or dark, and no button does nothing."""
    browser = page.context.browser
    assert browser is not None
    plain = browser.new_context(
        java_script_enabled=False, viewport=PHONE, color_scheme="dark"
    ).new_page()
    sign_in(plain, gateway)
    expect(plain.get_by_text("jupyter lab --gateway-url")).to_be_visible()
    expect(plain.get_by_role("button", name="Copy")).to_have_count(0)
    page.set_viewport_size(PHONE)
    page.goto(f"{gateway.url}?token={gateway.token}")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
