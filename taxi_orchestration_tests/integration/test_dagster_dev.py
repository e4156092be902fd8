"""`dagster dev` without `taxi`: backfills and sensor switches of the UI, by the GraphQL queries that the UI sends."""

from datetime import date
from pathlib import Path

import psycopg
import pytest
from dagster import AssetKey
from pytest_httpserver import HTTPServer

from taxi_orchestration.defs.alerts import ALERTS
from taxi_orchestration.defs.conditions import BUILD_CHANGED_MONTHS
from taxi_orchestration.instance.opening import open_instance
from taxi_orchestration.instance.run_tags import TLC_PUBLICATIONS
from taxi_orchestration.loading import open_loader
from taxi_orchestration.postgres.server import WAREHOUSE_DATABASE, find, remove
from taxi_orchestration.settings import DEFAULT_SCHEMA, load_settings
from taxi_orchestration.warehouse.warehouse import open_warehouse
from taxi_orchestration_tests.support.dagster_dev import PARTITIONED_ASSETS, dagster_dev
from taxi_orchestration_tests.support.tlc_host import TlcHost
from taxi_orchestration_tests.support.waiting import DAEMON_SECONDS, until
from taxi_orchestration_tests.support.warehouses import connect_to_schema

MONTHS = [date(2024, month, 1) for month in range(1, 7)]
UNPUBLISHED, DAMAGED = date(2024, 4, 1), date(2024, 5, 1)
KEYS = [f"{month:%Y-%m}" for month in MONTHS]
NEW, REISSUED = date(2024, 7, 1), date(2024, 2, 1)

STEP_FAILURES = """
    query Events($id: ID!) {
      runOrError(runId: $id) {
        ... on Run {
          eventConnection { events { __typename ... on ExecutionStepFailureEvent { error { message } } } }
        }
      }
    }
"""


def connect(home: Path) -> psycopg.Connection:
    server = find(home)
    assert server is not None
    return connect_to_schema(server.target(WAREHOUSE_DATABASE), DEFAULT_SCHEMA)


def fetch_trips_by_month(home: Path) -> dict[date, int]:
    """Return the number of facts and rejected trips of every month, from the mart trip_quality."""
    with connect(home) as connection:
        return dict(
            connection.execute(
                "select source_month, fact_trips + rejected_trips from trip_quality where raw_trips > 0"
            ).fetchall()
        )


def delete_a_row(home: Path, month: date) -> None:
    """Delete the first row of a month from raw_trips."""
    with connect(home) as connection:
        connection.execute("delete from raw_trips where source_month = %s and source_row = 1", [month])


def load_without_dagster(month: date) -> None:
    """Load a month without a Dagster run, so that Dagster has no record of it."""
    with open_loader(settings := load_settings(), open_warehouse(settings)) as loader:
        loader.load_month(month)


@pytest.mark.timeout(900)
def test_months_launched_in_the_ui_reach_the_marts_and_sensors_load_other_months(
    tlc: TlcHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer
) -> None:
    for month in MONTHS:
        if month not in (UNPUBLISHED, DAMAGED):
            tlc.publish(month, rows=200 + month.month)
    tlc.publish_bytes(DAMAGED, b"<html>Sign in</html>")
    home = tmp_path / "home"
    httpserver.expect_request("/alerts").respond_with_data("")
    monkeypatch.setenv("TAXI_HOME", str(home))
    monkeypatch.setenv("TLC_BASE_URL", tlc.url)
    monkeypatch.setenv("TAXI_ALERT_URLS", f"json://{httpserver.host}:{httpserver.port}/alerts")
    good = [key for key, month in zip(KEYS, MONTHS, strict=True) if month not in (UNPUBLISHED, DAMAGED)]
    try:
        with dagster_dev({}, tmp_path / "dev.log") as ui:
            # The sensor does not report failures from before its first tick.
            until(lambda: ui.has_ticked(ALERTS), DAEMON_SECONDS)
            nodes = ui.execute_graphql(PARTITIONED_ASSETS)["assetNodes"]
            # The selection of the UI's button on raw_trips: everything downstream, with the unpartitioned views.
            others = ("raw_zone", "stg_", "tlc_")
            selection = [
                n["assetKey"] for n in nodes if n["isExecutable"] and not n["assetKey"]["path"][-1].startswith(others)
            ]
            backfill = ui.launch_backfill(selection, KEYS)
            ended = ui.ended_backfill(backfill, 480)
            assert ended["status"] == "COMPLETED_FAILED", ended
            for asset in ("raw_trips", "fct_trips", "int_monthly_revenue_by_file", "trip_quality"):
                assert ui.months(asset, "MATERIALIZED") == good, asset
            assert ui.months("raw_trips", "FAILED") == ["2024-05"]
            messages = [
                event["error"]["message"]
                for run in ended["runs"]
                if run["status"] == "FAILURE"
                for event in ui.execute_graphql(STEP_FAILURES, id=run["runId"])["runOrError"]["eventConnection"][
                    "events"
                ]
                if event["__typename"] == "ExecutionStepFailureEvent"
            ]
            assert any("2024-05" in m and "Sign in" in m for m in messages), messages

            delete_a_row(home, MONTHS[0])
            tlc.publish(DAMAGED, rows=205)
            downloads = {month: tlc.requests_for(month) for month in MONTHS}
            (failed,) = [run["runId"] for run in ended["runs"] if run["status"] == "FAILURE"]
            assert ui.re_execute_from_failure(failed) == "SUCCESS"
            reloaded = [month for month in MONTHS if tlc.requests_for(month) > downloads[month]]
            assert reloaded == [MONTHS[0], UNPUBLISHED, DAMAGED], "a complete month is not loaded again"
            loaded = sorted([*good, "2024-05"])
            assert ui.months("raw_trips", "MATERIALIZED") == loaded
            assert ui.months("raw_trips", "FAILED") == []

            expected = {month: 200 + month.month for month in MONTHS if month not in (UNPUBLISHED, DAMAGED)}
            assert fetch_trips_by_month(home) == expected

            # Published first: the sensor ticks as soon as it is turned on, and then every five minutes.
            tlc.publish(REISSUED, rows=250, seed=1)
            load_without_dagster(REISSUED)
            tlc.publish(NEW, rows=300)
            ui.turn_on(TLC_PUBLICATIONS)
            ui.turn_on(BUILD_CHANGED_MONTHS)
            # This includes the month that the re-execution loaded, because a re-execution builds nothing.
            expected |= {REISSUED: 250, NEW: 300, DAMAGED: 205}
            until(lambda: fetch_trips_by_month(home) == expected, DAEMON_SECONDS)
            until(lambda: ui.runs_of("2024-07") != ["STARTED"], DAEMON_SECONDS)
            assert ui.runs_of("2024-07") == ["SUCCESS"], (
                "the condition requests no month that a run of the sensor builds"
            )
        # The server outlives dagster dev, and with it what the UI showed: the next dagster dev has the same storage.
        assert find(home) is not None
        with open_instance() as instance:
            record = instance.get_backfill(backfill)
            assert record is not None
            assert record.status.value == "COMPLETED_FAILED"
            assert instance.get_materialized_partitions(AssetKey("fct_trips")) == {*loaded, "2024-07"}
        titles = [request.get_json()["title"] for request, _ in httpserver.log]
        assert titles.count("taxi: raw_trips failed for 2024-05") == 1, titles
    finally:
        remove(home)
