"""The asset taxi_report, the end of the lineage. report/ makes its content."""

from collections.abc import Mapping
from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    Failure,
    MaterializeResult,
    MetadataValue,
    ResourceParam,
    multi_asset,
)

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.defs.clock import Clock
from taxi_orchestration.defs.conditions import changed_upstream
from taxi_orchestration.defs.exposures import exposure_spec
from taxi_orchestration.defs.interruption import canceled_by_interrupt
from taxi_orchestration.defs.retries import RETRIES, translate_to_failure
from taxi_orchestration.defs.warehouse_resource import WarehouseResource
from taxi_orchestration.instance.status import count_checks
from taxi_orchestration.settings import Settings
from taxi_orchestration.warehouse.load_log import loaded_files
from taxi_orchestration.warehouse.warehouse import Warehouse


def build_taxi_report(manifest: Mapping[str, Any], assets: AssetKeys) -> AssetsDefinition:
    """Build the asset of the exposure of this name, which the dbt project defines."""
    name = assets.taxi_report.path[-1]
    spec = exposure_spec(manifest, assets, name)
    spec = spec.replace_attributes(kinds={"html", "python"}, automation_condition=changed_upstream())

    @multi_asset(name=name, specs=[spec], retry_policy=RETRIES)
    def taxi_report(
        context: AssetExecutionContext,
        settings: ResourceParam[Settings],
        warehouse: WarehouseResource,
        clock: ResourceParam[Clock],
    ) -> MaterializeResult:
        with canceled_by_interrupt(context), translate_to_failure():
            return make_report(context, settings, warehouse.open(), clock)

    return taxi_report


def make_report(
    context: AssetExecutionContext, settings: Settings, warehouse: Warehouse, clock: Clock
) -> MaterializeResult:
    """Write the report, and return some of its charts as metadata."""
    # Imported here: drawing takes a second to import, and no other run needs it.
    from taxi_orchestration.report import pictures
    from taxi_orchestration.report.drawing import draw_markdown
    from taxi_orchestration.report.file import report_path, write_report

    path = report_path(settings)
    checks = count_checks(context.instance, AssetKeys(settings.student), list(loaded_files(warehouse)))
    try:
        frames = write_report(warehouse, clock.now(), checks, path)
    except OSError as error:
        raise Failure(
            f"Writing the report to {path} failed: {error.strerror or error}. Make room there, or set TAXI_HOME to "
            "another directory, and materialize it again.",
            allow_retries=False,
        ) from error
    metadata: dict[str, MetadataValue] = {
        "file": MetadataValue.path(path),
        "bytes": MetadataValue.int(path.stat().st_size),
        "months": MetadataValue.int(len(frames.complete_months)),
    }
    for make in (pictures.trips_by_month, pictures.revenue_by_month, pictures.map_of_zones, pictures.top_zones):
        if (picture := make(frames)) and picture.panels:
            image = draw_markdown(picture.panels[0].chart, picture.data, picture.question)
            metadata[picture.question] = MetadataValue.md(f"{picture.sentence}\n\n{image}")
    return MaterializeResult(metadata=metadata)
