"""The report in Chromium: all drawn, selections followed, nothing loaded, in dark and light, wide and narrow."""

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
    Opened,
    Scheme,
    assert_whole,
    open_page,
    running_chromium,
)
from taxi_orchestration_tests.support.report_frames import made_frames

HOSTILE = "</script><script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests."""
    with running_chromium() as launched:
        yield launched


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of fourteen months, one of them with an empty file."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_page(made_frames("2023-01", 14, empty=("2023-05",), zone=HOSTILE)), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser: Browser, file: Path) -> Iterator[Opened]:
    """The page on a wide, light screen."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="light")
    yield open_page(context, file)
    context.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_picture_is_drawn_and_nothing_is_loaded(browser: Browser, file: Path, width: int, scheme: Scheme) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert_whole(open_page(context, file), file, width, SCHEMES[scheme], charts=17)
    context.close()


def test_fewer_months_reach_every_picture_and_all_come_back(opened: Opened) -> None:
    days, rides = opened.marks("days-0"), opened.marks("rides-0")
    chosen = opened.page.locator("#chosen")
    assert chosen.inner_text().startswith("13 months")
    first = opened.page.locator("[data-chart=zones-0] text", has_text="·").first
    before = first.text_content()
    opened.page.select_option("#first-month", label="February 2023")
    opened.page.select_option("#last-month", label="March 2023")
    opened.settle()
    assert chosen.inner_text().startswith("2 months")
    # A square for each of 59 days, and seven in the legend.
    assert opened.page.locator("[data-chart=days-0] path[fill^='var(--step']").count() == 59 + 7
    assert opened.marks("rides-0") < rides
    assert first.text_content() != before
    assert opened.page.locator("[data-chart=trips-0] path[opacity='0.3']").count() == 11
    opened.page.click("#all-months")
    opened.settle()
    assert opened.marks("days-0") == days
    assert first.text_content() == before


def test_dragging_across_the_bars_chooses_months(opened: Opened) -> None:
    box = opened.page.locator("[data-chart=trips-0] svg").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.5
    opened.page.mouse.move(x, y)
    opened.page.mouse.down()
    opened.page.mouse.move(x + box["width"] * 0.25, y, steps=5)
    opened.page.mouse.up()
    opened.page.wait_for_function("!document.getElementById('chosen').textContent.startsWith('13 ')")
    assert int(opened.page.locator("#chosen").inner_text().split()[0]) in (3, 4, 5)
    brush = opened.page.locator("[data-chart=trips-0] .brush_brush path")
    assert brush.get_attribute("d") != "M0,0h0v0h0Z"
    opened.page.click("#all-months")
    opened.page.wait_for_function("document.getElementById('chosen').textContent.startsWith('13 ')")
    opened.page.wait_for_timeout(300)
    assert opened.page.locator("#chosen").inner_text().startswith("13 ")


def test_a_measure_and_boroughs_change_the_places(opened: Opened) -> None:
    labels = opened.page.locator("[data-chart=boroughs-0] text", has_text="·")
    pickups = labels.all_text_contents()
    opened.page.check("input[name=measure][value=total_amount]")
    opened.settle()
    revenue = labels.all_text_contents()
    assert all(label.startswith("$") for label in revenue)
    opened.page.check("input[name=measure][value=pickups]")
    opened.page.uncheck("input[name=borough][value='Borough 0']")
    opened.settle()
    assert len(labels.all_text_contents()) == len(pickups) - 1
    assert opened.page.locator("[data-chart=map-0] path[fill='var(--empty)']").count() == 4


def test_payment_types_that_are_not_chosen_disappear(opened: Opened) -> None:
    cash = "[data-chart=payments-0] path[fill='var(--category-2)']"
    before = opened.page.locator(cash).count()
    opened.page.uncheck("input[name=payment][value=Cash]")
    opened.settle()
    # What is left is the square in the legend.
    assert (before, opened.page.locator(cash).count()) == (14, 1)


def test_a_zone_of_the_map_is_chosen_by_click_and_by_keyboard(opened: Opened) -> None:
    choice = opened.page.locator("#zone-choice")
    assert choice.input_value() == "1"
    zones = opened.page.locator(
        "[data-chart=map-0] path[stroke='var(--page)'][aria-hidden], [data-chart=map-0] .mark-shape path"
    )
    zones.nth(5).click()
    opened.page.wait_for_function("document.getElementById('zone-choice').value === '6'")
    opened.settle()
    assert opened.page.locator("[data-chart=zones-0] path[fill='var(--before)']").count() == 1
    choice.focus()
    opened.page.keyboard.press("Home")
    opened.page.wait_for_function("document.getElementById('zone-choice').value !== '6'")


def test_hovering_a_zone_shows_its_hostile_name_as_text(opened: Opened) -> None:
    opened.page.locator("[data-chart=map-0] .mark-shape path").first.hover()
    tooltip = opened.page.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    assert HOSTILE in tooltip.inner_text()
    assert re.search(r"Revenue\s+\$[\d,]+\.\d\d", tooltip.inner_text())
    assert opened.page.title() == f"New York {DATASET.label}, month by month"
    assert opened.complaints == []


def test_a_table_unfolds_by_keyboard_and_is_copied_as_csv(opened: Opened) -> None:
    opened.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened.page.locator("#revenue summary").focus()
    opened.page.keyboard.press("Enter")
    opened.page.locator("#revenue .copy").click()
    opened.page.locator("#revenue .copy", has_text="Copied").wait_for()
    lines = opened.page.evaluate("navigator.clipboard.readText()").splitlines()
    assert lines[0] == "Month,Complete,Revenue,Year before"
    assert re.fullmatch(r"2023-01,yes,\d+\.\d\d,", lines[1])
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
    opened = open_page(context, file)
    opened.page.emulate_media(media="print")
    assert not opened.page.locator(".months").is_visible()
    accent = opened.page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--accent')").strip()
    assert accent == LIGHT["accent"]
    context.close()
