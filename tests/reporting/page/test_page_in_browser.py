"""The report's page in a real browser: it renders, it sorts, and nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hybatch.reporting.grids.groups import gather_grid
from hybatch.reporting.grids.record_folder import read_record_folder
from hybatch.reporting.inputs import ReportInputs
from hybatch.reporting.report import write_report
from hybatch.reporting.tables.measured import Measured
from tests.reporting.grids.synthetic import DESCRIPTION, core, write_record
from tests.reporting.page.browser import chromium, logged, missing, requested
from tests.reporting.synthetic import MLQA_LANGUAGES, checked, make_results

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"no {' or '.join(missing())} on this machine"),
]
TABLE = "table[aria-labelledby=table-mlqa-r-summary]"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a small grid and of plain results, two of which tie in one column."""
    folder = tmp_path_factory.mktemp("report")
    specs = core(seeds=(1, 2))
    grid = gather_grid(
        [read_record_folder(write_record(folder / "records", spec, num_questions=5)) for spec in specs], DESCRIPTION
    )
    results = {name: make_results(name, level) for name, level in (("<b>a</b>", 0.4), ("bb", 0.6), ("ccc", 0.5))}
    results["dddd"] = make_results("dddd", 0.5)
    results["dddd"]["summary"]["monolingual"]["map"] = None
    results["ccc"]["summary"]["cross_lingual"]["map"] = results["bb"]["summary"]["cross_lingual"]["map"]
    measured = tuple(Measured(name, checked(one)) for name, one in results.items())
    write_report(ReportInputs(measured, (), (), grid), folder / "report")
    return folder / "report" / "report.html"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def page(driver: Any, report: Path) -> Any:
    """The page, opened from its file; what was logged and fetched by opening it is still to be read."""
    driver.get("about:blank")
    logged(driver), requested(driver)
    driver.get(report.as_uri())
    return driver


def _column(page: Any, heading: int) -> list[list[str]]:
    """The texts of a column, block by block, as they stand now."""
    script = """return [...document.querySelector(arguments[0]).tBodies].map(
        body => [...body.rows].map(row => row.cells[arguments[1]].innerText))"""
    return page.execute_script(script, TABLE, heading)


def _sort(page: Any, heading: int) -> str:
    """Click a heading; the direction that it then tells assistive technology."""
    button = page.find_elements("css selector", f"{TABLE} thead button")[heading]
    page.execute_script("arguments[0].scrollIntoView()", button)
    button.click()
    headings = page.find_elements("css selector", f"{TABLE} thead th")
    told = [one.get_attribute("aria-sort") for one in headings]
    assert set(told[:heading] + told[heading + 1 :]) == {"none"}
    return told[heading]


def test_every_table_and_figure_has_a_size(page: Any) -> None:
    script = """return [...document.querySelectorAll(arguments[0])].map(
        one => [one.offsetWidth, one.offsetHeight, one.naturalWidth ?? 1])"""
    tables, images = page.execute_script(script, "table"), page.execute_script(script, "img")
    assert len(tables) > 15
    assert len(images) > 15
    assert min(min(size) for size in tables + images) > 0
    assert min(width for width, _, _ in images) > 200


def test_opening_the_page_fetches_nothing_and_logs_nothing(page: Any, report: Path) -> None:
    page.execute_script("scrollTo(0, document.body.scrollHeight)")
    assert requested(page) == [report.as_uri()]
    entries = page.execute_script("return performance.getEntriesByType('resource').map(one => one.name)")
    assert [name for name in entries if not name.startswith("data:")] == []
    assert logged(page) == []


def test_a_page_that_fetches_and_logs_would_be_noticed(driver: Any, tmp_path: Path) -> None:
    other = tmp_path / "other.html"
    other.write_text("<!DOCTYPE html><img src=there.png><script>console.error('said')</script>")
    driver.get(other.as_uri())
    assert f"{tmp_path.as_uri()}/there.png" in requested(driver)
    assert any("said" in line for line in logged(driver))


def test_the_policy_stops_what_a_script_would_fetch(page: Any) -> None:
    script = """const done = arguments[0];
        document.addEventListener("securitypolicyviolation", event => done(event.violatedDirective));
        const image = new Image();
        image.src = "http://127.0.0.1:9/";"""
    page.set_script_timeout(20)
    assert page.execute_async_script(script) == "img-src"


def test_a_heading_sorts_best_first_then_worst_first_then_as_it_was(page: Any) -> None:
    before = _column(page, 1)
    assert len(before) == 2
    assert before[0][-1] == "–"
    assert _sort(page, 1) == "descending"
    down = _column(page, 1)
    assert [[text for text in block if text != "–"] for block in down] == [
        sorted((text for text in block if text != "–"), reverse=True) for block in before
    ]
    assert down[0][-1] == "–"
    assert _sort(page, 1) == "ascending"
    up = _column(page, 1)
    assert [[text for text in block if text != "–"] for block in up] == [
        sorted(text for text in block if text != "–") for block in before
    ]
    assert up[0][-1] == "–"
    assert down != before
    assert _sort(page, 1) == "none"
    assert _column(page, 1) == before


def test_lower_figures_that_are_better_come_first(page: Any) -> None:
    assert _sort(page, 4) == "ascending"
    published = [float(text) for text in _column(page, 4)[1]]
    assert published == sorted(published)
    assert published[0] < published[-1]


def test_rows_that_tie_keep_the_order_of_the_sort_before(page: Any) -> None:
    assert _sort(page, 0) == "ascending"
    assert _column(page, 0)[0] == ["<b>a</b>", "bb", "ccc", "dddd"]
    _sort(page, 2)
    assert _column(page, 0)[0][:2] == ["bb", "ccc"]
    _sort(page, 0)
    assert _sort(page, 0) == "descending"
    _sort(page, 2)
    assert _column(page, 0)[0][:2] == ["ccc", "bb"]


@pytest.mark.parametrize("key", ["ENTER", "SPACE"])
def test_a_heading_sorts_from_the_keyboard(page: Any, key: str) -> None:
    from selenium.webdriver.common.keys import Keys

    heading = page.find_elements("css selector", f"{TABLE} thead th")[1]
    page.execute_script("arguments[0].querySelector('button').focus()", heading)
    page.switch_to.active_element.send_keys(getattr(Keys, key))
    assert heading.get_attribute("aria-sort") == "descending"


def test_a_phone_scrolls_tables_and_figures_but_not_the_page(page: Any) -> None:
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        width = page.execute_script("return document.documentElement.scrollWidth")
        wide = page.execute_script(
            "return [...document.querySelectorAll('.wide')].some(one => one.scrollWidth > one.clientWidth)"
        )
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert width <= 390
    assert wide


def test_dark_surroundings_get_light_text_on_a_dark_page(page: Any) -> None:
    script = """const style = getComputedStyle(document.body);
        return [style.color, style.backgroundColor].map(one => one.match(/\\d+/g).slice(0, 3).map(Number))"""
    for scheme, is_dark in (("light", False), ("dark", True)):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        text, ground = (sum(colour) for colour in page.execute_script(script))
        assert (text > ground) == is_dark
        assert abs(text - ground) > 450
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_print_shows_whole_tables_and_leaves_the_contents_out(page: Any) -> None:
    landscape = {"width": 1047, "height": 718, "deviceScaleFactor": 1, "mobile": False}  # A4 within its margins
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", landscape)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        width = page.execute_script("return document.documentElement.scrollWidth")
        contents = page.execute_script("return document.querySelector('nav').offsetHeight")
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert width <= 1047
    assert contents == 0


def test_languages_of_the_table_are_those_of_the_results(page: Any) -> None:
    headings = page.find_elements("css selector", "table[aria-labelledby=table-mlqa-r-monolingual] thead button")
    assert [one.text for one in headings] == ["", *MLQA_LANGUAGES, "mean"]
