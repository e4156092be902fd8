"""taxi_report: the page that the lineage ends in. What it shows is the report's own."""

from base64 import b64encode

from dagster import AssetExecutionContext, AssetKey, Failure, MaterializeResult, MetadataValue, ResourceParam, asset

from taxi_orchestration.asset_keys import RAW_ZONE_SHAPES, TAXI_REPORT
from taxi_orchestration.defs.clock import Clock
from taxi_orchestration.defs.conditions import changed_upstream
from taxi_orchestration.defs.retries import RETRIES, translate_to_failure
from taxi_orchestration.defs.warehouse_resource import WarehouseResource
from taxi_orchestration.instance.status import count_checks
from taxi_orchestration.settings import Settings, make_home
from taxi_orchestration.warehouse.load_log import loaded_files

MARTS = [
    AssetKey(name)
    for name in (
        *("monthly_summary", "daily_zone_activity", "hourly_zone_activity", "zone_flows", "monthly_revenue"),
        *("trip_quality", "dim_zones"),
    )
]
PICTURE_WIDTH = 700


@asset(
    key=TAXI_REPORT,
    deps=[*MARTS, RAW_ZONE_SHAPES],
    group_name="reporting",
    kinds={"html", "python"},
    automation_condition=changed_upstream(),
    retry_policy=RETRIES,
)
def taxi_report(
    context: AssetExecutionContext,
    settings: ResourceParam[Settings],
    warehouse: WarehouseResource,
    clock: ResourceParam[Clock],
) -> MaterializeResult:
    """Pictures of all loaded months as one HTML file, report.html in TAXI_HOME, which needs no network to be read."""
    # Imported here: drawing takes a second to import, and every other run does without.
    from taxi_orchestration.report import pictures
    from taxi_orchestration.report.drawing import draw_svg
    from taxi_orchestration.report.file import FILE_NAME, write_report
    from taxi_orchestration.report.palette import LIGHT

    with translate_to_failure():
        opened, path = warehouse.open(), make_home(settings) / FILE_NAME
        checks = count_checks(context.instance, list(loaded_files(opened)))
        try:
            frames = write_report(opened, clock.now(), checks, path)
        except OSError as error:
            raise Failure(
                f"Writing the report to {path} failed: {error.strerror or error}. Make room there, or set TAXI_HOME to "
                "another directory, and materialize it again.",
                allow_retries=False,
            ) from error
    metadata: dict[str, MetadataValue] = {
        "file": MetadataValue.path(path),
        "bytes": MetadataValue.int(path.stat().st_size),
        "months": MetadataValue.int(len(frames.loaded_months)),
    }
    for make in (pictures.trips_by_month, pictures.revenue_by_month, pictures.map_of_zones, pictures.top_zones):
        if (picture := make(frames)) and picture.panels:
            svg = draw_svg(picture.panels[0].chart, picture.data, PICTURE_WIDTH, LIGHT)
            metadata[picture.question] = MetadataValue.md(f"{picture.sentence}\n\n{_image(svg, picture.question)}")
    return MaterializeResult(metadata=metadata)


def _image(svg: str, title: str) -> str:
    """A picture as Markdown, on paper of its own: the UI may be dark."""
    on_paper = svg.replace("<svg ", '<svg style="background: #fff" ', 1)
    return f"![{title}](data:image/svg+xml;base64,{b64encode(on_paper.encode()).decode()})"
