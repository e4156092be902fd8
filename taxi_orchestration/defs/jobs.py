"""The jobs that a schedule, a sensor, `taxi` or a user launches."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.instance.run_tags import schema_tag
from taxi_orchestration.settings import Settings

TAXI_PIPELINE = "taxi_pipeline"
TAXI_REFERENCE = "taxi_reference"


def build_jobs(settings: Settings) -> Sequence[Any]:
    """Build both jobs for the assets of this schema."""
    assets, tags = AssetKeys(settings.student), schema_tag(settings.schema_name)
    return [
        dg.define_asset_job(
            TAXI_PIPELINE,
            selection=dg.AssetSelection.assets(assets.raw_trips)
            | dg.AssetSelection.tag("materialized", "month_window"),
            tags=tags,
            description=(
                "One month: raw_trips and all tables filled from it, with missing or outdated views and seeds. For a "
                "range materialize the assets instead: there a failed month does not keep other months from the models."
            ),
        ),
        dg.define_asset_job(
            TAXI_REFERENCE,
            selection=dg.AssetSelection.assets(assets.raw_zones, assets.raw_zone_shapes)
            | dg.AssetSelection.tag("materialized", "seed"),
            tags=tags,
            description="Assets without months: the zones and their shapes, and the TLC's code lists.",
        ),
    ]
