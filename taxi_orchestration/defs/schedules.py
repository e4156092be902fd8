"""The schedule, for those who want a date rather than a sensor."""

from datetime import date

import dagster as dg

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.defs.jobs import TAXI_PIPELINE
from taxi_orchestration.defs.run_requests import plan_requests
from taxi_orchestration.defs.warehouse_resource import WarehouseResource
from taxi_orchestration.instance.run_tags import asks_for, attempts_by, keys_in_progress
from taxi_orchestration.months import Window, add_months, next_month, partition_key
from taxi_orchestration.settings import Settings, SettingsError
from taxi_orchestration.tlc.publications import REQUESTS_AT_ONCE, fetch_publications
from taxi_orchestration.warehouse.load_log import loaded_files

MONTHLY_SCHEDULE = "monthly_schedule"

# The TLC publishes a month about two months after its end: on 1 November, August has been over for two months.
MONTHS_BACK = 3

# A month that came out late, or whose run failed, is caught up with: as many as are asked for side by side.
MONTHS_AT_MOST = REQUESTS_AT_ONCE

# The next look is a month away: a request that is refused is made again, as long as the host does not take its time.
ATTEMPTS = 3


def months_due(
    context: dg.ScheduleEvaluationContext, settings: dg.ResourceParam[Settings], warehouse: WarehouseResource
) -> list[dg.RunRequest] | dg.SkipReason:
    """One tick: the last months that should be out, of those that are and are not loaded."""
    now, assets = context.scheduled_execution_time, AssetKeys(settings.student)
    asked_by = asks_for(MONTHLY_SCHEDULE, assets)
    due = add_months(date(now.year, now.month, 1), -MONTHS_BACK)
    files = loaded_files(warehouse.open())
    last = [m for m in Window(add_months(due, 1 - MONTHS_AT_MOST), next_month(due)).months if m >= settings.first_month]
    # Those before the oldest loaded one nobody wanted; the newest may have been re-issued.
    months = [m for m in last if m == due or not files or (m not in files and m > min(files))]
    requests, said = plan_requests(
        files,
        fetch_publications(settings.tlc_base_url, months, ATTEMPTS),
        attempts_by(context.instance, asked_by),
        keys_in_progress(context.instance, assets, [partition_key(month) for month in months]),
        asked_by,
        now,
    )
    return requests or dg.SkipReason(" ".join(said))


def build_monthly_schedule(cron: str) -> dg.ScheduleDefinition:
    """The schedule at the times of a cron line, in UTC. Raises SettingsError for a line that is none."""
    try:
        return dg.schedule(
            name=MONTHLY_SCHEDULE,
            job_name=TAXI_PIPELINE,
            cron_schedule=cron,
            execution_timezone="UTC",
            default_status=dg.DefaultScheduleStatus.STOPPED,
            description=(
                "The newest month that should be out, if it is and is not loaded or was re-issued; and of the seven "
                "before it those that came out late or could not be loaded. When: TAXI_SCHEDULE_CRON."
            ),
        )(months_due)
    except dg.DagsterInvalidDefinitionError:
        raise SettingsError(
            f"TAXI_SCHEDULE_CRON {cron!r} is no cron line of five fields. Write one such as 0 6 1 * *, in UTC."
        ) from None
