"""Names and other texts in Markdown, shown as they are: what would be read as markup is escaped."""

from __future__ import annotations

import re

# Only where Markdown (CommonMark, with GitHub's tables) would see markup: other text stays as it was written.
_ESCAPED = r"\\(?=[!-/:-@\[-`{-~])|[`*~]|(?<!\w)_|_(?!\w)"
_IN_TEXT, _IN_LINK = re.compile(rf"{_ESCAPED}|\](?=[(\[])"), re.compile(rf"{_ESCAPED}|[\[\]]")
_ENTITIES = ((re.compile(r"&(?=#?\w+;)"), "&amp;"), (re.compile(r"<(?=[A-Za-z/!?])"), "&lt;"))


def markdown_text(text: str) -> str:
    """A text on one line, for headings and paragraphs."""
    return _escaped(text, _IN_TEXT)


def markdown_link_text(text: str) -> str:
    """A text as the words of a link or an image."""
    return _escaped(text, _IN_LINK)


def markdown_cell(text: str) -> str:
    """A text in a cell of a pipe table."""
    return markdown_text(text).replace("|", r"\|")


def _escaped(text: str, marks: re.Pattern[str]) -> str:
    line = marks.sub(r"\\\g<0>", " ".join(text.splitlines()))
    for pattern, replacement in _ENTITIES:
        line = pattern.sub(replacement, line)
    return line
