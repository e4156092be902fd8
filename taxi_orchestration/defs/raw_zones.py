"""The assets raw_zones and raw_zone_shapes: the TLC's taxi zones and their shapes."""

from collections.abc import Callable

from dagster import (
    AssetExecutionContext,
    AssetMaterialization,
    AssetsDefinition,
    MaterializeResult,
    ResourceParam,
    asset,
)

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.defs.interruption import canceled_by_interrupt
from taxi_orchestration.defs.retries import RETRIES, translate_to_failure
from taxi_orchestration.defs.table_metadata import raw_table_metadata
from taxi_orchestration.defs.warehouse_resource import WarehouseResource
from taxi_orchestration.instance.dagster_names import ROWS_OF_ASSET
from taxi_orchestration.loading import Loader, open_loader
from taxi_orchestration.postgres.connection import WarehouseError
from taxi_orchestration.settings import Settings
from taxi_orchestration.tlc.dataset import ZONE_COLUMNS, ZONE_SHAPE_COLUMNS
from taxi_orchestration.tlc.errors import TlcError


def build_raw_zones(assets: AssetKeys, qualified_schema: str) -> list[AssetsDefinition]:
    """Build the two assets for this schema, written as database.schema."""

    @asset(
        key=assets.raw_zones,
        group_name="raw",
        kinds={"postgres", "csv", "python"},
        retry_policy=RETRIES,
        metadata=raw_table_metadata(qualified_schema, "raw_zones", ZONE_COLUMNS),
    )
    def raw_zones(
        context: AssetExecutionContext, settings: ResourceParam[Settings], warehouse: WarehouseResource
    ) -> MaterializeResult:
        """The TLC's taxi zones, as published: one row a zone, with its borough, name and service zone."""
        return _materialize(context, settings, warehouse, Loader.load_zones)

    @asset(
        key=assets.raw_zone_shapes,
        group_name="raw",
        kinds={"postgres", "python"},
        retry_policy=RETRIES,
        metadata=raw_table_metadata(qualified_schema, "raw_zone_shapes", ZONE_SHAPE_COLUMNS),
    )
    def raw_zone_shapes(
        context: AssetExecutionContext, settings: ResourceParam[Settings], warehouse: WarehouseResource
    ) -> MaterializeResult:
        """The shapes of the TLC's taxi zones, for maps: one row a zone. Two zones of the zone table have none."""
        return _materialize(context, settings, warehouse, Loader.load_zone_shapes)

    return [raw_zones, raw_zone_shapes]


def _materialize(
    context: AssetExecutionContext, settings: Settings, warehouse: WarehouseResource, load: Callable[[Loader], int]
) -> MaterializeResult:
    with (
        canceled_by_interrupt(context),
        translate_to_failure(),
        open_loader(settings, warehouse.open(), on_retry=context.log.warning) as loader,
    ):
        return MaterializeResult(metadata={ROWS_OF_ASSET: load(loader)})


def load_missing_zones(context: AssetExecutionContext, loader: Loader, warn: Callable[[str], None]) -> None:
    """Load the zones if missing, which the models of the first month need.

    The shapes are requested once with them; another host may have none.
    """
    if not loader.warehouse.is_empty("raw_zones"):
        return
    assets = AssetKeys(loader.warehouse.student)
    try:
        zones = loader.load_zones()
    except (TlcError, WarehouseError) as error:
        warn(f"{error} Months are loaded without zone names; the next run requests the zones again.")
        return
    context.log_event(AssetMaterialization(assets.raw_zones, metadata={ROWS_OF_ASSET: zones}))
    try:
        shapes = loader.load_zone_shapes()
    except (TlcError, WarehouseError) as error:
        warn(f"{error} The report shows bars instead of a map until raw_zone_shapes is materialized.")
        return
    context.log_event(AssetMaterialization(assets.raw_zone_shapes, metadata={ROWS_OF_ASSET: shapes}))
