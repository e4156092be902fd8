"""The report of real months in Chromium: its content in both modes and after selections, compared with SQL."""

from datetime import date
from pathlib import Path

import pytest
from dagster import DagsterInstance
from playwright.sync_api import Locator
from psycopg import sql

from taxi_orchestration.cli.backfill import Backfill
from taxi_orchestration.definitions import build_definitions
from taxi_orchestration.defs.clock import Clock
from taxi_orchestration.report.file import write_report
from taxi_orchestration.report.formats import format_count, format_money
from taxi_orchestration.settings import PostgresTarget, Settings, load_settings
from taxi_orchestration.warehouse.warehouse import Warehouse
from taxi_orchestration_tests.support.browser import (
    CHROMIUM,
    SCHEMES,
    WIDTHS,
    assert_complete,
    open_page,
    running_chromium,
)
from taxi_orchestration_tests.support.mirror import mirror
from taxi_orchestration_tests.support.warehouses import connect_to_schema

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium"),
]


def read_amounts(labels: Locator) -> list[str]:
    """Return the sorted amounts beside the bars, without shares: the document has another order than the screen."""
    return sorted(label.split(" · ")[0] for label in labels.all_text_contents())


def test_real_months_are_drawn_in_both_modes_and_selections_follow_sql(
    real_months: Path,
    settings: Settings,
    target: PostgresTarget,
    instance: DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    months, file = [date(2024, 1, 1), date(2025, 1, 1)], tmp_path / "report.html"
    with mirror(real_months) as url:
        monkeypatch.setenv("TLC_BASE_URL", url)
        assert Backfill(build_definitions(load_settings()), instance, months_at_once=2).run(months).succeeded
    frames = write_report(Warehouse(target, settings.schema_name), Clock().now(), {}, file)
    charts = file.read_text(encoding="utf-8").count("data-chart=")
    assert (len(frames.zone_shapes), len(frames.zones), charts > 20) == (263, 266, True)
    january = sql.SQL("from fct_trips where pickup_at >= '2025-01-01' and pickup_at < '2025-02-01'")
    by_zone = sql.SQL("{} group by pickup_zone_id order by 1 desc limit 20").format(january)
    of_all = sql.SQL("select count(*), sum(total_amount) {}").format(january)
    pickups_of = sql.SQL("select count(*) {}").format(by_zone)
    revenue_of = sql.SQL("select sum(total_amount)::float8 {}").format(by_zone)
    paid = sql.SQL("select count(distinct payment_type_id) {} and payment_type_id <> 2").format(january)
    with connect_to_schema(target, settings.schema_name) as connection:
        ((trips, amount),) = connection.execute(of_all).fetchall()
        pickups = [trips for (trips,) in connection.execute(pickups_of)]
        revenue = [amount for (amount,) in connection.execute(revenue_of)]
        ((kinds,),) = connection.execute(paid).fetchall()

    # Chromium starts last: the event loops of Dagster and Playwright cannot run in one thread at the same time.
    with running_chromium() as browser:
        # test_report.py draws a page in all four combinations.
        for width, scheme in zip(WIDTHS, SCHEMES, strict=True):
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
            report = open_page(context, file)
            page = report.page
            assert_complete(report, file, width, SCHEMES[scheme], charts)
            assert "is paid from Sunday, 5 January 2025 on." in page.locator("#days").inner_text()
            labels = page.locator("[data-chart=zones-0] text", has_text="·")
            page.select_option("#first-month", label="January 2025")
            report.settle()
            assert page.locator("#chosen").inner_text() == f"1 month: {trips:,} trips, ${amount:,.0f}"
            # A square for each day, and seven in the legend.
            assert page.locator("[data-chart=days-0] path[fill^='var(--step']").count() == 31 + 7
            assert page.locator("[data-chart=days-0] .mark-symbol path[fill='var(--page)']").count() == 27
            assert read_amounts(labels) == sorted(map(format_count, pickups))
            page.check("input[name=measure][value=total_amount]")
            page.uncheck("input[name=payment][value=Cash]")
            report.settle()
            assert read_amounts(labels) == sorted(map(format_money, revenue))
            assert page.locator("[data-chart=payments-0] .mark-rect path").count() == kinds
            assert report.messages == []
            context.close()
