"""The coverage check of raw_trips: the months in PostgreSQL, in Dagster's record and at the TLC."""

from datetime import date

from dagster import AssetCheckEvaluation, AssetCheckSpec, AssetRecordsFilter, DagsterInstance

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.defs.evaluations import evaluation_of
from taxi_orchestration.instance.builds import RECORDS_AT_ONCE
from taxi_orchestration.months import parse_partition_key
from taxi_orchestration.quality.coverage import check_coverage
from taxi_orchestration.warehouse.measures import months_in_raw_trips
from taxi_orchestration.warehouse.warehouse import Warehouse


def coverage_spec(assets: AssetKeys) -> AssetCheckSpec:
    """Return the spec of the check, which the loading step and month_watch evaluate."""
    return AssetCheckSpec(
        assets.coverage_check.name,
        asset=assets.coverage_check.asset_key,
        description=(
            "Every published month since the oldest loaded one is loaded, and Dagster's record and PostgreSQL agree "
            "on the loaded months. The sensor tlc_publications records which months are published."
        ),
    )


def coverage_evaluation(instance: DagsterInstance, warehouse: Warehouse, first_month: date) -> AssetCheckEvaluation:
    """Evaluate the check from PostgreSQL and Dagster's record, without a request to the TLC."""
    assets = AssetKeys(warehouse.student)
    in_dagster = {parse_partition_key(key) for key in instance.get_materialized_partitions(assets.raw_trips)}
    published = observed_months(instance, assets)
    finding = check_coverage(months_in_raw_trips(warehouse), in_dagster, published, first_month)
    return evaluation_of(coverage_spec(assets), finding)


def observed_months(instance: DagsterInstance, assets: AssetKeys) -> set[date] | None:
    """Return the published months as last recorded; None if never recorded."""
    latest: dict[date, bool] = {}
    cursor = None
    while True:
        page = instance.fetch_observations(AssetRecordsFilter(assets.tlc_files), RECORDS_AT_ONCE, cursor)
        for record in page.records:
            observation = record.asset_observation
            if record.partition_key and observation and "published" in observation.metadata:
                latest.setdefault(
                    parse_partition_key(record.partition_key), bool(observation.metadata["published"].value)
                )
        if not page.has_more:
            return {month for month, is_published in latest.items() if is_published} if latest else None
        cursor = page.cursor
