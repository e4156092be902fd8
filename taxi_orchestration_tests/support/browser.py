"""A local Chromium, and pages of the report opened in it, for tests and for the screenshots of the README."""

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
# Root in a container has no sandbox and a small /dev/shm. The other flags stop Chromium's own network requests.
_ARGUMENTS = [
    *("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
]


@dataclass
class OpenedPage:
    """A page of the report in a browser, with its requests, console messages and uncaught errors."""

    page: Page
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def count_marks(self, chart: str, kind: str = "path") -> int:
        """Return the number of marks of one kind in a chart."""
        return self.page.locator(f"[data-chart={chart}] {kind}").count()

    def settle(self) -> None:
        """Wait until every chart shows the current selection."""
        self.page.wait_for_function("document.documentElement.dataset.busy !== 'yes'")


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """Run a headless Chromium with an empty profile for the duration of the block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def open_page(context: BrowserContext, file: Path) -> OpenedPage:
    """Open a report, wait until every chart is drawn, and return the page."""
    report = OpenedPage(context.new_page())
    report.page.on("request", lambda request: report.requests.append(request.url))
    report.page.on("console", lambda message: report.messages.append(message.text))
    report.page.on("pageerror", lambda error: report.messages.append(str(error)))
    report.page.goto(file.as_uri())
    report.page.wait_for_function("document.documentElement.dataset.drawn === 'yes'", timeout=120_000)
    return report


def assert_complete(report: OpenedPage, file: Path, width: int, palette: Mapping[str, str], charts: int) -> None:
    """Assert that all charts are drawn within `width` in the colours of `palette`, and nothing was loaded."""
    page = report.page
    assert report.requests == [file.as_uri()]
    assert report.messages == []
    assert page.title() == f"New York {DATASET.label}, month by month"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    elements = page.locator("[data-chart]")
    assert elements.count() == charts
    for chart in elements.all():
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
