"""`make screenshots`: the pictures of docs/images, made with months in a temporary home. One entry per picture."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from io import BytesIO, StringIO
from pathlib import Path

import pyte
from PIL import Image
from playwright.sync_api import Browser
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from taxi_orchestration.postgres.server import remove
from taxi_orchestration.settings import PROJECT_DIRECTORY
from taxi_orchestration_tests.support.browser import CHROMIUM, Scheme, open_page, running_chromium
from taxi_orchestration_tests.support.dagster_dev import Ui, dagster_dev
from taxi_orchestration_tests.support.programs import TAXI
from taxi_orchestration_tests.support.terminal import run_on_terminal

FIRST, LAST, SHOWN_MONTH = "2023-12", "2024-04", "2024-03"
IMAGES = PROJECT_DIRECTORY / "docs" / "images"
WIDTH = 1280
MARGIN = 24
LARGEST_BYTES = 100_000
# A page has few colours: with 128 of them a picture looks the same, and has a third of the bytes.
COLOURS = 128
TIMEOUT_MS = 60_000

# Pages of Dagster's UI: path, a text that the complete page shows, and height of the window in pixels.
PAGES = {
    "lineage": ("/assets/fct_trips?view=lineage", "trip_quality", 800),
    "month": (f"/assets/fct_trips?view=partitions&partition={SHOWN_MONTH}", "sum of total_amount", 800),
    "check": ("/assets/raw_trips?view=checks&checkDetail=volume_as_expected", "Plots", 960),
}
# Run one after another in a terminal of 80 columns.
MONTHS = "select pickup_month, trips, trips_per_day, total_amount from monthly_summary where is_complete order by 1"
COMMANDS = (["backfill", FIRST, LAST], ["psql", "--", "-c", MONTHS])
COLUMNS = 80
# Colours that have another name in pyte, which emulates the terminal, than in rich, which draws it.
COLOUR_NAMES = {"brown": "yellow"}
# Parts of the report: colour scheme, first and last element of the picture, and the elements that are hidden.
PARTS: Mapping[str, tuple[Scheme, str, str, str]] = {
    "report": ("light", "#where-heading", "#boroughs", "#zone, .months"),
    "report-dark": ("dark", "h1", "#revenue", "#days, #hours"),
}


def screenshot_ui_page(browser: Browser, ui: Ui, path: str, text: str, height: int) -> bytes:
    """Return a screenshot of a page of Dagster's UI."""
    page = browser.new_page(viewport={"width": WIDTH, "height": height})
    page.goto(f"{ui.page}{path}")
    page.get_by_text(text).first.wait_for(timeout=TIMEOUT_MS)
    # Animations need time to end.
    page.wait_for_timeout(3000)
    return page.screenshot()


def screenshot_report_part(browser: Browser, file: Path, scheme: Scheme, first: str, last: str, hidden: str) -> bytes:
    """Return a screenshot of the report from one element to the end of another, with a margin and without `hidden`."""
    page = open_page(browser.new_context(viewport={"width": WIDTH, "height": 900}, color_scheme=scheme), file).page
    page.add_style_tag(content=f"{hidden} {{ display: none !important }} .months {{ position: static }}")
    boxes = [page.locator(selector).first.bounding_box() for selector in (first, last)]
    top, bottom = (box["y"] + box["height"] * end for end, box in enumerate(boxes) if box)
    clip = {"x": 0, "y": top - MARGIN, "width": WIDTH, "height": bottom - top + 2 * MARGIN}
    return page.screenshot(full_page=True, clip=clip)  # type: ignore[arg-type]


def capture_terminal(command: list[str], environment: Mapping[str, str]) -> Text:
    """Run `taxi` on a terminal, and return the command line and the final screen."""
    result = run_on_terminal([TAXI, *command], environment, columns=COLUMNS)
    if result.returncode:
        sys.exit(result.text)
    screen = pyte.Screen(COLUMNS, 100)
    pyte.Stream(screen).feed(result.screen)
    text = Text.assemble(("$ ", "bold green"), (f"taxi {shlex.join(command)}\n", "bold"))
    for number, line in enumerate(screen.display):
        for column, character in enumerate(line):
            cell = screen.buffer[number][column]
            text.append(character, f"{'bold ' if cell.bold else ''}{COLOUR_NAMES.get(cell.fg, cell.fg)}")
        text.append("\n")
    text.rstrip()
    return text


def draw_terminal(browser: Browser, screens: list[Text]) -> bytes:
    """Return a picture of the command lines and screens."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    console.print(*screens, sep="\n\n")
    page = browser.new_page()
    page.set_content(console.export_html(theme=MONOKAI, inline_styles=True))
    page.add_style_tag(content="body { margin: 0 } pre { display: inline-block; margin: 0; padding: 24px }")
    return page.locator("pre").screenshot()


def save(name: str, screenshot: bytes) -> None:
    """Save a picture with few colours. Exits if the file is too large."""
    path = IMAGES / f"{name}.png"
    Image.open(BytesIO(screenshot)).convert("RGB").quantize(COLOURS).save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path.relative_to(PROJECT_DIRECTORY)}: {size:,} bytes")
    if size > LARGEST_BYTES:
        sys.exit(f"{path} is larger than {LARGEST_BYTES:,} bytes: show less in it.")


def main() -> None:
    """Load the months, open the pages and save the pictures."""
    if CHROMIUM is None:
        sys.exit("There is no Chromium on this machine. Install it: apt-get install chromium")
    home = Path(tempfile.mkdtemp(prefix="taxi-screenshots-"))
    environment, report = {"TAXI_HOME": str(home)}, home / "report.html"
    try:
        with dagster_dev(environment, home / "dev.log") as ui, running_chromium() as browser:
            variables = {**os.environ, **environment, "PAGER": ""}
            screens = [capture_terminal(command, variables) for command in COMMANDS]
            save("terminal", draw_terminal(browser, screens))
            subprocess.run([TAXI, "report", "--output", str(report)], env=variables, check=True)
            for name, page in PAGES.items():
                save(name, screenshot_ui_page(browser, ui, *page))
            for name, part in PARTS.items():
                save(name, screenshot_report_part(browser, report, *part))
    finally:
        remove(home)
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
