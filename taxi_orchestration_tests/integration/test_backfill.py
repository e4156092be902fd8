"""A backfill with everything real: made months over HTTP, PostgreSQL, dbt, Dagster's storage."""

from datetime import date

from dagster import DagsterInstance, Definitions

from taxi_orchestration.cli.backfill import Backfill
from taxi_orchestration.cli.selection import months_to_do
from taxi_orchestration.instance.status import month_statuses
from taxi_orchestration.months import Window
from taxi_orchestration.settings import PostgresTarget, Settings
from taxi_orchestration.warehouse.warehouse import Warehouse
from taxi_orchestration_tests.support.months import FEBRUARY, JANUARY, MARCH
from taxi_orchestration_tests.support.tlc_host import TlcHost

APRIL = date(2024, 4, 1)
QUARTER = Window(JANUARY, APRIL)


def test_every_row_of_every_file_is_a_fact_or_a_rejected_trip(
    tlc: TlcHost, settings: Settings, target: PostgresTarget, instance: DagsterInstance, definitions: Definitions
) -> None:
    made = {month: tlc.publish(month, rows=300, seed=month.month) for month in QUARTER.months}
    outcome = Backfill(definitions, instance, months_at_once=2).run(QUARTER.months)
    assert outcome.succeeded, outcome
    statuses = month_statuses(Warehouse(target, settings.schema_name), instance, QUARTER)
    for month, status in statuses.items():
        assert status.state == "completed"
        assert status.raw_rows == made[month].rows == status.fact_rows + status.rejected_rows
        assert status.checks.total > 10
        assert not status.checks.failed


def test_a_month_that_fails_is_failed_alone_and_the_others_are_built(
    tlc: TlcHost, settings: Settings, target: PostgresTarget, instance: DagsterInstance, definitions: Definitions
) -> None:
    tlc.publish(JANUARY)
    tlc.publish(MARCH)
    outcome = Backfill(definitions, instance, months_at_once=2).run(QUARTER.months)
    statuses = month_statuses(Warehouse(target, settings.schema_name), instance, QUARTER)
    assert {month: status.state for month, status in statuses.items()} == {
        JANUARY: "completed",
        FEBRUARY: "failed",
        MARCH: "completed",
    }
    assert list(outcome.failures) == [FEBRUARY]
    assert "two months" in outcome.failures[FEBRUARY]
    assert months_to_do(statuses) == [FEBRUARY]
    assert months_to_do(statuses, "none") == []
    assert months_to_do(statuses, "completed", newest_first=True) == [MARCH, FEBRUARY, JANUARY]
