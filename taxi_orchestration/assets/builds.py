"""What Dagster's record says was made of a month last, and from which rows of raw_trips. Making it is dbt.py's."""

from collections.abc import Collection
from datetime import date

from dagster import AssetKey, AssetRecordsFilter, DagsterInstance, EventLogRecord

from taxi_orchestration.partitions import key_of, month_of

# What the models say of a month: the data version of raw_trips that they were built from.
BUILT_FROM = "built from rows with sha256"

# It speaks for all models: one dbt run builds them together, and what a failed test of its stopped must stay stopped.
FCT_TRIPS = AssetKey("fct_trips")

_PAGE = 500


def latest_materializations(
    instance: DagsterInstance, asset: AssetKey, keys: Collection[str]
) -> dict[str, EventLogRecord]:
    """The newest materialization of each of these partitions of an asset, of those that have one."""
    latest: dict[str, EventLogRecord] = {}
    cursor = None
    records = AssetRecordsFilter(asset, asset_partitions=list(keys))
    while keys:
        # Most often the newest are one of each: more would be read in vain, and the more so the longer the history.
        page = instance.fetch_materializations(records, min(len(keys), _PAGE), cursor)
        for record in page.records:
            if record.partition_key is not None:
                latest.setdefault(record.partition_key, record)
        if not page.has_more or len(latest) == len(keys):
            break
        cursor = page.cursor
    return latest


def rows_built_from(instance: DagsterInstance, months: Collection[date]) -> dict[date, str]:
    """The sha256 of the rows that fct_trips was last built from, of those of these months that were ever built."""
    built: dict[date, str] = {}
    for key, record in latest_materializations(instance, FCT_TRIPS, [key_of(month) for month in months]).items():
        event = record.asset_materialization
        if event and BUILT_FROM in event.metadata:
            built[month_of(key)] = str(event.metadata[BUILT_FROM].value)
    return built
