"""The report in Chromium: charts, selections and loaded resources, in both colour schemes and two widths."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from taxi_orchestration.report.page import render_page
from taxi_orchestration.report.palette import LIGHT
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration_tests.support.browser import (
    CHROMIUM,
    SCHEMES,
    WIDTHS,
    OpenedPage,
    Scheme,
    assert_complete,
    open_page,
    running_chromium,
)
from taxi_orchestration_tests.support.report_frames import synthetic_frames

HOSTILE = "</script><script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of this module."""
    with running_chromium() as launched:
        yield launched


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of fourteen months, one of them with an empty file."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_page(synthetic_frames("2023-01", 14, empty=("2023-05",), zone=HOSTILE)), encoding="utf-8")
    return path


@pytest.fixture
def report(browser: Browser, file: Path) -> Iterator[OpenedPage]:
    """The page in a wide window with the light colour scheme."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="light")
    yield open_page(context, file)
    context.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_chart_is_drawn_and_no_other_file_is_requested(
    browser: Browser, file: Path, width: int, scheme: Scheme
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert_complete(open_page(context, file), file, width, SCHEMES[scheme], charts=17)
    context.close()


def test_a_selection_of_months_changes_the_charts_and_all_months_can_be_restored(report: OpenedPage) -> None:
    days, rides = report.count_marks("days-0"), report.count_marks("rides-0")
    chosen = report.page.locator("#chosen")
    assert chosen.inner_text().startswith("13 months")
    first = report.page.locator("[data-chart=zones-0] text", has_text="·").first
    before = first.text_content()
    report.page.select_option("#first-month", label="February 2023")
    report.page.select_option("#last-month", label="March 2023")
    report.settle()
    assert chosen.inner_text().startswith("2 months")
    # A square for each of 59 days, and seven in the legend.
    assert report.page.locator("[data-chart=days-0] path[fill^='var(--step']").count() == 59 + 7
    assert report.count_marks("rides-0") < rides
    assert first.text_content() != before
    assert report.page.locator("[data-chart=trips-0] path[opacity='0.3']").count() == 11
    # In reverse order: from February to March, then from June on. There is no May.
    report.page.select_option("#first-month", label="June 2023")
    report.settle()
    assert chosen.inner_text().startswith("3 months")
    assert report.page.locator("[data-chart=days-0] path[fill^='var(--step']").count() == 31 + 30 + 30 + 7
    report.page.click("#all-months")
    report.settle()
    assert report.count_marks("days-0") == days
    assert first.text_content() == before


def test_dragging_across_the_bars_selects_months(report: OpenedPage) -> None:
    box = report.page.locator("[data-chart=trips-0] svg").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.5
    report.page.mouse.move(x, y)
    report.page.mouse.down()
    report.page.mouse.move(x + box["width"] * 0.25, y, steps=5)
    report.page.mouse.up()
    # The selection grows with each step of the mouse.
    report.page.wait_for_function("/^[345] /.test(document.getElementById('chosen').textContent)")
    brush = report.page.locator("[data-chart=trips-0] .brush_brush path")
    assert brush.get_attribute("d") != "M0,0h0v0h0Z"
    report.page.click("#all-months")
    report.page.wait_for_function("document.getElementById('chosen').textContent.startsWith('13 ')")
    report.page.wait_for_timeout(300)
    assert report.page.locator("#chosen").inner_text().startswith("13 ")


def test_the_selected_measure_and_boroughs_change_the_map_and_the_boroughs_chart(report: OpenedPage) -> None:
    labels = report.page.locator("[data-chart=boroughs-0] text", has_text="·")
    pickups = labels.all_text_contents()
    report.page.check("input[name=measure][value=total_amount]")
    report.settle()
    revenue = labels.all_text_contents()
    assert all(label.startswith("$") for label in revenue)
    report.page.check("input[name=measure][value=pickups]")
    report.page.uncheck("input[name=borough][value='Borough 0']")
    report.settle()
    assert len(labels.all_text_contents()) == len(pickups) - 1
    assert report.page.locator("[data-chart=map-0] path[fill='var(--empty)']").count() == 4


def test_payment_types_that_are_not_selected_are_not_drawn(report: OpenedPage) -> None:
    cash = "[data-chart=payments-0] path[fill='var(--category-2)']"
    before = report.page.locator(cash).count()
    report.page.uncheck("input[name=payment][value=Cash]")
    report.settle()
    # Only the square in the legend remains.
    assert (before, report.page.locator(cash).count()) == (14, 1)


def test_a_zone_of_the_map_is_selected_by_click_and_by_keyboard(report: OpenedPage) -> None:
    choice = report.page.locator("#zone-choice")
    assert choice.input_value() == "1"
    zones = report.page.locator(
        "[data-chart=map-0] path[stroke='var(--page)'][aria-hidden], [data-chart=map-0] .mark-shape path"
    )
    zones.nth(5).click()
    report.page.wait_for_function("document.getElementById('zone-choice').value === '6'")
    report.settle()
    assert report.page.locator("[data-chart=zones-0] path[fill='var(--before)']").count() == 1
    choice.focus()
    report.page.keyboard.press("Home")
    report.page.wait_for_function("document.getElementById('zone-choice').value !== '6'")


def test_hovering_a_zone_shows_its_hostile_name_as_text(report: OpenedPage) -> None:
    report.page.locator("[data-chart=map-0] .mark-shape path").first.hover()
    tooltip = report.page.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    assert HOSTILE in tooltip.inner_text()
    assert re.search(r"Revenue\s+\$[\d,]+\.\d\d", tooltip.inner_text())
    assert report.page.title() == f"New York {DATASET.label}, month by month"
    assert report.messages == []


def test_a_table_is_opened_by_keyboard_and_copied_as_csv(report: OpenedPage) -> None:
    report.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    report.page.locator("#revenue summary").focus()
    report.page.keyboard.press("Enter")
    report.page.locator("#revenue .copy").click()
    report.page.locator("#revenue .copy", has_text="Copied").wait_for()
    lines = report.page.evaluate("navigator.clipboard.readText()").splitlines()
    assert lines[0] == "Month,Revenue,Year before"
    assert re.fullmatch(r"2023-01,\d+\.\d\d,", lines[1])
    assert len(lines) == 14


def test_without_javascript_the_page_is_readable(browser: Browser, file: Path) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.locator("[data-chart] > svg").count() == 17
    assert not page.locator(".months").is_visible()
    page.locator("#days summary").click()
    assert page.locator("#days-table tbody tr").count() == 365 + 31 + 29 - 31
    context.close()


def test_a_printed_page_is_light_and_has_no_controls(browser: Browser, file: Path) -> None:
    context = browser.new_context(color_scheme="dark", viewport={"width": 1000, "height": 900})
    report = open_page(context, file)
    report.page.emulate_media(media="print")
    assert not report.page.locator(".months").is_visible()
    accent = report.page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--accent')").strip()
    assert accent == LIGHT["accent"]
    context.close()
