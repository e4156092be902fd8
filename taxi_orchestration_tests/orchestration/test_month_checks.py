"""The month checks in runs on a real instance: their results, the months of the results, and blocked steps."""

from datetime import date
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest
from psycopg import sql

from taxi_orchestration.cli.backfill import Backfill
from taxi_orchestration.defs.coverage import coverage_evaluation
from taxi_orchestration.defs.jobs import TAXI_PIPELINE
from taxi_orchestration.defs.month_checks import raw_findings
from taxi_orchestration.defs.tlc_source import observation
from taxi_orchestration.loading import Loader
from taxi_orchestration.months import Window, partition_key
from taxi_orchestration.postgres.connection import connect
from taxi_orchestration.settings import PostgresTarget, Settings
from taxi_orchestration.tlc.client import Publication
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration.warehouse.warehouse import Warehouse
from taxi_orchestration_tests.support.daemon import QUIET
from taxi_orchestration_tests.support.interference import row_deleting_trigger
from taxi_orchestration_tests.support.keys import COVERAGE, FCT_TRIPS, PLAIN, RAW_CHECKS, RAW_TRIPS
from taxi_orchestration_tests.support.months import FEBRUARY, JANUARY, MARCH
from taxi_orchestration_tests.support.statuses import month_statuses
from taxi_orchestration_tests.support.tlc_host import TlcHost

QUARTER = Window(JANUARY, date(2024, 4, 1))
KEYS = [partition_key(month) for month in QUARTER.months]
RANGE = {"dagster/asset_partition_range_start": KEYS[0], "dagster/asset_partition_range_end": KEYS[-1]}


def make_partition_tag(key: str) -> dict[str, str]:
    """Return the tag of a run for one month."""
    return {"dagster/partition": key}


def list_evaluations(instance: dg.DagsterInstance, run_id: str) -> list[dg.AssetCheckEvaluation]:
    entries = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    return [entry.get_dagster_event().asset_check_evaluation_data for entry in entries]


def list_python_evaluations(instance: dg.DagsterInstance) -> list[dg.AssetCheckEvaluation]:
    """Return the evaluations of the project's Python checks in all runs, newest run first."""
    python_checks = {spec.key for spec in [*RAW_CHECKS, COVERAGE]}
    return [
        e
        for run in instance.get_runs()
        for e in list_evaluations(instance, run.run_id)
        if e.asset_check_key in python_checks
    ]


def assert_shown_in_the_ui(instance: dg.DagsterInstance, definitions: dg.Definitions) -> None:
    """Assert that the UI shows the only backfill like one of its own, with the months of its runs, and fresh assets."""
    (record,) = instance.get_backfills()
    runs = instance.get_runs()
    assert [run.status for run in runs] == [dg.DagsterRunStatus.SUCCESS] * 2
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


def test_every_month_of_a_backfill_is_exact_and_later_checks_find_what_was_changed(
    tlc: TlcHost,
    settings: Settings,
    target: PostgresTarget,
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    direct_backfill: Backfill,
) -> None:
    published = {month: tlc.publish(month, rows=300, seed=month.month) for month in QUARTER.months}
    outcome = direct_backfill.run(QUARTER.months)
    assert outcome.succeeded, outcome
    assert_shown_in_the_ui(instance, definitions)
    results = list_python_evaluations(instance)
    assert {(e.check_name, e.partition) for e in results if e.passed} == {
        *((spec.name, key) for spec in RAW_CHECKS for key in KEYS),
        (COVERAGE.name, None),
    }
    assert len(results) == 4 * 3 + 1
    statuses = month_statuses(Warehouse(target, settings.schema_name), instance, QUARTER)
    for month, status in statuses.items():
        assert status.state == "completed"
        assert status.raw_rows == published[month].rows == status.fact_rows + status.rejected_rows
        assert status.checks.total > len(RAW_CHECKS) + 10
        assert not status.checks.failed

    with connect(target) as connection:
        connection.execute(
            sql.SQL("delete from {} where source_month = %s and source_row = 7").format(
                sql.Identifier(settings.schema_name, "raw_trips")
            ),
            [FEBRUARY],
        )
    check_job = dg.define_asset_job("only_checks", dg.AssetSelection.checks(*(spec.key for spec in RAW_CHECKS)))
    job = dg.Definitions.merge(definitions, dg.Definitions(jobs=[check_job])).resolve_job_def("only_checks")
    requests_before = tlc.requests_for(FEBRUARY)
    result = job.execute_in_process(instance=instance, tags=RANGE, run_config=QUIET, raise_on_error=False)
    failed = [e for e in list_evaluations(instance, result.run_id) if not e.passed]
    assert {(e.check_name, e.partition) for e in failed} == {("file_is_whole", "2024-02")}
    assert all(e.severity is dg.AssetCheckSeverity.ERROR for e in failed)
    result = job.execute_in_process(
        instance=instance, tags=make_partition_tag("2024-02"), run_config=QUIET, raise_on_error=False
    )
    assert {(e.check_name, e.partition, e.passed) for e in list_evaluations(instance, result.run_id)} == {
        (spec.name, "2024-02", spec.name != "file_is_whole") for spec in RAW_CHECKS
    }
    assert tlc.requests_for(FEBRUARY) == requests_before, "checks load nothing"
    # The button "Execute all" starts the checks in this way: no month means every loaded month.
    result = job.execute_in_process(instance=instance, run_config=QUIET, raise_on_error=False)
    assert {(e.check_name, e.partition) for e in list_evaluations(instance, result.run_id)} == {
        (spec.name, key) for spec in RAW_CHECKS for key in KEYS
    }
    messages = " ".join(str(entry.user_message) for entry in instance.all_logs(result.run_id))
    assert "did not yield" not in messages
    check_job = dg.define_asset_job("tests_of_dbt", dg.AssetSelection.checks_for_assets(FCT_TRIPS))
    job = dg.Definitions.merge(definitions, dg.Definitions(jobs=[check_job])).resolve_job_def("tests_of_dbt")
    result = job.execute_in_process(instance=instance, run_config=QUIET)
    assert [(e.passed, e.asset_check_key.asset_key) for e in list_evaluations(instance, result.run_id)] == [
        (True, FCT_TRIPS)
    ]
    with connect(target) as connection:
        connection.execute(
            sql.SQL("update {} set vendor_id = 99 where source_month = %s and source_row = 8").format(
                sql.Identifier(settings.schema_name, "fct_trips")
            ),
            [FEBRUARY],
        )
    result = job.execute_in_process(instance=instance, run_config=QUIET, raise_on_error=False)
    (found,) = list_evaluations(instance, result.run_id)
    assert (found.passed, found.metadata["months"].value) == (False, "2024-02")
    for key, passed in (("2024-01", True), ("2024-02", False)):
        result = job.execute_in_process(
            instance=instance, tags=make_partition_tag(key), run_config=QUIET, raise_on_error=False
        )
        assert [e.passed for e in list_evaluations(instance, result.run_id)] == [passed]


def test_an_incomplete_month_stops_its_downstream_assets(
    tlc: TlcHost,
    settings: Settings,
    target: PostgresTarget,
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    loader: Loader,
) -> None:
    tlc.publish(FEBRUARY)
    with row_deleting_trigger(target, settings.schema_name, FEBRUARY):
        result = definitions.resolve_job_def(TAXI_PIPELINE).execute_in_process(
            instance=instance, partition_key="2024-02", run_config=QUIET, raise_on_error=False
        )
    assert not result.success
    (evaluation,) = [e for e in list_evaluations(instance, result.run_id) if e.check_name == "file_is_whole"]
    assert (evaluation.passed, evaluation.blocking, evaluation.metadata["months"].value) == (False, True, "2024-02")
    assert "199" in str(evaluation.description)
    assert not any(event.step_key == "dbt_models" and event.is_step_start for event in result.all_events)


def test_checks_of_more_months_open_no_more_connections(
    tlc: TlcHost, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    for month in QUARTER.months:
        tlc.publish(month)
        loader.load_month(month)
    connections: list[int] = []
    connect_original = Warehouse.connect

    def count_and_connect(*args: Any, **kwargs: Any) -> Any:
        connections.append(1)
        return connect_original(*args, **kwargs)

    monkeypatch.setattr(Warehouse, "connect", count_and_connect)
    raw_findings(loader.warehouse, [JANUARY])
    connections_of_one_month = len(connections)
    raw_findings(loader.warehouse, QUARTER.months)
    assert len(connections) == 2 * connections_of_one_month


def test_many_pickups_outside_the_month_are_reported_with_a_sample(
    tlc: TlcHost, target: PostgresTarget, loader: Loader
) -> None:
    tlc.publish(JANUARY)
    loader.load_month(JANUARY)
    with connect(target) as connection:
        connection.execute(
            sql.SQL("update {} set {} = '2009-01-01' where source_row > 50").format(
                sql.Identifier(loader.warehouse.schema, "raw_trips"), sql.Identifier(DATASET.pickup)
            )
        )
    finding = raw_findings(loader.warehouse, [JANUARY])[JANUARY]["pickups_lie_in_the_month"]
    assert finding.level == "warn"
    assert finding.counts["pickups outside"] == pytest.approx(150, abs=5)
    assert {row[DATASET.pickup].year for row in finding.sample[2:]} == {2009}
    assert len(finding.sample) == 5


def test_coverage_compares_published_loaded_and_recorded_months(
    tlc: TlcHost,
    target: PostgresTarget,
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    loader: Loader,
) -> None:
    def evaluate_coverage() -> dg.AssetCheckEvaluation:
        return coverage_evaluation(instance, loader.warehouse, DATASET.first_month)

    for month in QUARTER.months:
        tlc.publish(month)
    job = definitions.resolve_job_def(TAXI_PIPELINE)
    job.execute_in_process(instance=instance, partition_key="2024-01", asset_selection=[RAW_TRIPS], run_config=QUIET)
    assert evaluate_coverage().passed
    assert "not fetched yet" in str(evaluate_coverage().metadata["published, not loaded"].value)

    for month, is_published in ((JANUARY, True), (FEBRUARY, True), (MARCH, False)):
        instance.report_runless_asset_event(
            observation(PLAIN, month, Publication("http://x", is_published, etag='"a"'))
        )
    assert evaluate_coverage().metadata["published, not loaded"].value == "2024-02"

    loader.load_month(FEBRUARY)
    assert evaluate_coverage().metadata["in PostgreSQL, unknown to Dagster"].value == "2024-02"
    assert evaluate_coverage().severity is dg.AssetCheckSeverity.WARN

    with connect(target) as connection:
        connection.execute(
            sql.SQL("drop table {}").format(sql.Identifier(loader.warehouse.schema, "raw_trips_2024_01"))
        )
    assert evaluate_coverage().metadata["in Dagster, not in PostgreSQL"].value == "2024-01"
    assert evaluate_coverage().severity is dg.AssetCheckSeverity.ERROR
