"""PostgreSQL's query plans for a window of months: no other months are read, and parallel workers compute it."""

import json
from collections.abc import Iterator
from typing import Any

import psycopg

from taxi_orchestration.dbt.runner import invoke_dbt, prepared_project
from taxi_orchestration.loading import Loader
from taxi_orchestration.settings import Settings
from taxi_orchestration_tests.support.months import FEBRUARY, JANUARY, MARCH
from taxi_orchestration_tests.support.tlc_host import TlcHost

FEBRUARY_ALONE = json.dumps({"window_start": str(FEBRUARY), "window_end": str(MARCH)})
# Seeds, the dimensions built from them, and rare codes: none of these tables grows with the trips of a month.
SMALL = ("dim_", "tlc_", "raw_zones", "int_undocumented_codes")


def find_scans(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every node of a plan that reads a table."""
    if "Relation Name" in plan:
        yield plan
    for part in plan.get("Plans", []):
        yield from find_scans(part)


def invoke(loader: Loader, settings: Settings, *arguments: str) -> list[Any]:
    """Return the results of a dbt command, one per node."""
    outcome = invoke_dbt(["--quiet", *arguments], loader.warehouse, prepared_project(settings))
    assert outcome.error is None
    return list(outcome.results)


def explain(connection: psycopg.Connection, query: str) -> dict[str, Any]:
    ((plan,),) = connection.execute("explain (format json) " + query).fetchall()
    return dict(plan[0]["Plan"])


def test_queries_of_a_window_read_only_its_months_and_fct_trips_runs_in_parallel(
    tlc: TlcHost, loader: Loader, settings: Settings
) -> None:
    for month in (JANUARY, FEBRUARY, MARCH):
        tlc.publish(month)
        loader.load_month(month)
    loader.load_zones()
    invoke(loader, settings, "build", "--exclude-resource-type", "unit_test")
    compiled = invoke(loader, settings, "compile", "--vars", FEBRUARY_ALONE)
    queries = {result.node.name: result.node.compiled_code or "" for result in compiled}
    with psycopg.connect(loader.warehouse.target.url()) as connection:
        # Without these settings PostgreSQL reads tables of so few rows with sequential scans.
        connection.execute("set enable_seqscan = off")
        connection.execute("set enable_indexscan = off")
        found = {
            name: list(find_scans(explain(connection, query)))
            for name, query in queries.items()
            if str(FEBRUARY) in query
        }
        connection.execute("reset all")
        # Without these settings PostgreSQL makes no parallel plan for a table of so few rows.
        for setting in ("parallel_setup_cost", "parallel_tuple_cost", "min_parallel_table_scan_size"):
            connection.execute("select set_config(%s, '0', false)", [setting])
        connection.execute("set max_parallel_workers_per_gather = 1")
        facts = explain(connection, queries["fct_trips"])

    windowed = {
        "fct_trips",
        "rejected_trips",
        "int_undocumented_codes",
        "int_refunds",
        "vendor_quality",
        "trip_quality",
    }
    assert windowed | {"int_hourly_zone_activity_by_file", "int_zone_flows_by_file"} <= found.keys()
    read = {name: {scan["Relation Name"] for scan in scans} for name, scans in found.items()}
    partitions = {name: {t for t in tables if t.startswith("raw_trips_")} for name, tables in read.items()}
    assert {name: tables for name, tables in partitions.items() if tables} == {
        name: {"raw_trips_2024_02"} for name in windowed
    }
    for name, scans in found.items():
        for scan in scans:
            table = scan["Relation Name"]
            if table.startswith((*SMALL, "raw_trips_")):
                continue
            # The condition on the primary key, whose first column is the month.
            condition = scan.get("Recheck Cond") or scan.get("Index Cond", "")
            assert f"source_month >= '{FEBRUARY}'" in condition, (name, table, scan)

    # Amounts, flags and joins are below Gather; a lateral join or a materialized CTE would be above it.
    assert facts["Node Type"] == "Gather"
