"""The monthly schedule: a run for each month that should be published and is not loaded, or a skip with a reason."""

from datetime import UTC, date, datetime

import dagster as dg
import pytest

from taxi_orchestration.defs.jobs import TAXI_PIPELINE
from taxi_orchestration.defs.schedules import build_monthly_schedule
from taxi_orchestration.loading import Loader
from taxi_orchestration.settings import SettingsError
from taxi_orchestration_tests.support.daemon import schedule_tick
from taxi_orchestration_tests.support.http_host import status
from taxi_orchestration_tests.support.months import FEBRUARY, JANUARY, MARCH
from taxi_orchestration_tests.support.tlc_host import TlcHost, month_path


def tick(
    definitions: dg.Definitions, instance: dg.DagsterInstance, month: int = 4, day: int = 1
) -> tuple[list[str | None], str]:
    """Return the requested months and the skip message of a tick on a day of 2024.

    January, which ended two months before 1 April, is the newest month that a tick on that day requests.
    """
    data = schedule_tick(definitions, instance, datetime(2024, month, day, 6, tzinfo=UTC))
    return [request.partition_key for request in data.run_requests or []], data.skip_message or ""


def test_the_schedule_requests_a_published_month_once_and_otherwise_skips(
    tlc: TlcHost, loader: Loader, definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    months, message = tick(definitions, instance)
    assert months == []
    assert "none of 2023-06 to 2024-01 is known to be published" in message
    tlc.http.on(month_path(JANUARY), status(400))
    assert "Unknown, requested again at the next tick: 2024-01." in tick(definitions, instance)[1]
    tlc.publish(JANUARY)
    assert tick(definitions, instance) == (["2024-01"], "")
    loader.load_month(JANUARY)
    assert tick(definitions, instance) == ([], "Unchanged: 2024-01.")
    assert tick(definitions, instance, 5) == ([], "Unchanged: 2024-01. Not yet published: 2024-02.")
    tlc.publish(JANUARY, seed=1)
    assert tick(definitions, instance) == (["2024-01"], "")
    assert tick(definitions, instance, 5) == (["2024-01"], ""), "re-issued, while February is late"
    tlc.publish(FEBRUARY)
    assert tick(definitions, instance, 4, 28)[0] == ["2024-01", "2024-02"], "February can be published on 15 April"


def test_a_month_that_was_published_late_or_failed_is_requested_later(
    tlc: TlcHost, loader: Loader, definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    # Months before the oldest loaded month are not requested.
    tlc.publish(date(2023, 12, 1))
    tlc.publish(JANUARY)
    loader.load_month(JANUARY)
    tlc.publish(MARCH)
    assert tick(definitions, instance, 6) == (["2024-03"], "")
    loader.load_month(MARCH)
    tlc.publish(FEBRUARY)
    assert tick(definitions, instance, 7)[0] == ["2024-02"]
    # The month is still not loaded, so the run of the previous tick must have failed.
    assert tick(definitions, instance, 8)[0] == ["2024-02"]


def test_a_request_that_the_host_refuses_is_retried(
    tlc: TlcHost, loader: Loader, definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    tlc.publish(JANUARY)
    tlc.http.on(month_path(JANUARY), status(503), *tlc.http.answers[month_path(JANUARY)])
    assert tick(definitions, instance) == (["2024-01"], "")


def test_a_month_with_a_run_in_progress_is_not_requested(
    tlc: TlcHost, loader: Loader, definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    tlc.publish(JANUARY)
    job = definitions.resolve_job_def(TAXI_PIPELINE)
    instance.create_run_for_job(job, tags={"dagster/partition": "2024-01"})
    months, message = tick(definitions, instance)
    assert months == []
    assert "2024-01 is published; a run of it is queued or in progress." in message


def test_the_schedule_runs_at_the_time_of_the_settings() -> None:
    assert build_monthly_schedule("30 7 15 * *").cron_schedule == "30 7 15 * *"
    with pytest.raises(SettingsError, match="TAXI_SCHEDULE_CRON 'each month' is not a cron line"):
        build_monthly_schedule("each month")
