"""The front page's text: what it says, that it is escaped, and that its lines can be pasted."""

import ast
import re
import shlex
from html.parser import HTMLParser
from importlib import resources
from urllib.parse import parse_qs, urlsplit

import pytest

from enterprise_gateway.web import home
from enterprise_gateway.web.home.clients import Snippet, make_snippets
from enterprise_gateway.web.home.page import Page

URL = "https://gateway.example/base/"
TOKENS = ["3f2a", 'it\'s "a" $(token) `x` \\ & </code><script>alert(1)</script>', "Größe 山"]


@pytest.fixture(scope="module")
def page() -> Page:
    """The page of the package's own template."""
    return Page(resources.files(home).joinpath("page.html").read_text())


class Reader(HTMLParser):
    """Reads what a browser would show as code, and the scripts it would run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.codes: list[str] = []
        self.scripts: list[str] = []
        self._target: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Start to collect a piece of code or a script."""
        del attrs
        if tag in {"code", "script"}:
            self._target = self.codes if tag == "code" else self.scripts
            self._target.append("")

    def handle_endtag(self, tag: str) -> None:
        """Stop collecting."""
        if tag in {"code", "script"}:
            self._target = None

    def handle_data(self, data: str) -> None:
        """Collect its text."""
        if self._target is not None:
            self._target[-1] += data


def text_of(snippet: Snippet) -> str:
    """Return what a user copies."""
    return snippet.before + snippet.token + snippet.after


@pytest.mark.parametrize("token", TOKENS)
def test_lines_hold_the_token_as_it_is(token: str) -> None:
    """Whatever is in it: a shell, a URL and Python read back the same token."""
    lab, code, python = map(text_of, make_snippets(URL, token, is_listing=True))
    assert shlex.split(lab) == [
        f"JUPYTER_GATEWAY_AUTH_TOKEN={token}",
        "jupyter",
        "lab",
        "--gateway-url=https://gateway.example/base",
    ]
    assert urlsplit(code).path == "/base/"
    assert parse_qs(urlsplit(code).query) == {"token": [token]}
    call = next(node for node in ast.walk(ast.parse(python)) if isinstance(node, ast.withitem))
    assert isinstance(call.context_expr, ast.Call)
    arguments = {each.arg: ast.literal_eval(each.value) for each in call.context_expr.keywords}
    assert arguments == {"server_url": "https://gateway.example/base", "token": token}


def test_lines_without_a_token_name_none() -> None:
    """A gateway without authentication is connected to by its address alone."""
    lab, code, python = map(text_of, make_snippets(URL, "", is_listing=True))
    assert lab == "jupyter lab --gateway-url=https://gateway.example/base"
    assert code == URL
    assert 'token=""' in python


def test_need_of_a_list_is_told() -> None:
    """VS Code asks for the list of kernels, which a gateway need not answer."""
    hints = {each.id: each.hint for each in make_snippets(URL, "x", is_listing=False)}
    assert "EG_LIST_KERNELS=True" in hints["vscode"]
    assert all("EG_LIST" not in each.hint for each in make_snippets(URL, "x", is_listing=True))


@pytest.mark.parametrize("token", TOKENS)
def test_page_shows_the_lines_and_runs_one_script(page: Page, token: str) -> None:
    """No token breaks out of the page."""
    snippets = make_snippets(URL, token, is_listing=True)
    text = page.welcome(
        version="1.0", standing=("The token is right.", True), kernels=2, snippets=snippets
    )
    read = Reader(text)
    assert read.codes == [text_of(snippet) for snippet in snippets]
    assert len(read.scripts) == 1
    assert "alert(1)" not in read.scripts[0]
    assert "2 kernels are running." in text
    assert "The token is right." in text


@pytest.mark.parametrize(
    ("kernels", "expected"),
    [(None, None), (0, "No kernel is running."), (1, "1 kernel is running.")],
)
def test_page_counts_kernels(page: Page, kernels: int | None, expected: str | None) -> None:
    """In words, or not at all if the user may not know."""
    text = page.welcome(
        version="1",
        standing=("This gateway asks for no token.", False),
        kernels=kernels,
        snippets=(),
    )
    assert "asks for no token" in text
    assert re.findall(r"[^>]* running\.", text) == ([expected] if expected else [])


def test_errors_are_escaped(page: Page) -> None:
    """A message may quote what a client sent."""
    text = page.failure(heading="Conflict", message="<b>x</b> & y", base_url="/a&b/")
    assert "&lt;b&gt;x&lt;/b&gt; &amp; y" in text
    assert 'href="/a&amp;b/"' in text
    assert 'action="/a&amp;b/"' in page.sign_in(base_url="/a&b/", is_token_wrong=False)


def test_page_asks_for_a_token(page: Page) -> None:
    """It tells a wrong token from a missing one, and nothing of the gateway."""
    asking = page.sign_in(base_url="/", is_token_wrong=False)
    wrong = page.sign_in(base_url="/", is_token_wrong=True)
    assert "is wrong" not in asking
    assert "The token in the address is wrong." in wrong
    for text in (asking, wrong):
        assert "Version" not in text
        assert Reader(text).scripts == []
