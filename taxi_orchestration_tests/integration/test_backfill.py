"""Backfills of synthetic months with real HTTP, PostgreSQL, dbt and Dagster storage."""

from datetime import date

import pytest
from dagster import (
    AssetCheckKey,
    AssetRecordsFilter,
    DagsterInstance,
    DagsterRunStatus,
    Definitions,
)
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from taxi_orchestration.cli.backfill import Backfill
from taxi_orchestration.cli.selection import months_to_do
from taxi_orchestration.defs.month_checks import FILE_IS_WHOLE
from taxi_orchestration.instance.run_tags import months_of_run
from taxi_orchestration.months import Window
from taxi_orchestration.settings import PostgresTarget, Settings
from taxi_orchestration.warehouse.warehouse import Warehouse
from taxi_orchestration_tests.support.keys import RAW_TRIPS
from taxi_orchestration_tests.support.months import FEBRUARY, JANUARY, MARCH
from taxi_orchestration_tests.support.statuses import month_statuses
from taxi_orchestration_tests.support.tlc_host import TlcHost

APRIL = date(2024, 4, 1)
QUARTER = Window(JANUARY, APRIL)


def fetch_observations(instance: DagsterInstance, key: str) -> list[str]:
    """Return the descriptions of the latest observations of a partition of raw_trips."""
    found = instance.fetch_observations(AssetRecordsFilter(RAW_TRIPS, asset_partitions=[key]), limit=10).records
    return [str(record.asset_observation.description) for record in found if record.asset_observation]


@pytest.mark.parametrize(
    ("rows_per_build", "builds"),
    [(600, [[JANUARY, FEBRUARY], [MARCH]]), (601, [[JANUARY, FEBRUARY, MARCH]])],
)
def test_months_are_loaded_by_number_of_months_and_built_by_rows(
    tlc: TlcHost,
    instance: DagsterInstance,
    definitions: Definitions,
    monkeypatch: pytest.MonkeyPatch,
    rows_per_build: int,
    builds: list[list[date]],
) -> None:
    built: list[list[date]] = []
    monkeypatch.setattr(Backfill, "_build", lambda self, backfill, months, outcome: built.append(sorted(months)))
    for month in QUARTER.months:
        tlc.publish(month, rows=300)
    backfill = Backfill(definitions, instance, months_at_once=2, months_per_run=2, rows_per_build=rows_per_build)
    assert backfill.run(QUARTER.months).succeeded
    assert [months_of_run(run) for run in instance.get_runs()] == [["2024-03"], ["2024-01", "2024-02"]]
    assert [months for months in built if months] == builds


def test_every_row_is_a_fact_or_a_rejected_trip_and_the_ui_shows_the_runs(
    tlc: TlcHost, settings: Settings, target: PostgresTarget, instance: DagsterInstance, definitions: Definitions
) -> None:
    published = {month: tlc.publish(month, rows=300, seed=month.month) for month in QUARTER.months}
    outcome = Backfill(definitions, instance, months_at_once=2).run(QUARTER.months)
    assert outcome.succeeded, outcome
    statuses = month_statuses(Warehouse(target, settings.schema_name), instance, QUARTER)
    for month, status in statuses.items():
        assert status.state == "completed"
        assert status.raw_rows == published[month].rows == status.fact_rows + status.rejected_rows
        assert status.checks.total > 10
        assert not status.checks.failed

    # Like runs of its own, and with their months.
    (record,) = instance.get_backfills()
    runs = instance.get_runs()
    assert [run.status for run in runs] == [DagsterRunStatus.SUCCESS] * 2
    for run in runs:
        assert run.remote_job_origin.repository_origin.get_label() == "__repository__@taxi_orchestration"  # type: ignore[union-attr]
        assert run.tags["dagster/backfill"] == record.backfill_id
        assert (run.tags["user"], run.tags["months"]) == ("taxi backfill", "2024-01 to 2024-03")
        # The UI hides tags that begin with `.dagster/`.
        assert [tag for tag in run.tags if "taxi" in tag] == [".dagster/taxi_process"]
    assert record.title == "taxi backfill 2024-01 to 2024-03"
    assert record.backfill_id.endswith("-2024-01-to-2024-03")
    data = record.asset_backfill_data
    assert data
    assert set(record.asset_selection or ()) == set(data.target_subset.asset_keys)
    assert data.materialized_subset == data.target_subset == data.requested_subset
    # This includes the tables that were built in the same step as the views.
    graph = definitions.resolve_asset_graph()
    stale = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    for key in record.asset_selection or ():
        assert stale.get_status(key, "2024-02").value == "FRESH", key


def test_only_the_month_that_fails_is_failed_and_the_others_are_built(
    tlc: TlcHost, settings: Settings, target: PostgresTarget, instance: DagsterInstance, definitions: Definitions
) -> None:
    tlc.publish(JANUARY)
    tlc.publish_bytes(FEBRUARY, b"<html>Sign in</html>")
    tlc.publish(MARCH)
    outcome = Backfill(definitions, instance, months_at_once=2).run(QUARTER.months)
    statuses = month_statuses(Warehouse(target, settings.schema_name), instance, QUARTER)
    assert {month: status.state for month, status in statuses.items()} == {
        JANUARY: "completed",
        FEBRUARY: "failed",
        MARCH: "completed",
    }
    assert list(outcome.failures) == [FEBRUARY]
    assert "Sign in" in outcome.failures[FEBRUARY]
    (record,) = instance.get_backfills()
    assert record.status.value == "COMPLETED_FAILED"
    assert record.asset_backfill_data
    failed = record.asset_backfill_data.failed_and_downstream_subset.partitions_subsets_by_asset_key
    assert failed.keys() == set(record.asset_selection or ())
    assert {key for subset in failed.values() for key in subset.get_partition_keys()} == {"2024-02"}
    # A check that did not run for February has no failed record, so it does not stay red in the UI.
    for check in (FILE_IS_WHOLE, "volume_as_expected"):
        history = instance.event_log_storage.get_asset_check_execution_history(AssetCheckKey(RAW_TRIPS, check), 10)
        assert {(e.partition, e.status.value) for e in history} == {("2024-01", "SUCCEEDED"), ("2024-03", "SUCCEEDED")}
    (reason,) = fetch_observations(instance, "2024-02")
    assert reason.startswith("Not loaded. ")
    assert months_to_do(statuses) == [FEBRUARY]
    assert months_to_do(statuses, "none") == []
    assert months_to_do(statuses, "completed", newest_first=True) == [MARCH, FEBRUARY, JANUARY]


def test_an_unpublished_month_is_reported_and_fails_only_a_run_of_that_month_alone(
    tlc: TlcHost, settings: Settings, target: PostgresTarget, instance: DagsterInstance, definitions: Definitions
) -> None:
    backfill = Backfill(definitions, instance, months_at_once=2)
    tlc.publish(JANUARY)
    tlc.publish(MARCH)
    warehouse = Warehouse(target, settings.schema_name)
    assert list(backfill.run([FEBRUARY]).failures) == [FEBRUARY]
    assert month_statuses(warehouse, instance, QUARTER)[FEBRUARY].state == "failed"

    outcome = backfill.run(QUARTER.months)
    assert outcome.succeeded
    assert outcome.not_published == {FEBRUARY}
    assert backfill.run([FEBRUARY], is_of_a_range=True).succeeded, "the same range once more"
    statuses = month_statuses(warehouse, instance, QUARTER)
    assert [status.state for status in statuses.values()] == ["completed", "missing", "completed"]
    assert [text.split(".")[0] for text in fetch_observations(instance, "2024-02")] == [
        *["Not yet published"] * 2,
        "Not loaded",
    ]
    # Newest first. The oldest backfill failed, because it requested only the unpublished month.
    assert [record.status.value for record in instance.get_backfills()] == [
        *["COMPLETED_SUCCESS"] * 2,
        "COMPLETED_FAILED",
    ]
