"""The last materializations of a month in Dagster's record, and the rows that they were built from."""

from collections.abc import Collection
from datetime import date

from dagster import AssetKey, AssetRecordsFilter, DagsterInstance, EventLogRecord

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.months import partition_key

# Metadata of a model's month: the data version of raw_trips that it was built from.
BUILT_FROM = "built from rows with sha256"
# The metadata entry for programs, which the UI folds.
DETAILS = "details"

# The tables that dbt fills by month. A month is built once all of them come from the same rows: dbt may fail after some
# of them, and a user may build one alone.
MONTHLY_TABLES = (
    "fct_trips",
    "rejected_trips",
    "int_undocumented_codes",
    "int_hourly_zone_activity_by_file",
    "int_zone_flows_by_file",
    "int_refunds",
    "vendor_quality",
    "int_monthly_revenue_by_file",
    "trip_quality",
)

RECORDS_AT_ONCE = 500


def latest_materializations(
    instance: DagsterInstance, asset: AssetKey, keys: Collection[str]
) -> dict[str, EventLogRecord]:
    """Return the newest materialization of each of these partitions of an asset that has one."""
    latest: dict[str, EventLogRecord] = {}
    cursor = None
    records = AssetRecordsFilter(asset, asset_partitions=list(keys))
    while keys:
        # The newest records are mostly one of each partition; a longer page would read history in vain.
        page = instance.fetch_materializations(records, min(len(keys), RECORDS_AT_ONCE), cursor)
        for record in page.records:
            if record.partition_key is not None:
                latest.setdefault(record.partition_key, record)
        if not page.has_more or len(latest) == len(keys):
            break
        cursor = page.cursor
    return latest


def rows_built_from(instance: DagsterInstance, assets: AssetKeys, months: Collection[date]) -> dict[date, str]:
    """Return, for each of these months that is built, the sha256 of the rows that all models were last built from."""
    keys = [partition_key(month) for month in months]
    by_table = [latest_materializations(instance, assets.of(table), keys) for table in MONTHLY_TABLES]
    built: dict[date, str] = {}
    for month in months:
        first, *others = (_built_from(latest.get(partition_key(month))) for latest in by_table)
        if first and all(other == first for other in others):
            built[month] = first
    return built


def _built_from(record: EventLogRecord | None) -> str | None:
    materialization = record.asset_materialization if record else None
    details = materialization.metadata.get(DETAILS) if materialization else None
    value = details.value if details else None
    return str(value[BUILT_FROM]) if isinstance(value, dict) and BUILT_FROM in value else None
