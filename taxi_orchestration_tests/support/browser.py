"""A Chromium that the machine has, and a page of the report opened in it; for tests and for pictures of the README."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from taxi_orchestration.report.palette import DARK, LIGHT
from taxi_orchestration.tlc.dataset import DATASET

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
Scheme = Literal["light", "dark"]
SCHEMES: Mapping[Scheme, Mapping[str, str]] = {"light": LIGHT, "dark": DARK}
WIDTHS = (390, 1440)
# It may run as root and in a container, and asks nobody for anything on its own.
_ARGUMENTS = [
    *("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
]


@dataclass
class Opened:
    """A page of the report in a browser, and what it asked for and complained of."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def marks(self, chart: str, kind: str = "path") -> int:
        """The number of marks of one kind in a picture."""
        return self.page.locator(f"[data-chart={chart}] {kind}").count()

    def settle(self) -> None:
        """Wait until a selection has reached every picture."""
        self.page.wait_for_function("document.documentElement.dataset.busy !== 'yes'")


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """A Chromium without a window and with an empty profile."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def open_page(context: BrowserContext, file: Path) -> Opened:
    """Open a report and wait until every picture is drawn."""
    opened = Opened(context.new_page())
    opened.page.on("request", lambda request: opened.requests.append(request.url))
    opened.page.on("console", lambda message: opened.complaints.append(message.text))
    opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.page.goto(file.as_uri())
    opened.page.wait_for_function("document.documentElement.dataset.drawn === 'yes'", timeout=120_000)
    return opened


def assert_whole(opened: Opened, file: Path, width: int, palette: Mapping[str, str], charts: int) -> None:
    """Every picture is drawn within the screen and in the scheme's colours; nothing was loaded or complained of."""
    page = opened.page
    assert opened.requests == [file.as_uri()]
    assert opened.complaints == []
    assert page.title() == f"New York {DATASET.label}, month by month"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    drawn = page.locator("[data-chart]")
    assert drawn.count() == charts
    for chart in drawn.all():
        assert chart.get_attribute("data-drawn") == "yes"
        assert chart.locator("svg").count() == 1
        box = chart.locator("svg").bounding_box()
        assert box is not None
        assert box["width"] <= width
        assert 60 < box["height"] < 1_500
        assert chart.locator("svg path, svg rect").count() > 5
    bar = page.locator("[data-chart=trips-0] path[fill='var(--accent)']").first
    colours = [
        page.evaluate("getComputedStyle(document.body).color"),
        bar.evaluate("bar => getComputedStyle(bar).fill"),
    ]
    assert colours == [
        "rgb({}, {}, {})".format(*(int(palette[name][i : i + 2], 16) for i in (1, 3, 5))) for name in ("ink", "accent")
    ]
