"""The checks of fct_trips as a step of their own after dbt's: dagster-dbt's step makes none but dbt's."""

from collections.abc import Iterator

from dagster import AssetCheckEvaluation, AssetCheckExecutionContext, Failure, ResourceParam, multi_asset_check

from taxi_orchestration.checks.months import FACT_CHECKS, evaluations, fact_findings
from taxi_orchestration.partitions import Window, month_of, next_month
from taxi_orchestration.settings import Settings
from taxi_orchestration.warehouse.connection import WarehouseError
from taxi_orchestration.warehouse.target import warehouse_target


# can_subset: so that the months of a run can have their checks one by one.
@multi_asset_check(name="fct_trips_checks", specs=FACT_CHECKS, can_subset=True)
def fct_trips_checks(
    context: AssetCheckExecutionContext, settings: ResourceParam[Settings]
) -> Iterator[AssetCheckEvaluation]:
    """Whether all rows and all money of the months of the run are in fct_trips or in rejected_trips."""
    keys = context.partition_key_range
    months = Window(month_of(keys.start), next_month(month_of(keys.end))).months
    try:
        findings = fact_findings(warehouse_target(settings), settings.schema_name, months)
    except WarehouseError as error:
        raise Failure(f"Not checked. {error}") from error
    yield from evaluations(context.instance, FACT_CHECKS, findings)
