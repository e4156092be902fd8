"""Backfills of synthetic months with real HTTP, PostgreSQL, dbt and Dagster storage."""

from datetime import date

import pytest
from dagster import AssetCheckKey, AssetRecordsFilter, DagsterInstance, Definitions

from taxi_orchestration.cli.backfill import Backfill
from taxi_orchestration.cli.selection import months_to_do
from taxi_orchestration.defs.month_checks import FILE_IS_WHOLE
from taxi_orchestration.instance.run_tags import months_of_run
from taxi_orchestration.loading import Loader
from taxi_orchestration.months import Window
from taxi_orchestration.settings import PostgresTarget, Settings
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration.warehouse.warehouse import Warehouse
from taxi_orchestration_tests.support.interference import row_deleting_trigger
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


def test_only_the_months_that_fail_are_failed_and_the_others_are_built(
    tlc: TlcHost,
    settings: Settings,
    target: PostgresTarget,
    instance: DagsterInstance,
    definitions: Definitions,
    loader: Loader,
) -> None:
    months = Window(JANUARY, date(2024, 5, 1))
    for month in months.months:
        tlc.publish(month)
    tlc.publish_bytes(FEBRUARY, b"<html>Sign in</html>")
    with row_deleting_trigger(target, settings.schema_name, MARCH):
        outcome = Backfill(definitions, instance, months_at_once=2).run(months.months)
    statuses = month_statuses(Warehouse(target, settings.schema_name), instance, months)
    assert {month: status.state for month, status in statuses.items()} == {
        JANUARY: "completed",
        FEBRUARY: "failed",
        MARCH: "unfinished",
        APRIL: "completed",
    }
    assert list(outcome.failures) == [FEBRUARY, MARCH]
    assert not outcome.run_failures
    assert "Sign in" in outcome.failures[FEBRUARY]
    assert outcome.failures[MARCH].endswith(
        "the tables were changed by hand. Load the month again: taxi backfill 2024-03 2024-03 --reprocess completed."
    )
    assert statuses[MARCH].checks.failed == ["file_is_whole"]
    (record,) = instance.get_backfills()
    assert record.status.value == "COMPLETED_FAILED"
    assert record.asset_backfill_data
    failed = record.asset_backfill_data.failed_and_downstream_subset.partitions_subsets_by_asset_key
    # March is loaded, but nothing is built from it.
    assert {key: set(subset.get_partition_keys()) for key, subset in failed.items()} == {
        key: {"2024-02"} if key == RAW_TRIPS else {"2024-02", "2024-03"} for key in record.asset_selection or ()
    }
    # A check that did not run for February has no failed record, so it does not stay red in the UI.
    for check, status_of_march in ((FILE_IS_WHOLE, "FAILED"), ("volume_as_expected", "SUCCEEDED")):
        history = instance.event_log_storage.get_asset_check_execution_history(AssetCheckKey(RAW_TRIPS, check), 10)
        assert {(e.partition, e.status.value) for e in history} == {
            ("2024-01", "SUCCEEDED"),
            ("2024-03", status_of_march),
            ("2024-04", "SUCCEEDED"),
        }
    (reason,) = fetch_observations(instance, "2024-02")
    assert reason.startswith("Not loaded. ")
    assert months_to_do(statuses) == [FEBRUARY, MARCH]
    assert months_to_do(statuses, "none") == []
    assert months_to_do(statuses, "completed", newest_first=True) == [APRIL, MARCH, FEBRUARY, JANUARY]


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
    (reason,) = outcome.not_published.values()
    assert list(outcome.not_published) == [FEBRUARY]
    assert reason.startswith(f"Downloading {DATASET.label} 2024-02 ({tlc.url}/")
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
