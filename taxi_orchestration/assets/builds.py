"""Which rows of raw_trips the models of a month were built from, by Dagster's record. Building them is dbt.py's."""

from collections.abc import Collection
from datetime import date

from dagster import AssetKey, AssetRecordsFilter, DagsterInstance

from taxi_orchestration.partitions import key_of, month_of

# What the models say of a month: the data version of raw_trips that they were built from.
BUILT_FROM = "built from rows with sha256"

# It speaks for all models: one dbt run builds them together, and what a failed test of its stopped must stay stopped.
FCT_TRIPS = AssetKey("fct_trips")

_PAGE = 500


def rows_built_from(instance: DagsterInstance, months: Collection[date]) -> dict[date, str]:
    """The sha256 of the rows that fct_trips was last built from, of those of these months that were ever built."""
    built: dict[date, str] = {}
    seen: set[date] = set()
    cursor = None
    records = AssetRecordsFilter(FCT_TRIPS, asset_partitions=[key_of(month) for month in months])
    while months:
        page = instance.fetch_materializations(records, _PAGE, cursor)
        for record in page.records:
            month = month_of(record.partition_key or "")
            event = record.asset_materialization
            if month not in seen and event and BUILT_FROM in event.metadata:
                built[month] = str(event.metadata[BUILT_FROM].value)
            seen.add(month)
        if not page.has_more or len(seen) == len(months):
            break
        cursor = page.cursor
    return built
