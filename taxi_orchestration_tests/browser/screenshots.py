"""`make screenshots`: the pictures of the README, taken of what is loaded here. One function a picture."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page

from taxi_orchestration.settings import PROJECT_DIRECTORY
from taxi_orchestration_tests.support.browser import CHROMIUM, Scheme, open_page, running_chromium

IMAGES = PROJECT_DIRECTORY / "docs" / "images"
WIDTH = 1240
MARGIN = 24
MAX_BYTES = 100_000
# A picture of a page has few colours; so many look like all of them, in a third of the bytes.
COLOURS = 128


def report_where(browser: Browser) -> bytes:
    """The map of the zones, the busiest of them, and the boroughs."""
    with _report(browser, "light") as page:
        return _part(page, "#where-heading", "#boroughs", hidden="#zone, .months")


def report_how_much(browser: Browser) -> bytes:
    """The head of the page, trips and revenue by month, in dark."""
    with _report(browser, "dark") as page:
        return _part(page, "h1", "#revenue", hidden="#days, #hours")


PICTURES: Mapping[str, Callable[[Browser], bytes]] = {
    "report.png": report_where,
    "report-dark.png": report_how_much,
}


@contextmanager
def _report(browser: Browser, scheme: Scheme) -> Iterator[Page]:
    """The report of what is loaded, opened."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "report.html"
        taxi = Path(sys.executable).with_name("taxi")
        subprocess.run([taxi, "report", "--output", file], check=True)
        context = browser.new_context(viewport={"width": WIDTH, "height": 900}, color_scheme=scheme)
        yield open_page(context, file).page
        context.close()


def _part(page: Page, first: str, last: str, hidden: str) -> bytes:
    """The page from one element to the end of another, with a margin; without what is `hidden`."""
    page.add_style_tag(content=f"{hidden} {{ display: none !important }} .months {{ position: static }}")
    boxes = [page.locator(selector).first.bounding_box() for selector in (first, last)]
    top, bottom = (box["y"] + box["height"] * end for end, box in enumerate(boxes) if box)
    clip = {"x": 0, "y": top - MARGIN, "width": WIDTH, "height": bottom - top + 2 * MARGIN}
    return page.screenshot(full_page=True, clip=clip)  # type: ignore[arg-type]


def main() -> None:
    """Take all pictures, or those that are named on the command line."""
    if CHROMIUM is None:
        sys.exit("There is no Chromium on this machine. Install it: apt-get install chromium")
    IMAGES.mkdir(exist_ok=True)
    with running_chromium() as browser:
        for name in sys.argv[1:] or PICTURES:
            image = Image.open(BytesIO(PICTURES[name](browser))).convert("RGB").quantize(COLOURS)
            image.save(IMAGES / name, optimize=True)
            size = (IMAGES / name).stat().st_size
            print(f"docs/images/{name}: {image.width} × {image.height} pixels, {size / 1e3:.0f} kB")
            if size > MAX_BYTES:
                sys.exit(f"docs/images/{name} has more than {MAX_BYTES / 1e3:.0f} kB: show less in it.")


if __name__ == "__main__":
    main()
