"""The monthly schedule, an alternative to the sensor tlc_publications."""

import dagster as dg

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.defs.jobs import TAXI_PIPELINE
from taxi_orchestration.defs.run_requests import plan_requests
from taxi_orchestration.defs.warehouse_resource import WarehouseResource
from taxi_orchestration.instance.run_tags import attempts_by, keys_in_progress, requester_tag
from taxi_orchestration.months import Window, add_months, newest_month, partition_key
from taxi_orchestration.settings import Settings, SettingsError
from taxi_orchestration.tlc.publications import REQUESTS_AT_ONCE, fetch_publications
from taxi_orchestration.warehouse.load_log import loaded_files

MONTHLY_SCHEDULE = "monthly_schedule"

# Earlier months that were published late or failed are requested too, as many as run side by side.
MONTHS_AT_MOST = REQUESTS_AT_ONCE

# The next tick is a month away, so that a refused request is retried within a time limit.
ATTEMPTS = 3


def months_due(
    context: dg.ScheduleEvaluationContext, settings: dg.ResourceParam[Settings], warehouse: WarehouseResource
) -> list[dg.RunRequest] | dg.SkipReason:
    """Evaluate one tick: request the last months that are published and not loaded, and the newest if re-issued."""
    now, assets = context.scheduled_execution_time, AssetKeys(settings.student)
    requested_by = requester_tag(MONTHLY_SCHEDULE, assets)
    files, due = loaded_files(warehouse.open()), newest_month(now)
    last = [m for m in Window.through(add_months(due, 1 - MONTHS_AT_MOST), due).months if m >= settings.first_month]
    # Months before the oldest loaded one were never requested; the newest loaded one may have been re-issued.
    newest = {due, max(files, default=due)}
    months = [m for m in last if m in newest or not files or (m not in files and m > min(files))]
    requests, sentences = plan_requests(
        files,
        fetch_publications(settings.tlc_base_url, months, ATTEMPTS),
        attempts_by(context.instance, requested_by),
        keys_in_progress(context.instance, assets, [partition_key(month) for month in months]),
        requested_by,
        now,
    )
    return requests or dg.SkipReason(" ".join(sentences))


def build_monthly_schedule(cron: str) -> dg.ScheduleDefinition:
    """Build the schedule of a cron line, in UTC. Raises SettingsError for an invalid line."""
    try:
        return dg.schedule(
            name=MONTHLY_SCHEDULE,
            job_name=TAXI_PIPELINE,
            cron_schedule=cron,
            execution_timezone="UTC",
            default_status=dg.DefaultScheduleStatus.STOPPED,
            description=(
                "Loads the newest month that should be published, if it is published and not loaded, or re-issued; and "
                "of the seven months before it those published late or not loaded. Cron line: TAXI_SCHEDULE_CRON."
            ),
        )(months_due)
    except dg.DagsterInvalidDefinitionError:
        raise SettingsError(
            f"TAXI_SCHEDULE_CRON {cron!r} is not a cron line of five fields. Set one such as 0 6 1 * *, in UTC."
        ) from None
