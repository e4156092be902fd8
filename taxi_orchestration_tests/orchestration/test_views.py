"""Views and seeds on a real instance: which runs build them, and the upgrade from version 0.1."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from taxi_orchestration.defs.jobs import TAXI_PIPELINE
from taxi_orchestration.instance.builds import BUILT_FROM
from taxi_orchestration.months import Window
from taxi_orchestration.settings import PostgresTarget, Settings
from taxi_orchestration.warehouse.dbt_tables import TABLES_OF_0_1
from taxi_orchestration.warehouse.load_log import loaded_files
from taxi_orchestration.warehouse.warehouse import Warehouse
from taxi_orchestration_tests.support.daemon import QUIET, list_materialized
from taxi_orchestration_tests.support.months import FEBRUARY, JANUARY
from taxi_orchestration_tests.support.statuses import month_statuses
from taxi_orchestration_tests.support.tlc_host import TlcHost
from taxi_orchestration_tests.support.warehouses import connect_to_schema

LEFT_BY_0_1 = Path(__file__).parents[1] / "support" / "version_0_1.sql"
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
# The views downstream of dim_zones.
DOWNSTREAM_OF_ZONES = {"daily_zone_activity", "hourly_zone_activity", "zone_flows", "monthly_zone_activity", "trips"}

Run = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def run(instance: dg.DagsterInstance, definitions: dg.Definitions) -> Run:
    """A function that runs the pipeline, or selected assets, for January or without a month."""

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
    """A function that returns the OIDs of the tables and views of the schema, without the partitions of raw_trips."""

    def read_relations() -> dict[str, int]:
        with psycopg.connect(target.url()) as connection:
            rows = connection.execute(
                "select relname, oid::bigint from pg_class where relnamespace = to_regnamespace(%s) "
                "and relkind in ('r', 'v') and not relispartition",
                [settings.schema_name],
            ).fetchall()
        return dict(rows)

    return read_relations


def execute_sql(settings: Settings, target: PostgresTarget, *statements: str) -> None:
    with connect_to_schema(target, settings.schema_name) as connection:
        for statement in statements:
            connection.execute(statement)


def test_the_job_creates_all_and_later_only_views_that_are_missing_or_changed(
    tlc: TlcHost,
    run: Run,
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    settings: Settings,
    target: PostgresTarget,
    relations: Any,
) -> None:
    for month in (JANUARY, FEBRUARY):
        tlc.publish(month, rows=100)
    first = run(job=TAXI_PIPELINE)
    assert first.success
    assert list_materialized(first) == sorted({"raw_trips", "raw_zones", "raw_zone_shapes"} | TABLES | VIEWS | SEEDS)
    oids = relations()
    assert oids.keys() >= TABLES | VIEWS | SEEDS
    checked = {e.check_name for e in first.get_asset_check_evaluations()}
    assert {"dim_zones_have_a_unique_key", "dim_zones_have_no_nulls"} <= checked

    for key in ("2024-01", "2024-02"):
        later = run(job=TAXI_PIPELINE, month=key)
        assert later.success
        assert list_materialized(later) == sorted({"raw_trips"} | TABLES)
    assert relations() == oids

    # The UI marks no asset as "unsynced", however often months are built.
    graph = definitions.resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    for name in VIEWS | SEEDS:
        assert resolver.get_status(dg.AssetKey(name)) is StaleStatus.FRESH, name
    for name in TABLES:
        assert resolver.get_status(dg.AssetKey(name), "2024-01") is StaleStatus.FRESH, name

    execute_sql(settings, target, "drop view hourly_activity")
    # An earlier version of the project would have recorded such a code version.
    old = {"dagster/data_version": "of another day"}
    instance.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey("dim_zones"), tags=old))
    created = {"hourly_activity", "dim_zones"} | DOWNSTREAM_OF_ZONES
    assert list_materialized(run(*TABLES)) == sorted(TABLES | created)
    assert relations().keys() == oids.keys()

    # dbt drops the dependent views of a view that it rebuilds, so they are rebuilt too.
    assert list_materialized(run("stg_zones", month=None)) == sorted({"stg_zones", "dim_zones"} | DOWNSTREAM_OF_ZONES)
    assert relations().keys() == oids.keys()
    assert list_materialized(run(*TABLES)) == sorted(TABLES)


def test_a_run_of_all_downstream_assets_creates_everything_in_an_empty_database(
    tlc: TlcHost, run: Run, relations: Any
) -> None:
    tlc.publish(JANUARY, rows=100)
    # One run with all downstream assets, with and without partitions.
    assert run("raw_trips", *TABLES, *VIEWS).success
    assert relations().keys() >= TABLES | VIEWS | SEEDS


def test_a_run_of_a_table_creates_its_sources_and_the_last_one_the_views_on_them(
    tlc: TlcHost, run: Run, relations: Any
) -> None:
    tlc.publish(JANUARY, rows=100)
    assert run("raw_trips").success
    run("vendor_quality")
    existing = relations().keys()
    assert {"vendor_quality", "stg_trips"} <= existing
    assert not existing & {"dim_zones", "monthly_revenue"}
    assert run(*TABLES - {"vendor_quality"}).success
    assert relations().keys() >= TABLES | VIEWS | SEEDS


def test_a_schema_of_version_0_1_is_upgraded_for_every_loaded_month(
    tlc: TlcHost,
    run: Run,
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    settings: Settings,
    target: PostgresTarget,
    relations: Any,
) -> None:
    """Upgrade the schema and the record of version 0.1: other table names and columns, and partitioned views."""
    months = {"2024-01": JANUARY, "2024-02": FEBRUARY}
    warehouse = Warehouse(target, settings.schema_name)
    for key, month in months.items():
        tlc.publish(month, rows=100)
        assert run("raw_trips", month=key).success
    execute_sql(settings, target, LEFT_BY_0_1.read_text(), "create view of_a_user as select * from undocumented_codes")
    for key, month in months.items():
        # Version 0.1 wrote separate metadata entries, not `details`, and partitions for today's views too.
        metadata = {BUILT_FROM: loaded_files(warehouse)[month].rows_sha256 or ""}
        for name in ("fct_trips", "rejected_trips", "trip_quality", "dim_zones", "monthly_revenue", *TABLES_OF_0_1):
            materialization = dg.AssetMaterialization(dg.AssetKey(name), partition=key, metadata=metadata)
            instance.report_runless_asset_event(materialization)
    relations_before = relations()

    def get_states() -> list[str]:
        window = Window(JANUARY, FEBRUARY.replace(month=3))
        return [s.state for s in month_statuses(warehouse, instance, window).values()]

    assert get_states() == ["unfinished", "unfinished"]
    # A table that the project did not create is not replaced.
    execute_sql(settings, target, "create table trips (of_a_user text)")
    assert not run(*TABLES).success
    assert relations().items() >= relations_before.items()
    execute_sql(settings, target, "drop table trips")

    result = run(job=TAXI_PIPELINE)
    assert result.success
    messages = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert [line for line in messages if "version 0.1" in line.lower()] == [
        f"The tables of schema {warehouse.schema} are of version 0.1: dbt makes all tables and views anew, for every "
        "loaded month.",
        f"Dropped, as version 0.1 alone filled them: {', '.join(sorted(TABLES_OF_0_1))}.",
    ]
    raw = {"raw_loads", "raw_zones", "raw_zone_shapes"}
    assert relations().keys() == raw | TABLES | VIEWS | SEEDS
    assert set(list_materialized(result)) >= TABLES | VIEWS
    # The run was for January, but February is complete too: in the tables, in the record and in the UI.
    assert get_states() == ["completed", "completed"]
    resolver = CachingStaleStatusResolver(instance, definitions.resolve_asset_graph(), LoadingContextForTest(instance))
    for name in TABLES:
        assert resolver.get_status(dg.AssetKey(name), "2024-02") is StaleStatus.FRESH, name
    with connect_to_schema(target, settings.schema_name) as connection:
        (counts,) = connection.execute(
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
    assert counts == [200] * 5
