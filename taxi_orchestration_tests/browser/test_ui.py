"""Dagster's pages in Chromium after a backfill by `taxi`: what they show, and what their buttons do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from playwright.sync_api import Page, expect

from taxi_orchestration.cli.backfill import Backfill
from taxi_orchestration.defs.clock import Clock
from taxi_orchestration.defs.jobs import TAXI_PIPELINE
from taxi_orchestration.instance.backfills import new_record
from taxi_orchestration.instance.dagster_names import BACKFILL
from taxi_orchestration.months import Window, newest_month, partition_key
from taxi_orchestration_tests.support.browser import CHROMIUM, running_chromium
from taxi_orchestration_tests.support.dagster_dev import Ui, dagster_dev
from taxi_orchestration_tests.support.months import FEBRUARY, JANUARY, MARCH
from taxi_orchestration_tests.support.tlc_host import TlcHost
from taxi_orchestration_tests.support.waiting import DAEMON_SECONDS, until

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")

APRIL = Window(JANUARY, date(2024, 5, 1)).months[-1]
NOTHING = re.compile("No runs|You have not launched")
LAST_RUNS = "{ runsOrError(limit: 2) { ... on Runs { results { status } } } }"
TIMEOUT_MS = 60_000


# How Dagster shows an error: an exception with a stack trace, or a message, also in place of a part of the page.
TRACE = "[class*=PythonErrorInfo_wrapper]"
MESSAGE = re.compile("unexpected error|An error occurred|GraphQL error|Sorry, .* can't be displayed", re.IGNORECASE)


@dataclass
class Visit:
    """A browser window with Dagster's pages, and the failed responses and uncaught errors in it."""

    page: Page
    ui: Ui
    failures: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        """Assert that the current page shows no error, and open another page."""
        self.assert_no_error()
        self.page.goto(f"{self.ui.page}{path}")

    def assert_no_error(self) -> None:
        assert self.failures == [], self.page.url
        assert self.page.locator(TRACE).or_(self.page.get_by_text(MESSAGE)).all_inner_texts() == [], self.page.url


@contextmanager
def visit(ui: Ui) -> Iterator[Visit]:
    with running_chromium() as browser:
        visited = Visit(browser.new_page(viewport={"width": 1400, "height": 900}), ui)
        visited.page.set_default_timeout(TIMEOUT_MS)
        visited.page.on("pageerror", lambda error: visited.failures.append(str(error)))
        visited.page.on("response", lambda reply: visited.failures.extend([reply.url] if reply.status >= 400 else []))
        yield visited
        visited.assert_no_error()


def read_last_statuses(ui: Ui) -> list[str]:
    """Return the statuses of the last two runs."""
    return [run["status"] for run in ui.execute_graphql(LAST_RUNS)["runsOrError"]["results"]]


@pytest.mark.timeout(600)
def test_the_pages_of_the_ui_show_the_loaded_months_and_their_buttons_work(
    tlc: TlcHost, instance: dg.DagsterInstance, definitions: dg.Definitions, tmp_path: Path
) -> None:
    for month in (JANUARY, FEBRUARY, MARCH):
        tlc.publish(month, rows=300, seed=month.month)
    assert Backfill(definitions, instance, months_at_once=2).run([JANUARY, FEBRUARY, MARCH, APRIL]).succeeded
    # The record of a backfill whose process was killed: the daemon must end it without launching a run.
    instance.add_backfill(new_record(instance, "orphaned", definitions.resolve_job_def(TAXI_PIPELINE), [APRIL]))
    with dagster_dev({}, tmp_path / "dev.log") as ui, visit(ui) as visited:
        page = visited.page
        visited.open("/")
        expect(page.get_by_text("taxi_pipeline").first).to_be_visible(timeout=TIMEOUT_MS)
        expect(page.get_by_text(NOTHING)).to_have_count(0)

        visited.open("/jobs")
        expect(page.get_by_text(re.compile(" ago$")).first).to_be_visible(timeout=TIMEOUT_MS)

        visited.open("/locations/taxi_orchestration/jobs/taxi_pipeline/runs")
        expect(page.get_by_text("months: 2024-01 to 2024-04").first).to_be_visible(timeout=TIMEOUT_MS)
        expect(page.get_by_text("months: 2024-01 to 2024-03").first).to_be_visible()
        expect(page.get_by_text("taxi backfill", exact=True).first).to_be_visible()
        expect(page.get_by_text("Failure", exact=True)).to_have_count(0)
        expect(page.get_by_text(re.compile("taxi_process|requested_by"))).to_have_count(0)

        visited.open("/runs")
        expect(page.get_by_text("4 partitions").first).to_be_visible(timeout=TIMEOUT_MS)
        expect(page.get_by_text("Success", exact=True).first).to_be_visible()
        (run,) = instance.get_runs(limit=1)
        unique, months = run.tags[BACKFILL].split("-", 1)
        expect(page.get_by_text(unique, exact=True).first).to_be_visible()

        visited.open(f"/runs/{run.run_id}")
        expect(page.get_by_text(f"{unique}-{months}", exact=True).first).to_be_visible(timeout=TIMEOUT_MS)
        assert months == "2024-01-to-2024-04"

        visited.open("/assets/raw_trips?view=partitions&partition=2024-04")
        page.get_by_role("button", name=re.compile("View all historical events")).click()
        expect(page.get_by_text("Failed (0)").first).to_be_visible(timeout=TIMEOUT_MS)
        page.get_by_role("dialog").get_by_text("2024-04").last.click()
        expect(page.get_by_text(re.compile("Not yet published. .*403")).first).to_be_visible(timeout=TIMEOUT_MS)

        visited.open("/assets/fct_trips?view=partitions&partition=2024-02")
        for shown in ("sum of total_amount", "share rejected", "preview", "SQL"):
            expect(page.get_by_text(shown, exact=True).first).to_be_visible(timeout=TIMEOUT_MS)
        for asset in ("fct_trips", "raw_trips"):
            visited.open(f"/assets/{asset}?view=partitions&partition=2024-02")
            folded = page.get_by_role("row").filter(has_text=re.compile("^details")).filter(has_text="[Show JSON]")
            expect(folded).to_be_visible(timeout=TIMEOUT_MS)
            expect(page.get_by_text("sha256")).to_have_count(0)
        visited.open("/assets/fct_trips?view=events")
        for key in ("2024-01", "2024-02", "2024-03"):
            expect(page.get_by_text(key, exact=True).first).to_be_visible(timeout=TIMEOUT_MS)

        visited.open("/assets/raw_trips")
        page.get_by_role("button", name=re.compile("Materialize")).first.click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name="Latest", exact=True).click()
        newest = partition_key(newest_month(Clock().now()))
        expect(dialog.get_by_role("textbox").first).to_have_value(newest)
        expect(dialog.get_by_role("button", name="Launch 1 run")).to_be_enabled()

        checked = ("raw_trips", "fct_trips")
        for asset in checked:
            visited.open(f"/assets/{asset}?view=checks")
            page.get_by_role("button", name="Execute all").click()
            expect(page.get_by_text("Launched run").first).to_be_visible(timeout=TIMEOUT_MS)
        until(lambda: set(read_last_statuses(ui)) <= {"SUCCESS", "FAILURE"}, DAEMON_SECONDS)
        assert read_last_statuses(ui) == ["SUCCESS"] * 2
        for asset in checked:
            visited.open(f"/assets/{asset}?view=checks")
            expect(page.get_by_text("Succeeded").first).to_be_visible(timeout=TIMEOUT_MS)
            expect(page.get_by_text("Failed", exact=True)).to_have_count(0)

        until(lambda: instance.get_backfill("orphaned").status.value == "COMPLETED_FAILED", DAEMON_SECONDS)  # type: ignore[union-attr]
        counts = {
            record.backfill_id: instance.get_runs_count(dg.RunsFilter(tags={BACKFILL: record.backfill_id}))
            for record in instance.get_backfills()
        }
        assert counts.pop("orphaned") == 0
        (runs_of_taxi_backfill,) = counts.values()
        assert runs_of_taxi_backfill > 0
