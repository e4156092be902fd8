"""The dbt models and seeds as assets, and dbt tests as asset checks. dbt_step.py runs them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    AutomationCondition,
    BackfillPolicy,
    Failure,
    PartitionsDefinition,
    ResourceParam,
)
from dagster_dbt import dbt_assets

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.defs.dbt_step import DbtStep, ParsedProject
from taxi_orchestration.defs.dbt_translator import TaxiDbtTranslator
from taxi_orchestration.defs.interruption import canceled_by_interrupt
from taxi_orchestration.defs.retries import RETRIES, translate_to_failure
from taxi_orchestration.defs.warehouse_resource import WarehouseResource
from taxi_orchestration.loading import Progress
from taxi_orchestration.months import Window, parse_partition_key

DBT_MODELS = "dbt_models"
DBT_VIEWS = "dbt_views"


def build_dbt_assets(
    manifest: Mapping[str, Any],
    artifacts: Path,
    assets: AssetKeys,
    months: PartitionsDefinition,
    monthly: AutomationCondition,
    monthless: AutomationCondition,
) -> list[AssetsDefinition]:
    """Build the assets of a parsed dbt project: monthly tables, and views and seeds without partitions.

    `artifacts` is the directory that `prepared_project` returned for the manifest; `monthly` and `monthless` are the
    automation conditions of the two kinds.
    """
    translator = TaxiDbtTranslator(manifest, assets, monthly, monthless)
    project = ParsedProject(manifest, artifacts, assets, translator)
    # Concurrent dbt runs in one schema break each other; dagster.yaml gives each pool one slot.
    pool = f"dbt_{assets.student}" if assets.student else "dbt"

    @dbt_assets(
        manifest=manifest,
        select="config.materialized:month_window",
        exclude="resource_type:unit_test",
        name=DBT_MODELS,
        partitions_def=months,
        backfill_policy=BackfillPolicy.single_run(),
        dagster_dbt_translator=translator,
        pool=pool,
        retry_policy=RETRIES,
    )
    def dbt_models(
        context: AssetExecutionContext, warehouse: WarehouseResource, progress: ResourceParam[Progress]
    ) -> Iterator[Any]:
        with canceled_by_interrupt(context), translate_to_failure():
            yield from DbtStep(context, warehouse.open(), progress, project).build(window_of(context))

    @dbt_assets(
        manifest=manifest,
        select="config.materialized:view config.materialized:seed",
        exclude="resource_type:unit_test",
        name=DBT_VIEWS,
        dagster_dbt_translator=translator,
        pool=pool,
        retry_policy=RETRIES,
    )
    def dbt_views(
        context: AssetExecutionContext, warehouse: WarehouseResource, progress: ResourceParam[Progress]
    ) -> Iterator[Any]:
        with canceled_by_interrupt(context), translate_to_failure():
            yield from DbtStep(context, warehouse.open(), progress, project).build(window=None)

    return [dbt_views, dbt_models]


def window_of(context: AssetExecutionContext) -> Window | None:
    """Return the months of the run; None, which dbt reads as all months, for tests without a month."""
    if context.has_partition_key or context.has_partition_key_range:
        keys = context.partition_key_range
        return Window.through(parse_partition_key(keys.start), parse_partition_key(keys.end))
    if context.selected_asset_keys:
        raise Failure("These models are built by month. Choose the months in the dialog.", allow_retries=False)
    return None
