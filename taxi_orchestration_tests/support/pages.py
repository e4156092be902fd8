"""The pages of the documentation, parsed as Markdown: code blocks, links and names.

integration/test_docs.py runs the code blocks; unit/test_docs_names.py checks that links and names exist.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from taxi_orchestration.settings import PROJECT_DIRECTORY

# In reading order.
PAGES = [
    "README.md",
    *(f"docs/lessons/{path.name}" for path in sorted((PROJECT_DIRECTORY / "docs" / "lessons").glob("[1-9]-*.md"))),
    "docs/class.md",
    "docs/connect.md",
    "docs/from-airflow.md",
    "docs/cookbook.md",
    "docs/architecture.md",
    "docs/published-figures.md",
    "docs/reliability.md",
    "docs/reliability-tests.md",
    "docs/deploy.md",
    "docs/scale.md",
]

# Marks after the language of a block. `fails`: it ends with an error. `slow`: `make check-docs` runs it, CI does not.
# `airflow`: for Airflow, not run. `tested-by=...`: this test runs it, or the same commands with other values.
MARKS = {"fails", "slow", "airflow"}
TESTED_BY = "tested-by="


@dataclass(frozen=True)
class Block:
    """A fenced code block of a page; `line` is its first line."""

    page: str
    line: int
    language: str
    marks: tuple[str, ...]
    text: str

    @property
    def place(self) -> str:
        """Return the file and the line of the block, in the form that editors accept."""
        return f"{self.page}:{self.line}"

    @property
    def test(self) -> str | None:
        """Return the test of the mark `tested-by=...`, as a path below taxi_orchestration_tests/, or None."""
        return next((mark.removeprefix(TESTED_BY) for mark in self.marks if mark.startswith(TESTED_BY)), None)


@dataclass(frozen=True)
class Example:
    """Commands as a reader copies them, and the output that the page shows directly after them."""

    block: Block
    shown: str | None


@dataclass(frozen=True)
class Page:
    """A page; `name` is its path in the checkout."""

    name: str

    @property
    def path(self) -> Path:
        """Return the file of the page."""
        return PROJECT_DIRECTORY / self.name

    @cached_property
    def tokens(self) -> list[Token]:
        """Return the tokens of the page, parsed as CommonMark with tables, as on GitHub."""
        tokens = MarkdownIt("commonmark").enable("table").parse(self.path.read_text(encoding="utf-8"))
        return [each for token in tokens for each in (token, *(token.children or ()))]

    def blocks(self) -> Iterator[Block]:
        """Yield the fenced blocks of the page, from top to bottom."""
        for token in self.tokens:
            if token.type == "fence":
                language, *marks = token.info.split() or [""]
                yield Block(self.name, (token.map or [0])[0] + 1, language, tuple(marks), token.content)

    def examples(self) -> Iterator[Example]:
        """Yield the `bash` blocks of the page, each with the `text` block that follows directly."""
        blocks = [*self.blocks(), None]
        for block, following in pairwise(blocks):
            if block and block.language == "bash":
                shown = following.text if following and following.language == "text" else None
                yield Example(block, shown)

    def code(self) -> Iterator[str]:
        """Return the texts between backticks in the page's sentences."""
        return (token.content for token in self.tokens if token.type == "code_inline")

    def links(self) -> Iterator[str]:
        """Yield the targets of the page's links and pictures."""
        for token in self.tokens:
            target = token.attrs.get("href" if token.type == "link_open" else "src")
            if target and token.type in ("link_open", "image"):
                yield str(target)

    def anchors(self) -> set[str]:
        """Return the anchors that GitHub generates for the page's headings."""
        tokens = self.tokens
        headings = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def pages() -> list[Page]:
    """Return all pages in reading order."""
    return [Page(name) for name in PAGES]
