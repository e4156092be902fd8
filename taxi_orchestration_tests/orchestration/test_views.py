"""Views and seeds on a real instance: who makes them, when they are left alone, and what version 0.1 left."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from taxi_orchestration.defs.jobs import TAXI_PIPELINE
from taxi_orchestration.defs.views import CODE_VERSION_KEY
from taxi_orchestration.instance.builds import BUILT_FROM
from taxi_orchestration.months import Window
from taxi_orchestration.settings import PostgresTarget, Settings
from taxi_orchestration.warehouse.dbt_tables import TABLES_OF_0_1
from taxi_orchestration.warehouse.load_log import loaded_files
from taxi_orchestration.warehouse.warehouse import Warehouse
from taxi_orchestration_tests.support.months import FEBRUARY, JANUARY
from taxi_orchestration_tests.support.statuses import month_statuses
from taxi_orchestration_tests.support.tlc_host import TlcHost

LEFT_BY_0_1 = Path(__file__).parents[1] / "support" / "version_0_1.sql"
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
FCT_TRIPS = dg.AssetKey("fct_trips")
VIEWS = {
    *("stg_trips", "stg_zones", "dim_zones", "dim_vendors", "dim_rate_codes", "dim_payment_types", "dim_trip_types"),
    *("daily_zone_activity", "hourly_zone_activity", "zone_flows", "monthly_revenue", "monthly_summary"),
    *("hourly_activity", "monthly_zone_activity"),
    *("dim_dates", "trips"),
}
SEEDS = {"tlc_vendors", "tlc_rate_codes", "tlc_payment_types", "tlc_trip_types"}
TABLES = {
    *("fct_trips", "rejected_trips", "trip_quality", "int_undocumented_codes"),
    *("int_hourly_zone_activity_by_file", "int_zone_flows_by_file", "int_monthly_revenue_by_file"),
    *("int_refunds", "vendor_quality"),
}
# What stands on dim_zones.
OF_ZONES = {"daily_zone_activity", "hourly_zone_activity", "zone_flows", "monthly_zone_activity", "trips"}

Run = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def run(instance: dg.DagsterInstance, definitions: dg.Definitions) -> Run:
    """Runs the pipeline, or any assets, for January or without a month."""

    def execute(*assets: str, month: str | None = "2024-01", job: str | None = None) -> dg.ExecuteInProcessResult:
        found = definitions.resolve_job_def(job) if job else definitions.resolve_implicit_global_asset_job_def()
        return found.execute_in_process(
            instance=instance,
            partition_key=month,
            asset_selection=[dg.AssetKey(name) for name in assets] or None,
            run_config=QUIET,
            raise_on_error=False,
        )

    return execute


@pytest.fixture
def relations(settings: Settings, target: PostgresTarget) -> Callable[[], dict[str, int]]:
    """The tables and views of the schema, but for the months of raw_trips, with their numbers in PostgreSQL."""

    def look() -> dict[str, int]:
        with psycopg.connect(target.url()) as connection:
            rows = connection.execute(
                "select relname, oid::bigint from pg_class where relnamespace = to_regnamespace(%s) "
                "and relkind in ('r', 'v') and not relispartition",
                [settings.schema_name],
            ).fetchall()
        return dict(rows)

    return look


def made(result: dg.ExecuteInProcessResult) -> set[str]:
    return {
        event.asset_key.to_user_string()
        for event in result.all_events
        if event.is_step_materialization and event.asset_key
    }


def execute(settings: Settings, target: PostgresTarget, *statements: str) -> None:
    with psycopg.connect(target.url(), options=f"-c search_path={settings.schema_name}") as connection:
        for statement in statements:
            connection.execute(statement)


def test_the_job_makes_everything_on_an_empty_database_and_views_only_once(
    tlc: TlcHost, run: Run, instance: dg.DagsterInstance, definitions: dg.Definitions, relations: Any
) -> None:
    for month in (JANUARY, FEBRUARY):
        tlc.publish(month, rows=100)
    first = run(job=TAXI_PIPELINE)
    assert first.success
    assert made(first) == {"raw_trips", "raw_zones", "raw_zone_shapes"} | TABLES | VIEWS | SEEDS
    numbers = relations()
    assert numbers.keys() >= TABLES | VIEWS | SEEDS
    checked = {e.check_name for e in first.get_asset_check_evaluations()}
    assert {"dim_zones_have_a_unique_key", "dim_zones_have_no_nulls"} <= checked

    for key in ("2024-01", "2024-02"):
        later = run(job=TAXI_PIPELINE, month=key)
        assert later.success
        assert made(later) == {"raw_trips"} | TABLES
    assert relations() == numbers

    # In the UI nothing is "unsynced" for it, however often months are built.
    graph = definitions.resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    for name in VIEWS | SEEDS:
        assert resolver.get_status(dg.AssetKey(name)) is StaleStatus.FRESH, name
    for name in TABLES:
        assert resolver.get_status(dg.AssetKey(name), "2024-01") is StaleStatus.FRESH, name


def test_the_asset_page_makes_everything_on_an_empty_database(tlc: TlcHost, run: Run, relations: Any) -> None:
    tlc.publish(JANUARY, rows=100)
    # With all that is downstream, in one run, which holds what has months and what has none.
    assert run("raw_trips", *TABLES, *VIEWS).success
    assert relations().keys() >= TABLES | VIEWS | SEEDS


def test_a_table_alone_brings_what_it_reads_and_the_last_one_what_reads_them(
    tlc: TlcHost, run: Run, relations: Any
) -> None:
    tlc.publish(JANUARY, rows=100)
    assert run("raw_trips").success
    run("vendor_quality")
    there = relations().keys()
    assert {"vendor_quality", "stg_trips"} <= there
    assert not there & {"dim_zones", "monthly_revenue"}
    assert run(*TABLES - {"vendor_quality"}).success
    assert relations().keys() >= TABLES | VIEWS | SEEDS


def test_a_view_that_is_missing_or_of_other_code_comes_with_the_next_month(
    tlc: TlcHost,
    run: Run,
    instance: dg.DagsterInstance,
    settings: Settings,
    target: PostgresTarget,
    relations: Any,
) -> None:
    tlc.publish(JANUARY, rows=100)
    assert run(job=TAXI_PIPELINE).success
    everything = relations().keys()
    execute(settings, target, "drop view daily_zone_activity")
    assert made(run(*TABLES)) == TABLES | {"daily_zone_activity"}
    assert relations().keys() == everything

    # As an earlier version of the project would have made it.
    old = {CODE_VERSION_KEY: "of another day"}
    instance.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey("dim_zones"), metadata=old))
    assert made(run(*TABLES)) == TABLES | {"dim_zones"} | OF_ZONES
    assert relations().keys() == everything

    # dbt drops what stands on a view that it makes anew: so that is made with it.
    assert made(run("stg_zones", month=None)) == {"stg_zones", "dim_zones"} | OF_ZONES
    assert relations().keys() == everything
    assert made(run(*TABLES)) == TABLES


def test_what_the_first_version_made_is_taken_over_for_every_loaded_month(
    tlc: TlcHost,
    run: Run,
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    settings: Settings,
    target: PostgresTarget,
    relations: Any,
) -> None:
    """The schema and the record as version 0.1 left them: tables of other names and columns, views with months."""
    months = {"2024-01": JANUARY, "2024-02": FEBRUARY}
    warehouse = Warehouse(target, settings.schema_name)
    for key, month in months.items():
        tlc.publish(month, rows=100)
        assert run("raw_trips", month=key).success
    execute(settings, target, LEFT_BY_0_1.read_text(), "create view of_a_user as select * from undocumented_codes")
    for key, month in months.items():
        # Metadata entries of their own, not of `details`, and the same for what has no months today.
        metadata = {BUILT_FROM: loaded_files(warehouse)[month].rows_sha256 or ""}
        for name in ("fct_trips", "rejected_trips", "trip_quality", "dim_zones", "monthly_revenue", *TABLES_OF_0_1):
            made_then = dg.AssetMaterialization(dg.AssetKey(name), partition=key, metadata=metadata)
            instance.report_runless_asset_event(made_then)
    left = relations()

    def states() -> list[str]:
        window = Window(JANUARY, FEBRUARY.replace(month=3))
        return [s.state for s in month_statuses(warehouse, instance, window).values()]

    assert states() == ["unfinished", "unfinished"]
    # Nothing of anybody else's is replaced in passing.
    execute(settings, target, "create table trips (of_a_user text)")
    assert not run(*TABLES).success
    assert relations().items() >= left.items()
    execute(settings, target, "drop table trips")

    result = run(job=TAXI_PIPELINE)
    assert result.success
    said = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert [line for line in said if "version 0.1" in line.lower()] == [
        f"The tables of schema {warehouse.schema} are of version 0.1: dbt makes all tables and views anew, for every "
        "loaded month.",
        f"Dropped, as version 0.1 alone filled them: {', '.join(sorted(TABLES_OF_0_1))}.",
    ]
    raw = {"raw_loads", "raw_zones", "raw_zone_shapes"}
    assert relations().keys() == raw | TABLES | VIEWS | SEEDS
    assert made(result) >= TABLES | VIEWS
    # The run was of January, and yet February is whole: in the tables, in the record, and in the UI.
    assert states() == ["completed", "completed"]
    resolver = CachingStaleStatusResolver(instance, definitions.resolve_asset_graph(), LoadingContextForTest(instance))
    for name in TABLES:
        assert resolver.get_status(dg.AssetKey(name), "2024-02") is StaleStatus.FRESH, name
    with psycopg.connect(target.url(), options=f"-c search_path={settings.schema_name}") as connection:
        (of_all,) = connection.execute(
            """
            select array[
                (select count(*) from raw_trips),
                (select count(*) from fct_trips) + (select count(*) from rejected_trips),
                (select sum(trips) from monthly_revenue) + (select count(*) from rejected_trips),
                (select sum(trips) from daily_zone_activity) + (select count(*) from rejected_trips),
                (select sum(fact_trips + rejected_trips) from trip_quality)
            ]
            """
        ).fetchone() or [()]
    assert of_all == [200] * 5
