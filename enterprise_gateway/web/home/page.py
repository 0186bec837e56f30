"""The HTML of the front page and of errors, made of `page.html`. Pure.

Every value is escaped where it enters the page. The page loads nothing: its style and its script
stand in it, and its Content-Security-Policy names both by their hashes, so no other runs.
"""

import base64
import hashlib
import html
import re
from collections.abc import Iterable
from string import Template

from enterprise_gateway.web.home.clients import Snippet

_PART = re.compile(r"^<!-- part: ([a-z-]+) -->\n", re.MULTILINE)


class Page:
    """Fills in the parts of a template.

    Attributes:
        policy: The Content-Security-Policy of each page.
    """

    def __init__(self, template: str) -> None:
        """Divide a template into its parts.

        Args:
            template: Parts of HTML with `$names`, each below a line `<!-- part: NAME -->`.
        """
        _, *pieces = _PART.split(template)
        texts = (piece.removesuffix("\n") for piece in pieces[1::2])
        self._parts = dict(zip(pieces[0::2], texts, strict=True))
        self.policy = "; ".join(
            (
                "default-src 'none'",
                f"style-src {_hash_source(self._parts['style'])}",
                f"script-src {_hash_source(self._parts['script'])}",
                "img-src data:",
                "form-action 'self'",
                "base-uri 'none'",
                "frame-ancestors 'none'",
            )
        )

    def welcome(
        self,
        *,
        version: str,
        standing: tuple[str, bool],
        kernels: int | None,
        snippets: Iterable[Snippet],
    ) -> str:
        """Return the front page of a user who may use the gateway.

        Args:
            version: The gateway's.
            standing: What the page says of the user's credentials, and whether they have shown any.
            kernels: How many run; None if that is not known, or not for this user.
            snippets: How clients connect.
        """
        text, has_credentials = standing
        facts = [self._fill("fact", kind="on" if has_credentials else "off", text=text)]
        if kernels is not None:
            kind = "on" if kernels else "off"
            facts.append(self._fill("fact", kind=kind, text=_count_kernels(kernels)))
        main = self._join(
            "welcome",
            facts="\n".join(facts),
            snippets="\n".join(self._snippet(snippet) for snippet in snippets),
        )
        return self._lay_out(
            "Enterprise Gateway",
            main,
            version=self._fill("version", text=version),
            script=f"<script>{self._parts['script']}</script>",
        )

    def sign_in(self, *, base_url: str, is_token_wrong: bool) -> str:
        """Return the page that asks for the token."""
        heading = "Wrong token" if is_token_wrong else "Token, please"
        complaint = self._parts["complaint"] if is_token_wrong else ""
        base = html.escape(base_url)
        main = self._join("sign-in", heading=heading, complaint=complaint, base_url=base)
        return self._lay_out(f"{heading} - Enterprise Gateway", main)

    def failure(self, *, heading: str, message: str, base_url: str) -> str:
        """Return the page of an error."""
        main = self._fill("failure", heading=heading, message=message, base_url=base_url)
        return self._lay_out(f"{heading} - Enterprise Gateway", main)

    def _snippet(self, snippet: Snippet) -> str:
        secret = self._fill("secret", text=snippet.token) if snippet.token else ""
        return self._join(
            "snippet",
            id=html.escape(snippet.id),
            title=html.escape(snippet.title),
            hint=html.escape(snippet.hint),
            code=html.escape(snippet.before) + secret + html.escape(snippet.after),
        )

    def _lay_out(self, title: str, main: str, *, version: str = "", script: str = "") -> str:
        return self._join(
            "layout",
            title=html.escape(title),
            style=self._parts["style"],
            version=version,
            main=main,
            script=script,
        )

    def _fill(self, part: str, **values: str) -> str:
        """Return a part with text in it, escaped."""
        return self._join(part, **{name: html.escape(value) for name, value in values.items()})

    def _join(self, part: str, **values: str) -> str:
        """Return a part with HTML in it."""
        return Template(self._parts[part]).substitute(values)


def _hash_source(text: str) -> str:
    """Return the source of a Content-Security-Policy that is exactly this text."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _count_kernels(count: int) -> str:
    if not count:
        return "No kernel is running."
    return "1 kernel is running." if count == 1 else f"{count} kernels are running."
