"""The report's HTML page: well formed, escaped, complete in one file."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import lxml.html
import pytest

from hybatch.reporting.figures.curves import draw_learning_curves
from hybatch.reporting.figures.files import FigureFolder
from hybatch.reporting.inputs import LearningCurve, ReportInputs
from hybatch.reporting.page.html import PageSection, html_page
from hybatch.reporting.report import write_report
from hybatch.reporting.tables.table import Column, ReportTable, Row
from hybatch.reporting.tables.words import TextTable
from tests.reporting.synthetic import make_measured

ROWS = (
    Row("<b>one</b> & \"two\" 'three'", (0.50001, 12.0, "<i>yes</i>"), deviations=(0.0124, None, None)),
    Row("second", (0.6, None, "no"), signs=("†", "", "")),
    Row("third", (0.7, 14.0, None)),
    Row("XLM-R (published)", (0.9, 1.0, None), measured=False),
)
COLUMNS = (Column("mAP <best>"), Column("rank distance", 1, higher_is_better=False), Column("words"))
TABLE = ReportTable("t-summary", "50% of <a>", COLUMNS, ROWS, note="Published: arXiv 2408.10536 & <more>.")
VOID = {"meta", "link", "img", "br"}


class _Nesting(HTMLParser):
    """Fails at a tag that closes another than the last opened one."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()


@pytest.fixture
def page(tmp_path: Path) -> str:
    figure = draw_learning_curves({"loss": {"x-y": [(1, 3.0), (2, 2.0)]}}, title="run <1>")
    drawn = FigureFolder(tmp_path).write(figure, "curves-run", "the curve of <run> & co")
    provenance = TextTable("What was <measured>", ("run", "commit"), (("a & b", "<0123>"),))
    sections = [
        PageSection("Tables & <more>", tables=[TABLE]),
        PageSection("Nothing"),
        PageSection("Curves", figures=[drawn]),
        PageSection("Provenance", tables=[provenance]),
    ]
    return html_page("Report of <x>", sections, tmp_path)


def test_every_tag_is_closed_and_every_id_is_one_of_its_own(page: str) -> None:
    nesting = _Nesting()
    nesting.feed(page)
    assert nesting.open == []
    ids = lxml.html.fromstring(page).xpath("//@id")
    assert len(ids) == len(set(ids)) >= 5


def test_the_contents_lead_to_every_section_table_and_figure(page: str) -> None:
    document = lxml.html.fromstring(page)
    links = [link.removeprefix("#") for link in document.xpath("//nav//a/@href")]
    targets = document.xpath("//main//h2/@id | //main//h3/@id | //main//figure/@id")
    assert links == targets
    assert [heading.text for heading in document.xpath("//h2")] == ["Tables & <more>", "Curves", "Provenance"]


def test_texts_are_escaped_wherever_they_stand(page: str) -> None:
    document = lxml.html.fromstring(page)
    assert document.xpath("//tbody/tr/th/text()")[0] == "<b>one</b> & \"two\" 'three'"
    assert document.xpath("//th/button/text()")[0] == "mAP <best>"
    assert "<i>yes</i>" in document.xpath("//td/text()")
    assert document.xpath("//h3/text()") == ["50% of <a>", "What was <measured>"]
    assert document.xpath("//img/@alt") == ["the curve of <run> & co"]
    assert document.xpath("//p[@class='note']")[0].text_content() == "Published: arXiv 2408.10536 & <more>."
    assert not document.xpath("//i | //best | //more | //measured | //run | //a[not(@href)]")


def test_figures_are_marked_as_in_print_and_sort_by_full_precision(page: str) -> None:
    document = lxml.html.fromstring(page)
    table = document.xpath("//table")[0]
    cells = [
        ["".join(lxml.html.tostring(cell, encoding="unicode").split()) for cell in row] for row in table.iter("tr")
    ]
    assert cells[1][1] == '<tdclass="number"data-value="0.50001">0.5000±0.0124</td>'
    assert cells[2][1] == '<tdclass="number"data-value="0.6"><u>0.6000</u>†</td>'
    assert cells[3][1] == '<tdclass="number"data-value="0.7"><b>0.7000</b></td>'
    assert cells[1][2] == '<tdclass="number"data-value="12.0"><b>12.0</b></td>'
    assert cells[2][2] == '<tdclass="number"data-value="">–</td>'
    assert cells[4][1] == '<tdclass="number"data-value="0.9">0.9000</td>'
    assert [body.get("class") for body in table.iter("tbody")] == [None, "published"]
    assert [heading.get("data-first") for heading in table.xpath(".//thead//th")[1:3]] == ["descending", "ascending"]


def test_the_page_refers_to_nothing_but_citations(page: str) -> None:
    document = lxml.html.fromstring(page)
    citation = "https://arxiv.org/abs/2408.10536"
    for name in ("src", "srcset", "action", "data", "poster", "background"):
        assert all(value.startswith("data:") for value in document.xpath(f"//@{name}"))
    assert all(link.get("href") == "data:," for link in document.xpath("//link"))
    assert {href for href in document.xpath("//a/@href") if not href.startswith("#")} == {citation}
    assert set(re.findall(r"https?://[^\s\"'<]+", page)) == {citation}
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", page)


def test_the_policy_allows_the_style_and_script_that_are_there_and_nothing_else(page: str) -> None:
    document = lxml.html.fromstring(page)
    (policy,) = document.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")

    def digest(tag: str) -> str:
        (text,) = document.xpath(f"//{tag}/text()")
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules == {
        "default-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "img-src": "data:",
        "style-src": f"'sha256-{digest('style')}'",
        "script-src": f"'sha256-{digest('script')}'",
    }
    assert not document.xpath("//@style | //@onclick")


def test_figures_stand_in_the_page_as_their_svg(page: str, tmp_path: Path) -> None:
    (source,) = lxml.html.fromstring(page).xpath("//img/@src")
    kind, data = source.split(",")
    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(data) == (tmp_path / "curves-run.svg").read_bytes()


def test_a_report_of_results_has_every_table_and_figure_of_its_markdown_in_the_page(tmp_path: Path) -> None:
    levels = {"a": 0.5, "b": 0.4}
    measured = tuple(make_measured(name, level, "t", ("ar", "de")) for name, level in levels.items())
    curve = LearningCurve("a", tuple({"step": step, "loss": 1 / step, "kind": "x-y"} for step in range(1, 9)))
    inputs = ReportInputs(measured, (), (curve,), None)
    for name in ("one", "two"):
        write_report(inputs, tmp_path / name)
    markdown = (tmp_path / "one" / "report.md").read_text()
    document = lxml.html.fromstring((tmp_path / "one" / "report.html").read_text())
    captions = re.findall(r"^### (.*)$", markdown, flags=re.MULTILINE)
    shown = [*document.xpath("//h3/text()"), *document.xpath("//figcaption/text()")]
    assert sorted(captions) == sorted(shown)
    assert len(document.xpath("//img")) == len(list((tmp_path / "one").glob("*.png"))) == 4
    assert (tmp_path / "one" / "report.html").read_bytes() == (tmp_path / "two" / "report.html").read_bytes()
    provenance = document.xpath("//h3[text()='What was measured']/following-sibling::div[1]//td/text()")
    assert provenance == ["t", "a", "torch", "hybatch 0", "t", "b", "torch", "hybatch 0"]
