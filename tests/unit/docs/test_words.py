"""Names, comments, messages and pages use the field's words, not private ones."""

import functools
import re
from pathlib import Path

import pytest

THIS = Path(__file__)
ROOT = THIS.parents[3]
FOLDERS = (
    "benchmarks",
    "docs",
    "enterprise_gateway",
    "etc",
    "kernel_agent",
    "scripts",
    "tests",
    "tools",
)
SPACE = r"[\s_#*]+"
LINE_FEED = "\n"
SUFFIXES = {"", ".cfg", ".json", ".md", ".py", ".R", ".scala", ".sh", ".toml", ".yml"}

BANNED = {
    "appointments?": "deadline",
    "brooms?": "cleanup schedule",
    "bringup": "devtools",
    "burial|buried|bury": "expire",
    "companions?": "sidecar",
    "couples?": "pair",
    "fates?": "end, exit",
    "gateway process(es)?": "replica, or gateway",
    "guardian": "engine keeper",
    "last words": "final state, or the end of the log",
    "lend(s|er|ing)?|lent|loans?": "inject",
    "seats?": "network endpoint",
    "sightings?": "observation",
    "sweep(s|ing)?|swept": "remove, trim",
}
"""Regular expression of each word, and what to say instead; docs/glossary.md has our own words."""

PRONOUNS = {
    "anybody": "any client, other runs",
    "everybody": "every client, all processes",
    "no(body|bodys| one)": "no client, no replica",
    "some(body|one)": "a client, a user",
    "who(ever|mever)": "the client that, the replica that",
}
"""Words that hide the actor: who does something, or for whom it is done, has a name."""


@functools.cache
def texts() -> dict[str, str]:
    """Return the text of each file that people read or write, by its path; CamelCase as words."""
    files = [*ROOT.glob("*.md"), ROOT / "pyproject.toml"]
    for folder in FOLDERS:
        files += (ROOT / folder).rglob("*")
    found = {}
    for file in files:
        is_generated = {"__pycache__", "build", "node_modules"} & set(file.parts)
        if file.suffix in SUFFIXES and file.is_file() and not is_generated and file != THIS:
            text = file.read_text(encoding="utf-8")
            found[str(file.relative_to(ROOT))] = re.sub("(?<=[a-z])(?=[A-Z])", "_", text)
    return found


@pytest.mark.parametrize("word", BANNED)
def test_private_words_are_not_used(word: str) -> None:
    """Neither in prose, also over a line's end, nor as a part of a name."""
    assert find_uses(word, texts()) == [], f"say {BANNED[word]}"


@pytest.mark.parametrize("word", PRONOUNS)
def test_actor_is_named(word: str) -> None:
    """By a word of the glossary, of Jupyter or of Docker; in tests as well."""
    assert find_uses(word, texts()) == [], f"say {PRONOUNS[word]}"


def find_uses(word: str, texts: dict[str, str]) -> list[str]:
    """Return the places where a word is used."""
    pattern = re.compile(rf"(?<![a-z])(?:{word.replace(' ', SPACE)})(?![a-z])", re.IGNORECASE)
    return [
        f"{path}:{text.count(LINE_FEED, 0, match.start()) + 1}: {match[0]}"
        for path, text in texts.items()
        for match in pattern.finditer(text)
    ]
