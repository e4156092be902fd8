"""The check of raw_trips that is of all months: which there are, by PostgreSQL, Dagster and the TLC."""

from datetime import date

from dagster import AssetCheckEvaluation, AssetCheckSpec, AssetRecordsFilter, DagsterInstance

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.defs.evaluations import evaluation_of
from taxi_orchestration.months import parse_partition_key
from taxi_orchestration.quality.coverage import check_coverage
from taxi_orchestration.warehouse.measures import months_in_raw_trips
from taxi_orchestration.warehouse.warehouse import Warehouse

_PAGE = 500


def coverage_spec(assets: AssetKeys) -> AssetCheckSpec:
    """The check, made by the step that loads months and by month_watch."""
    return AssetCheckSpec(
        assets.coverage_check.name,
        asset=assets.coverage_check.asset_key,
        description=(
            "Of all months: what the TLC has published is loaded, without gaps, and Dagster's record and PostgreSQL "
            "agree on what is. What is published is known from the sensor tlc_publications."
        ),
    )


def coverage_evaluation(instance: DagsterInstance, warehouse: Warehouse) -> AssetCheckEvaluation:
    """The check of all months, from what is in PostgreSQL and in Dagster's record now. Asks the TLC nothing."""
    assets = AssetKeys(warehouse.student)
    in_dagster = {parse_partition_key(key) for key in instance.get_materialized_partitions(assets.raw_trips)}
    finding = check_coverage(months_in_raw_trips(warehouse), in_dagster, observed_months(instance, assets))
    return evaluation_of(coverage_spec(assets), finding)


def observed_months(instance: DagsterInstance, assets: AssetKeys) -> set[date] | None:
    """The months that were published when last seen to change; None where nobody has looked yet."""
    latest: dict[date, bool] = {}
    cursor = None
    while True:
        page = instance.fetch_observations(AssetRecordsFilter(assets.tlc_files), _PAGE, cursor)
        for record in page.records:
            observation = record.asset_observation
            if record.partition_key and observation and "published" in observation.metadata:
                latest.setdefault(
                    parse_partition_key(record.partition_key), bool(observation.metadata["published"].value)
                )
        if not page.has_more:
            return {month for month, is_published in latest.items() if is_published} if latest else None
        cursor = page.cursor
