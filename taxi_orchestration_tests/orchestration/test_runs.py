"""Runs of the job on a real instance: the records of every month, and the steps that a failure blocks."""

import json
import logging
import os
import signal
import threading
import time
from datetime import date
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace
from typing import Any

import dagster as dg
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import event
from sqlalchemy.pool import Pool

from taxi_orchestration import loading
from taxi_orchestration.defs import raw_trips
from taxi_orchestration.defs.clock import Clock
from taxi_orchestration.defs.interruption import canceled_by_interrupt
from taxi_orchestration.defs.jobs import TAXI_PIPELINE
from taxi_orchestration.defs.raw_trips import failure_of
from taxi_orchestration.instance.dagster_internals import (
    BulkActionStatus,
    InMemoryJob,
    PartitionBackfill,
    execute_run_iterator,
)
from taxi_orchestration.instance.dagster_names import BACKFILL, LAUNCHED_BY, TAXI_BACKFILL
from taxi_orchestration.instance.partitions import monthly_partitions
from taxi_orchestration.months import Window
from taxi_orchestration.postgres.connection import WarehouseError, WarehouseUnavailableError
from taxi_orchestration.report.read import NO_SHAPES, read_frames
from taxi_orchestration.settings import PostgresTarget, Settings
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration.tlc.errors import PermanentTlcError, TransientTlcError
from taxi_orchestration.warehouse.load_log import LoadedFile
from taxi_orchestration.warehouse.measures import measure_months
from taxi_orchestration.warehouse.warehouse import Warehouse
from taxi_orchestration_tests.support.daemon import QUIET, list_materialized
from taxi_orchestration_tests.support.http_host import silent, status
from taxi_orchestration_tests.support.keys import RAW_TRIPS
from taxi_orchestration_tests.support.months import FEBRUARY, JANUARY, MARCH
from taxi_orchestration_tests.support.statuses import month_statuses
from taxi_orchestration_tests.support.tlc_host import ZONE_SHAPES, ZONES, TlcHost, month_path
from taxi_orchestration_tests.support.warehouses import fetch_rows

FCT_TRIPS = dg.AssetKey("fct_trips")


@pytest.fixture
def run(instance: dg.DagsterInstance, definitions: dg.Definitions) -> Any:
    """A function that runs the job for one month, or for a range of months."""

    def execute(first: str, last: str | None = None) -> dg.ExecuteInProcessResult:
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last} if last else {}
        return definitions.resolve_job_def(TAXI_PIPELINE).execute_in_process(
            instance=instance,
            partition_key=None if last else first,
            tags=tags,
            run_config=QUIET,
            raise_on_error=False,
        )

    return execute


def get_newest_materialization(
    instance: dg.DagsterInstance, asset: dg.AssetKey, partition: str
) -> dg.AssetMaterialization:
    records = instance.fetch_materializations(dg.AssetRecordsFilter(asset, asset_partitions=[partition]), 1).records
    materialization = records[0].asset_materialization
    assert materialization
    return materialization


def get_metadata(materialization: dg.AssetMaterialization) -> dict[str, Any]:
    return {name: value.value for name, value in materialization.metadata.items()}


def get_status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run
    return run.status


def get_checks(instance: dg.DagsterInstance, run_id: str) -> dict[str, dg.AssetCheckEvaluation]:
    entries = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    found = [entry.get_dagster_event().asset_check_evaluation_data for entry in entries]
    return {evaluation.check_name: evaluation for evaluation in found}


def find_warnings(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """Return the log messages of a run that a user would investigate."""
    words = ("did not yield", "without gating")
    entries = instance.all_logs(run_id)
    return [
        e.user_message for e in entries if int(e.level) >= logging.WARNING or any(w in e.user_message for w in words)
    ]


def find_record_times(instance: dg.DagsterInstance, run_id: str) -> dict[dg.AssetKey, list[int]]:
    """Return the times in milliseconds at which a run recorded the materializations of each asset."""
    found: dict[dg.AssetKey, list[int]] = {}
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
        key = entry.get_dagster_event().asset_key
        assert key
        found.setdefault(key, []).append(int(entry.timestamp * 1000))
    return found


def test_a_run_over_several_months_records_its_plan_for_every_asset_and_month(
    tlc: TlcHost, run: Any, instance: dg.DagsterInstance
) -> None:
    for month in (JANUARY, FEBRUARY):
        tlc.publish(month)
    tlc.publish_bytes(MARCH, b"PAR1")
    result = run("2024-01", "2024-03")
    assert not result.success
    entries = instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    planned = [entry.get_dagster_event() for entry in entries]
    for asset in (RAW_TRIPS, FCT_TRIPS):
        assert [str(e.partition) for e in planned if e.asset_key == asset] == ["2024-01", "2024-02", "2024-03"]
    # Dagster derives the failed months of a run from these events. The file of March is damaged.
    status = instance.get_status_by_partition(RAW_TRIPS, ["2024-01", "2024-02", "2024-03"], monthly_partitions())
    assert status
    assert {key: str(value.value) for key, value in status.items() if value} == {
        "2024-01": "MATERIALIZED",
        "2024-02": "MATERIALIZED",
        "2024-03": "FAILED",
    }
    records = instance.get_asset_records([FCT_TRIPS])
    assert records[0].asset_entry.last_run_id == result.run_id


def test_a_run_of_one_month_records_the_file_and_the_result(
    tlc: TlcHost, instance: dg.DagsterInstance, target: PostgresTarget, settings: Settings, run: Any
) -> None:
    published = tlc.publish(JANUARY, rows=300)
    result = run("2024-01")
    assert result.success
    assert find_warnings(instance, result.run_id) == []

    raw = get_newest_materialization(instance, RAW_TRIPS, "2024-01")
    metadata = get_metadata(raw)
    details = metadata["details"]
    assert metadata["dagster/partition_row_count"] == 300
    assert details["bytes"] == published.path.stat().st_size
    assert metadata["size"] == f"{details['bytes'] / 1000:.1f} kB"
    assert len(details["sha256"]) == 64
    assert details["etag"].startswith('"')
    assert metadata["layout"] == "2023 to 2024"
    assert metadata["drift"] == "none"
    assert metadata["pickups outside the month"] == published.pickups_outside
    assert metadata["seconds"] > 0
    assert metadata["rows a second"] > 0
    assert metadata["url"] == f"{tlc.url}{month_path(JANUARY)}"
    assert metadata["preview"].count("\n") == 1 + 5
    assert "last modified" in metadata
    assert raw.tags
    assert raw.tags["dagster/data_version"] == details["rows_sha256"]

    counts = [
        get_metadata(get_newest_materialization(instance, dg.AssetKey(name), "2024-01"))["dagster/partition_row_count"]
        for name in ("fct_trips", "rejected_trips")
    ]
    assert sum(counts) == 300
    facts = get_metadata(get_newest_materialization(instance, FCT_TRIPS, "2024-01"))
    (money,) = fetch_rows(target, settings.schema_name, "select sum(total_amount) from fct_trips")
    assert facts["sum of total_amount"] == float(money[0])
    assert facts["share rejected"] == f"{1 - counts[0] / 300:.3%}"
    assert facts["preview"].count("\n") == 1 + 5
    assert "source_month >= date '2024-01-01' and source_month < date '2024-02-01'" in facts["SQL"]
    assert list(facts)[-1] == list(metadata)[-1] == "details"
    # Dagster's UI folds JSON of 1000 characters and more.
    assert min(len(json.dumps(details)), len(json.dumps(facts["details"]))) >= 1000
    assert facts["details"]["built from rows with sha256"] == details["rows_sha256"]
    lineage = facts["dagster/column_lineage"].deps_by_column
    assert [(d.asset_key.to_user_string(), d.column_name) for d in lineage["total_amount"]] == [
        ("stg_trips", "total_amount")
    ]
    (record,) = instance.fetch_materializations(dg.AssetKey("stg_trips"), limit=2).records
    assert record.asset_materialization
    staging_lineage = get_metadata(record.asset_materialization)["dagster/column_lineage"]
    assert ("raw_trips", "vendorid") in {
        (d.asset_key.to_user_string(), d.column_name) for d in staging_lineage.deps_by_column["vendor_id"]
    }


def test_zones_and_code_lists_are_loaded_with_the_first_month_and_recorded_once(
    tlc: TlcHost, instance: dg.DagsterInstance, run: Any, target: PostgresTarget, settings: Settings
) -> None:
    def record_connection(*_: object) -> None:
        connections.append(1)

    def count_records(asset: str) -> int:
        return len(instance.fetch_materializations(dg.AssetKey(asset), limit=10).records)

    tlc.publish(JANUARY, rows=100)
    tlc.http.on(ZONES, status(404))
    del tlc.http.answers[ZONE_SHAPES]
    result = run("2024-01")
    assert result.success
    warnings = [entry.user_message for entry in instance.all_logs(result.run_id) if entry.level == logging.WARNING]
    assert any(ZONES in warning and "without zone names" in warning for warning in warnings), warnings
    tlc.publish_zones()
    assert run("2024-01").success
    # The report lacks only its map.
    frames = read_frames(Warehouse(target, settings.schema_name), Clock().now())
    assert frames.no_shapes_reason == NO_SHAPES
    assert frames.months["trips"].sum() > 0
    assert count_records("raw_zone_shapes") == 0

    connections: list[int] = []
    event.listen(Pool, "connect", record_connection)
    try:
        assert run("2024-01").success
    finally:
        event.remove(Pool, "connect", record_connection)
    assert connections == [], "the events of a run open no connections"
    assert tlc.http.count(ZONE_SHAPES) == 1
    assert {
        count_records(name) for name in ("raw_zones", "tlc_vendors", "stg_trips", "dim_zones", "monthly_revenue")
    } == {1}


def test_the_same_rows_in_another_file_are_the_same_data_and_other_rows_are_not(
    tlc: TlcHost, instance: dg.DagsterInstance, definitions: dg.Definitions
) -> None:
    versions = []
    for count, seed, resaved in ((200, 0, False), (200, 0, True), (200, 1, False)):
        tlc.publish(JANUARY, rows=count, seed=seed, resaved=resaved)
        result = definitions.resolve_job_def(TAXI_PIPELINE).execute_in_process(
            instance=instance, partition_key="2024-01", asset_selection=[RAW_TRIPS], run_config=QUIET
        )
        assert result.success
        raw = get_newest_materialization(instance, RAW_TRIPS, "2024-01")
        versions.append(((raw.tags or {})["dagster/data_version"], get_metadata(raw)["details"]["sha256"]))
    assert versions[0][0] == versions[1][0] != versions[2][0]
    assert len({sha for _, sha in versions}) == 3


def test_a_range_records_every_month_separately_and_only_a_bad_one_is_failed(
    tlc: TlcHost, instance: dg.DagsterInstance, run: Any
) -> None:
    for month, count in ((JANUARY, 210), (FEBRUARY, 220)):
        tlc.publish(month, rows=count)
    good = run("2024-01", "2024-02")
    assert good.success
    assert find_warnings(instance, good.run_id) == []
    recorded = instance.get_run_by_id(good.run_id)
    assert recorded
    assert recorded.tags["months"] == "2024-01 to 2024-02"
    # An asset's page merges events of the same millisecond.
    monthly = {key: times for key, times in find_record_times(instance, good.run_id).items() if len(times) > 1}
    assert {RAW_TRIPS, FCT_TRIPS} < monthly.keys()
    assert {key: times for key, times in monthly.items() if len(set(times)) < len(times)} == {}
    for partition, count in (("2024-01", 210), ("2024-02", 220)):
        raw = get_newest_materialization(instance, RAW_TRIPS, partition)
        assert raw.metadata["dagster/partition_row_count"].value == count
        assert (raw.tags or {})["dagster/data_version"] == get_metadata(raw)["details"]["rows_sha256"]
        assert (
            get_metadata(get_newest_materialization(instance, FCT_TRIPS, partition))["dagster/partition_row_count"]
            <= count
        )
    events = instance.get_latest_data_version_record(RAW_TRIPS, partition_key="2024-01")
    assert events

    tlc.publish_bytes(FEBRUARY, b"<html>Sign in</html>")
    tlc.publish(MARCH, rows=230)
    bad = run("2024-01", "2024-03")
    assert not bad.success
    (failure,) = [event for event in bad.all_events if event.is_step_failure]
    assert list(failure.step_failure_data.user_failure_data.metadata) == ["2024-02"]
    assert "html" in failure.step_failure_data.user_failure_data.metadata["2024-02"].value
    assert list_materialized(bad, "2024-01") == list_materialized(bad, "2024-03") == ["raw_trips"]
    assert list_materialized(bad, "2024-02") == []
    assert (
        get_newest_materialization(instance, RAW_TRIPS, "2024-02").metadata["dagster/partition_row_count"].value == 220
    )


def test_an_error_of_a_dbt_test_names_its_month_and_stops_its_downstream_models(
    tlc: TlcHost, settings: Settings, target: PostgresTarget, instance: dg.DagsterInstance, run: Any
) -> None:
    schema = settings.schema_name

    def execute(*statements: str) -> None:
        with psycopg.connect(target.url()) as connection:
            for statement in statements:
                connection.execute(sql.SQL(statement).format(s=sql.Identifier(schema)))

    for month in (JANUARY, FEBRUARY):
        tlc.publish(month, rows=300)
    assert run("2024-01", "2024-02").success
    before = fetch_rows(target, schema, "select * from int_monthly_revenue_by_file order by 1, 2, 3")
    execute(
        "create function {s}.lose() returns trigger language plpgsql as 'begin return null; end'",
        "create trigger lose before insert on {s}.fct_trips for each row "
        "when (new.source_month = '2024-02-01' and new.source_row % 7 = 0) execute function {s}.lose()",
        "create function {s}.overcharge() returns trigger language plpgsql as "
        "'begin new.total_amount = new.total_amount + 0.01; return new; end'",
        "create trigger overcharge before insert on {s}.fct_trips for each row "
        "when (new.source_month = '2024-01-01' and new.source_row = 7) execute function {s}.overcharge()",
    )
    tlc.publish(FEBRUARY, rows=300, seed=1)
    result = run("2024-01", "2024-02")
    assert not result.success
    failed = {
        n: e for n, e in get_checks(instance, result.run_id).items() if not e.passed and e.severity.name == "ERROR"
    }
    # January has every trip, but one cent too much.
    months_of_failures = {name: evaluation.metadata["months"].value for name, evaluation in failed.items()}
    assert months_of_failures["raw_trips_equal_fact_plus_rejected"] == "2024-02"
    assert months_of_failures["raw_money_equals_fact_plus_rejected"] == "2024-01, 2024-02"
    assert {"raw_trips", "fct_trips"} <= set(list_materialized(result, "2024-02"))

    # trip_quality lacks the lost trips; another build of it would count them.
    quality = fetch_rows(target, schema, "select * from trip_quality order by source_month")
    execute(
        "drop function {s}.lose, {s}.overcharge cascade",
        "create function {s}.spoil() returns trigger language plpgsql as "
        "$$ begin new.rejection_reasons = '{{no such reason}}'; return new; end $$",
        "create trigger spoil before insert on {s}.rejected_trips for each row execute function {s}.spoil()",
    )
    result = run("2024-01", "2024-02")
    assert not result.success
    check = get_checks(instance, result.run_id)["rejected_trips_have_a_known_reason"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    built = list_materialized(result)
    assert {"fct_trips", "rejected_trips"} <= set(built)
    assert "trip_quality" not in built
    assert fetch_rows(target, schema, "select * from trip_quality order by source_month") == quality

    # After the repair, the same run has the correct result.
    execute("drop function {s}.spoil cascade")
    assert run("2024-01", "2024-02").success
    assert fetch_rows(target, schema, "select count(*) from fct_trips natural full join rejected_trips") == [(600,)]
    assert fetch_rows(target, schema, "select * from trip_quality order by source_month") != quality
    after = fetch_rows(target, schema, "select * from int_monthly_revenue_by_file order by 1, 2, 3")
    assert [row for row in after if row[0] == JANUARY] == [row for row in before if row[0] == JANUARY]


def test_models_built_without_the_others_that_their_tests_read_are_checked(
    tlc: TlcHost, instance: dg.DagsterInstance, definitions: dg.Definitions
) -> None:
    tlc.publish(JANUARY)
    job = definitions.resolve_job_def(TAXI_PIPELINE)
    # The daemon splits the models of a backfill like this when months are loaded between two of its ticks.
    late = {dg.AssetKey("trip_quality"), dg.AssetKey("int_hourly_zone_activity_by_file")}
    early = [key for key in job.asset_layer.executable_asset_keys if key not in late]
    for selected in (early, sorted(late)):
        result = job.execute_in_process(
            instance=instance, partition_key="2024-01", asset_selection=selected, run_config=QUIET, raise_on_error=False
        )
        assert result.success
        assert all(
            check.passed or check.severity is dg.AssetCheckSeverity.WARN
            for check in get_checks(instance, result.run_id).values()
        )


def test_rare_values_are_kept_and_counted_and_a_warning_stops_nothing(
    tlc: TlcHost, settings: Settings, target: PostgresTarget, instance: dg.DagsterInstance, run: Any
) -> None:
    tlc.publish(date(2025, 1, 1), rows=20_000)
    result = run("2025-01")
    assert result.success
    assert "int_monthly_revenue_by_file" in list_materialized(result, "2025-01")
    # Of 20,000 synthetic rows, some have a vendor that the TLC does not document.
    unusual = get_checks(instance, result.run_id)["raw_trips_have_no_undocumented_codes"]
    assert (unusual.passed, unusual.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert unusual.metadata["sample"].value
    (found,) = fetch_rows(
        target, settings.schema_name, "select raw_trips, fact_trips, rejected_trips from trip_quality"
    )
    assert found[0] == 20_000 == found[1] + found[2]
    warehouse, january = Warehouse(target, settings.schema_name), date(2025, 1, 1)
    outside = measure_months(warehouse, january, date(2025, 2, 1), DATASET.pickup)[january]
    assert fetch_rows(target, settings.schema_name, "select outside_month_trips from trip_quality") == [
        (outside.pickups_outside,)
    ]
    assert found[2] > 0
    reasons = fetch_rows(target, settings.schema_name, "select distinct unnest(rejection_reasons) from rejected_trips")
    assert reasons == [("pickup_far_outside_month",)]
    flagged = (
        "select implausible_distance_trips, invalid_duration_trips, refund_trips - tied_refund_trips from trip_quality"
    )
    ((distances, durations, untied),) = fetch_rows(target, settings.schema_name, flagged)
    assert distances > 0
    assert durations > 0
    assert untied == 0


@pytest.mark.parametrize(
    ("error", "is_retried"),
    [
        (WarehouseUnavailableError("The server closed the connection."), True),
        (WarehouseError("There is no such table."), False),
        # The HTTP client has already retried the request.
        (TransientTlcError("The host is busy."), False),
        (PermanentTlcError("There is no such file."), False),
    ],
)
def test_a_load_is_retried_only_if_postgresql_was_unavailable(error: Exception, is_retried: bool) -> None:
    assert failure_of({JANUARY: error}, set()).allow_retries is is_retried


def test_a_failure_lists_the_result_of_every_month() -> None:
    failure = failure_of({JANUARY: WarehouseError("no"), FEBRUARY: WarehouseError("half")}, {FEBRUARY, MARCH})
    assert str(failure.description).splitlines() == [
        "Not loaded: 2024-01. Loaded, but not whole: 2024-02. Loaded: 2024-03.",
        "2024-01: no",
        "2024-02: half",
    ]


def test_a_retried_range_has_the_records_and_checks_of_every_attempt(
    tlc: TlcHost,
    instance: dg.DagsterInstance,
    run: Any,
    target: PostgresTarget,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts: list[date] = []

    def replace_month(warehouse: Warehouse, file: LoadedFile, *args: Any, **options: Any) -> Any:
        attempts.append(file.source_month)
        if file.source_month == MARCH and attempts.count(MARCH) == 1:
            raise WarehouseUnavailableError("The server is going down.")
        return replace(warehouse, file, *args, **options)

    replace = loading.replace_month
    monkeypatch.setattr(loading, "replace_month", replace_month)
    for month in (JANUARY, FEBRUARY, MARCH):
        tlc.publish(month)
    assert run("2024-01", "2024-03").success
    assert sorted(attempts) == [JANUARY, FEBRUARY, MARCH, MARCH]
    statuses = month_statuses(Warehouse(target, settings.schema_name), instance, Window(JANUARY, date(2024, 4, 1)))
    assert [status.state for status in statuses.values()] == ["completed"] * 3
    assert len({status.checks.total for status in statuses.values()}) == 1
    assert not any(status.checks.failed for status in statuses.values())


def test_a_range_re_executed_from_failure_loads_failed_months_and_records_all(
    tlc: TlcHost,
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    run: Any,
    target: PostgresTarget,
    settings: Settings,
) -> None:
    for month in (JANUARY, MARCH):
        tlc.publish(month)
    tlc.publish_bytes(FEBRUARY, b"<html>Sign in</html>")
    first = run("2024-01", "2024-03")
    assert not first.success
    tlc.publish(FEBRUARY)
    requests_before = {month: tlc.requests_for(month) for month in (JANUARY, FEBRUARY, MARCH)}
    job = definitions.resolve_job_def(TAXI_PIPELINE)
    again = instance.create_run_for_job(
        job,
        run_config=QUIET,
        tags={**first.dagster_run.tags, "dagster/is_resume_retry": "true"},
        parent_run_id=first.run_id,
        root_run_id=first.run_id,
    )
    for _ in execute_run_iterator(InMemoryJob(job), again, instance):
        pass
    assert get_status(instance, again.run_id) is dg.DagsterRunStatus.SUCCESS
    assert {month: tlc.requests_for(month) - count for month, count in requests_before.items()} == {
        JANUARY: 0,
        FEBRUARY: 1,
        MARCH: 0,
    }
    statuses = month_statuses(Warehouse(target, settings.schema_name), instance, Window(JANUARY, date(2024, 4, 1)))
    assert [status.state for status in statuses.values()] == ["completed"] * 3
    assert len({status.checks.total for status in statuses.values()}) == 1
    assert not any(status.checks.failed for status in statuses.values())


def test_an_unpublished_month_of_a_job_backfill_of_several_months_is_not_failed(
    tlc: TlcHost, instance: dg.DagsterInstance, definitions: dg.Definitions
) -> None:
    def run_of_backfill(*months: str) -> dg.ExecuteInProcessResult:
        # Materialize all, on the page of the job.
        record = PartitionBackfill(
            backfill_id=str(len(months)),
            status=BulkActionStatus.REQUESTED,
            from_failure=False,
            tags={},
            backfill_timestamp=time.time(),
            partition_names=months,
        )
        instance.add_backfill(record)
        return definitions.resolve_job_def(TAXI_PIPELINE).execute_in_process(
            instance=instance,
            partition_key="2024-02",
            tags={BACKFILL: record.backfill_id},
            run_config=QUIET,
            raise_on_error=False,
        )

    tlc.withdraw(FEBRUARY)
    result = run_of_backfill("2024-01", "2024-02")
    assert result.success
    assert list_materialized(result, "2024-02") == []
    assert not run_of_backfill("2024-02").success


def test_a_run_that_a_user_terminates_ends_as_canceled_and_is_not_retried(
    tlc: TlcHost, instance: dg.DagsterInstance, run: Any
) -> None:
    tlc.publish(FEBRUARY)

    def terminate(handler: BaseHTTPRequestHandler) -> None:
        # Dagster's run launcher first stores the request to cancel, and then sends the signal.
        (started,) = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        instance.report_run_canceling(started)
        os.kill(os.getpid(), signal.SIGINT)
        silent(2)(handler)

    assert threading.current_thread() is threading.main_thread(), "Python handles signals only in the main thread"
    tlc.http.on(month_path(JANUARY), terminate)
    began = time.monotonic()
    result = run("2024-01", "2024-02")
    assert time.monotonic() - began < 15
    assert get_status(instance, result.run_id) is dg.DagsterRunStatus.CANCELED
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
    assert "fct_trips" not in list_materialized(result, "2024-02")


def test_a_run_that_is_terminated_during_its_checks_is_not_retried(
    tlc: TlcHost, instance: dg.DagsterInstance, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tlc.publish(JANUARY)

    def terminate(*_: object) -> None:
        (started,) = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        instance.report_run_canceling(started)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)

    monkeypatch.setattr(raw_trips, "raw_findings", terminate)
    result = run("2024-01")
    assert get_status(instance, result.run_id) is dg.DagsterRunStatus.CANCELED
    assert tlc.requests_for(JANUARY) == 1


@pytest.mark.parametrize("is_re_executed", [False, True])
def test_only_a_run_of_the_terminal_itself_is_canceled_by_its_ctrl_c(
    instance: dg.DagsterInstance, definitions: dg.Definitions, is_re_executed: bool
) -> None:
    job = definitions.resolve_job_def(TAXI_PIPELINE)
    tags = {LAUNCHED_BY: TAXI_BACKFILL}
    run = instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED)
    if is_re_executed:
        parent = run.run_id
        run = instance.create_run_for_job(
            job, tags=tags, status=dg.DagsterRunStatus.STARTED, parent_run_id=parent, root_run_id=parent
        )
    context: Any = SimpleNamespace(run=run, instance=instance)
    with pytest.raises(KeyboardInterrupt if is_re_executed else dg.Failure), canceled_by_interrupt(context):
        raise KeyboardInterrupt
    status = dg.DagsterRunStatus.STARTED if is_re_executed else dg.DagsterRunStatus.CANCELING
    assert get_status(instance, run.run_id) is status
