"""The report on a real warehouse: the page compared with SQL, an empty warehouse, and a re-issued month."""

import os
import re
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterInstance, Definitions

from taxi_orchestration.cli.backfill import Backfill
from taxi_orchestration.definitions import build_definitions
from taxi_orchestration.defs.clock import Clock
from taxi_orchestration.defs.conditions import changed_upstream
from taxi_orchestration.report.read import read_frames
from taxi_orchestration.settings import PostgresTarget, Settings
from taxi_orchestration.warehouse.warehouse import Warehouse
from taxi_orchestration_tests.support.daemon import QUIET, Daemon, clock_at
from taxi_orchestration_tests.support.keys import RAW_TRIPS
from taxi_orchestration_tests.support.months import FEBRUARY, JANUARY
from taxi_orchestration_tests.support.programs import TAXI
from taxi_orchestration_tests.support.report_frames import columns_of
from taxi_orchestration_tests.support.tlc_host import TlcHost
from taxi_orchestration_tests.support.warehouses import connect_to_schema, fetch_rows

# The page counts months from year 0.
JANUARY_NUMBER = 2024 * 12


def write_page(path: Path) -> str:
    done = subprocess.run([TAXI, "report", "--output", str(path)], env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(path) in done.stderr
    return path.read_text()


def materialize(definitions: Definitions, instance: DagsterInstance) -> dg.ExecuteInProcessResult:
    return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, asset_selection=[dg.AssetKey("taxi_report")], run_config=QUIET, raise_on_error=False
    )


def test_the_page_agrees_with_sql_to_the_cent_and_the_asset_shows_its_charts(
    tlc: TlcHost,
    settings: Settings,
    target: PostgresTarget,
    instance: DagsterInstance,
    definitions: Definitions,
    tmp_path: Path,
) -> None:
    published = {month: tlc.publish(month, rows=300, seed=month.month) for month in (JANUARY, FEBRUARY)}
    assert Backfill(definitions, instance, months_at_once=2).run([JANUARY, FEBRUARY]).succeeded

    quality = read_frames(Warehouse(target, settings.schema_name), Clock().now()).quality
    reasons = {"pickup missing", "pickup far outside month", "impossible amount"}
    assert set(quality.loc[quality["kind"] == "rejected", "name"]) == reasons
    page = write_page(tmp_path / "report.html")
    with connect_to_schema(target, settings.schema_name) as connection:

        def sum_trips(by: str) -> dict[Any, tuple[int, Any]]:
            rows = connection.execute(
                f"""
                select {by}, count(*), sum(total_amount)::float8 from fct_trips
                where date_trunc('month', pickup_at) in ('2024-01-01', '2024-02-01') group by 1
                """
            )
            return {key: (trips, pytest.approx(amount, abs=0.001)) for key, trips, amount in rows}

        months, totals = columns_of(page, "months"), columns_of(page, "totals")
        by_month = dict(zip(months["month"], zip(months["trips"], months["total_amount"], strict=True), strict=True))
        number = "(extract(year from pickup_at) * 12 + extract(month from pickup_at) - 1)::integer"
        assert by_month == sum_trips(number)
        by_zone = zip(totals["zone_id"], totals["pickups"], totals["total_amount"], strict=True)
        assert {zone: (pickups, amount) for zone, pickups, amount in by_zone if pickups} == sum_trips(
            "coalesce(pickup_zone_id, -1)"
        )
        dropoffs = dict(zip(totals["zone_id"], totals["dropoffs"], strict=True))
        assert {zone: trips for zone, trips in dropoffs.items() if trips} == {
            zone: trips for zone, (trips, _) in sum_trips("coalesce(dropoff_zone_id, -1)").items()
        }
        payments = columns_of(page, "payments")
        assert sum(payments["trips"]) == sum(months["trips"]) == sum(columns_of(page, "hours")["trips"])
    assert len(columns_of(page, "shapes")["id"]) == 7

    frames = read_frames(Warehouse(target, settings.schema_name), Clock().now())
    assert list(frames.pipeline["raw_rows"]) == [month.rows for month in published.values()]
    assert (frames.pipeline["fact_rows"] + frames.pipeline["rejected_rows"] == frames.pipeline["file_rows"]).all()
    assert re.search(r"<td>\d+ of \d+\s", page), "the checks come from Dagster's records"

    result = materialize(definitions, instance)
    assert result.success
    (event,) = [event for event in result.all_events if event.is_step_materialization]
    metadata = event.materialization.metadata
    assert metadata["months"].value == 2
    assert Path(str(metadata["file"].value)) == settings.taxi_home / "report.html"
    assert "data:image/svg+xml;base64," in str(metadata["How many trips are there, month by month?"].value)


def test_the_report_of_an_empty_warehouse_says_what_to_do_and_can_be_materialized(
    settings: Settings, target: PostgresTarget, instance: DagsterInstance, definitions: Definitions, tmp_path: Path
) -> None:
    assert "No month is loaded and built yet" in write_page(tmp_path / "report.html")
    assert materialize(definitions, instance).success
    assert read_frames(Warehouse(target, settings.schema_name), Clock().now()).complete_months.empty


def test_a_month_that_is_re_issued_updates_the_report_without_a_manual_run(
    tlc: TlcHost, settings: Settings, target: PostgresTarget, instance: DagsterInstance
) -> None:
    file = settings.taxi_home / "report.html"
    clock = clock_at(2024, 3, 20)
    daemon = Daemon(build_definitions(settings, clock=clock), instance, clock)

    def read_trips() -> int:
        months = columns_of(file.read_text(), "months")
        return dict(zip(months["month"], months["trips"], strict=True))[JANUARY_NUMBER]

    def count_facts() -> int:
        query = "select count(*) from fct_trips where pickup_date between '2024-01-01' and '2024-01-31'"
        return fetch_rows(target, settings.schema_name, query)[0][0]

    results: list[dg.ExecuteInProcessResult] = []

    def tick() -> bool:
        """Run the requests of the sensors, and return whether the report was due and written."""
        results[:] = [daemon.run(request) for request in daemon.tick().requests]
        assert all(result.success for result in results)
        assert daemon.evaluate() == set()
        return daemon.report_is_due and daemon.make_report().success

    assert not tick()
    tlc.publish(JANUARY, rows=200)
    assert tick()
    before = read_trips()
    assert before == count_facts()
    assert not tick()

    tlc.publish(JANUARY, rows=300, seed=1)
    assert tick()
    assert read_trips() == count_facts() != before
    assert not tick()

    tlc.publish(JANUARY, rows=300, seed=1, resaved=True)
    assert not tick(), "other bytes with the same rows change nothing that the report shows"
    (result,) = results
    messages = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert any("2024-01: another file with the same rows. Nothing downstream is built" in line for line in messages)
    (event,) = [event for event in result.all_events if event.is_step_materialization]
    assert (event.asset_key, event.partition) == (RAW_TRIPS, "2024-01")


def test_the_report_is_requested_once_after_a_month_changed() -> None:
    months = dg.StaticPartitionsDefinition([f"{date(2024, month, 1):%Y-%m}" for month in range(1, 7)])
    mart = dg.AssetSpec("mart", partitions_def=months)

    @dg.asset(deps=[mart], automation_condition=changed_upstream())
    def page() -> None: ...

    definitions = dg.Definitions(assets=[mart, page])
    instance = DagsterInstance.ephemeral()
    cursor, requested = None, []
    for changed in (None, None, "2024-01", None, "2024-01", None):
        if changed:
            instance.report_runless_asset_event(dg.AssetMaterialization("mart", partition=changed))
        result = dg.evaluate_automation_conditions(definitions, instance, cursor=cursor)
        cursor = result.cursor
        requested.append(result.total_requested)
    assert requested == [0, 0, 1, 0, 1, 0]
