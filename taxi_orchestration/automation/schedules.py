"""The schedule, for those who want a date rather than a sensor."""

from datetime import date

import dagster as dg

from taxi_orchestration.automation.jobs import taxi_pipeline
from taxi_orchestration.automation.requests import keys_in_progress, request_of
from taxi_orchestration.partitions import add_months, key_of
from taxi_orchestration.settings import Settings, SettingsError
from taxi_orchestration.tlc.client import TlcClient, version_of
from taxi_orchestration.tlc.errors import TlcError
from taxi_orchestration.warehouse.months import loaded_files
from taxi_orchestration.warehouse.target import warehouse_target

MONTHLY_SCHEDULE = "monthly_schedule"

# The TLC publishes a month about two months after its end: on 1 November, August has been over for two months.
MONTHS_BACK = 3

# Dagster gives a tick 60 seconds.
TIMEOUT = 20


def newest_month_due(
    context: dg.ScheduleEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.RunRequest | dg.SkipReason:
    """One tick: the newest month that should be out, if it is and is not loaded yet."""
    now = context.scheduled_execution_time
    month = add_months(date(now.year, now.month, 1), -MONTHS_BACK)
    key = key_of(month)
    try:
        with TlcClient(settings.tlc_base_url, connect_timeout=5, total_timeout=TIMEOUT, attempts=3) as client:
            publication = client.publication(month)
    except TlcError as error:
        return dg.SkipReason(f"{key} was not asked for: {error}")
    if not publication.published:
        return dg.SkipReason(f"{key} is not published yet: {publication.url} is not there.")
    file = loaded_files(warehouse_target(settings), settings.schema_name).get(month)
    if file and version_of(file.etag, file.last_modified, file.bytes) == publication.version:
        return dg.SkipReason(f"{key} is loaded already, and its file is still the same.")
    if keys_in_progress(context.instance, [key]):
        return dg.SkipReason(f"{key} is published; a run for it waits or goes on already.")
    return request_of(month, publication.version, 1, MONTHLY_SCHEDULE, now)


def build_monthly_schedule(cron: str) -> dg.ScheduleDefinition:
    """The schedule at the times of a cron line, in UTC. Raises SettingsError for a line that is none."""
    try:
        return dg.schedule(
            name=MONTHLY_SCHEDULE,
            job=taxi_pipeline,
            cron_schedule=cron,
            execution_timezone="UTC",
            default_status=dg.DefaultScheduleStatus.STOPPED,
            description="The newest month that should be out, if it is and is not loaded. When: TAXI_SCHEDULE_CRON.",
        )(newest_month_due)
    except dg.DagsterInvalidDefinitionError:
        raise SettingsError(
            f"TAXI_SCHEDULE_CRON {cron!r} is no cron line of five fields. Write one such as 0 6 1 * *, in UTC."
        ) from None
