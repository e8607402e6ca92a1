"""Names show as they are in Markdown, by a parser of CommonMark with GitHub's tables."""

from __future__ import annotations

import lxml.html
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from hybatch.reporting.tables.markdown import markdown_link_text, markdown_text
from hybatch.reporting.tables.render import markdown
from hybatch.reporting.tables.table import Column, ReportTable, Row
from hybatch.reporting.tables.words import TextTable, text_markdown

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
# Letters, and all that is markup somewhere; blanks at the ends and in a row are not kept by HTML.
NAMES = st.text(st.sampled_from("ab1é<>&|*_`~[]()!\\/#;:.-=\"'"), min_size=1, max_size=24).map(lambda one: f"x{one}x")
HOSTILE = (
    "x<script>alert(1)</script>",
    "x|y",
    "x<img src=x onerror=a()>",
    "x[a](b)x",
    "x![a](b)",
    "x&lt;b&gt;",
    "x\\|x",
)


def _shown(source: str, tag: str) -> list[str]:
    document = lxml.html.fromstring(f"<div>{PARSER.render(source)}</div>")
    tags = {element.tag for element in document.iter()}
    assert tags <= {"div", "h3", "p", "table", "thead", "tbody", "tr", "th", "td", "strong", "u", "img"}, tags
    return [element.text_content() for element in document.iter(tag)]


@settings(max_examples=300, deadline=None)
@given(name=NAMES)
def test_a_name_is_shown_as_it_is_in_headings_cells_notes_and_images(name: str) -> None:
    table = ReportTable("t", name, (Column(name), Column("b")), (Row(name, (name, 0.5)),), note=name)
    source = markdown(table)
    assert _shown(source, "h3") == [name]
    assert _shown(source, "th") == ["", name, "b"]
    assert _shown(source, "td") == [name, name, "0.5000"]
    assert _shown(source, "p") == [name]
    words = text_markdown(TextTable(name, ("a", name), ((name, name),)))
    assert _shown(words, "td") == [name, name]
    image = PARSER.render(f"![{markdown_link_text(name)}](figure.png)")
    assert lxml.html.fromstring(image).xpath("//img/@alt") == [name]


@pytest.mark.parametrize("name", HOSTILE)
def test_markup_in_a_name_is_text(name: str) -> None:
    test_a_name_is_shown_as_it_is_in_headings_cells_notes_and_images.hypothesis.inner_test(name)


@pytest.mark.parametrize("text", ["one_run", "p < 0.05", "0.5 ± 0.1†", "R & D", "[-0.1, +0.2]", "x-y (seed 1)", "50%"])
def test_text_without_markup_stays_as_it_was_written(text: str) -> None:
    assert markdown_text(text) == text


def test_a_name_of_several_lines_stands_on_one() -> None:
    assert markdown_text("a\nb\r\nc") == "a b c"
