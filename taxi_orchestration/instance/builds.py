"""What Dagster's record says was made of a month last, and from which rows of raw_trips. Making it belongs to dbt/."""

from collections.abc import Collection
from datetime import date

from dagster import AssetKey, AssetMaterialization, AssetRecordsFilter, DagsterInstance, EventLogRecord

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.months import partition_key
from taxi_orchestration.warehouse.dbt_tables import RENAMED

# What the models say of a month: the data version of raw_trips that they were built from.
BUILT_FROM = "built from rows with sha256"
# The entry of an asset's metadata that has what only programs need: the UI folds it.
DETAILS = "details"

# The tables that dbt fills by month. A month is built once all of them are from the same rows: dbt may build some of
# them and fail at the next, and a person may build just one.
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


def rows_built_from(instance: DagsterInstance, assets: AssetKeys, months: Collection[date]) -> dict[date, str]:
    """The sha256 of the rows that all models were last built from, of those of these months that have one."""
    keys = [partition_key(month) for month in months]
    by_table = [_latest_builds(instance, assets, table, keys) for table in MONTHLY_TABLES]
    built: dict[date, str] = {}
    for month in months:
        first, *others = (_built_from(latest.get(partition_key(month))) for latest in by_table)
        if first and all(other == first for other in others):
            built[month] = first
    return built


def _latest_builds(
    instance: DagsterInstance, assets: AssetKeys, table: str, keys: Collection[str]
) -> dict[str, EventLogRecord]:
    """As latest_materializations, and of months that were built before a table had its name, by its name then."""
    latest = latest_materializations(instance, assets.of(table), keys)
    before = [old for old, new in RENAMED.items() if new == table and len(latest) < len(keys)]
    for former in before:
        latest = latest_materializations(instance, assets.of(former), set(keys) - latest.keys()) | latest
    return latest


def _built_from(record: EventLogRecord | None) -> str | None:
    return detail(record.asset_materialization, BUILT_FROM) if record else None


def detail(materialization: AssetMaterialization | None, name: str) -> str | None:
    """What the details of a materialization say under this name; before there were any, an entry of its own."""
    metadata = materialization.metadata if materialization else {}
    details = metadata.get(DETAILS)
    value = details.value if details else None
    found = value.get(name) if isinstance(value, dict) else None
    own = metadata.get(name)
    return str(found) if found is not None else str(own.value) if own else None
