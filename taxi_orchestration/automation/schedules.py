"""The schedule, for those who want a date rather than a sensor."""

from collections.abc import Iterator
from datetime import date

import dagster as dg

from taxi_orchestration.automation.jobs import taxi_pipeline
from taxi_orchestration.partitions import add_months, key_of
from taxi_orchestration.settings import Settings
from taxi_orchestration.tlc.client import TlcClient
from taxi_orchestration.tlc.errors import TransientTlcError

# The TLC publishes a month about two months after its end: on 1 November, August has been over for two months.
MONTHS_BACK = 3


@dg.schedule(
    job=taxi_pipeline,
    cron_schedule="0 6 1 * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.STOPPED,
)
def monthly_schedule(
    context: dg.ScheduleEvaluationContext, settings: dg.ResourceParam[Settings]
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """On the first of the month at 06:00 UTC: the newest month that should be out, if it is."""
    now = context.scheduled_execution_time
    month = add_months(date(now.year, now.month, 1), -MONTHS_BACK)
    try:
        publication = TlcClient(settings.tlc_base_url).publication(month)
    except TransientTlcError as error:
        yield dg.SkipReason(f"{key_of(month)} was not asked for: {error}")
        return
    if publication.published:
        yield dg.RunRequest(run_key=f"{key_of(month)} {publication.etag}", partition_key=key_of(month))
    else:
        yield dg.SkipReason(f"{key_of(month)} is not published yet: {publication.url} is not there.")
