"""The jobs: what a schedule, a sensor, `taxi` or a person starts as one thing."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.instance.run_tags import SCHEMA
from taxi_orchestration.settings import Settings

TAXI_PIPELINE = "taxi_pipeline"
TAXI_REFERENCE = "taxi_reference"


def build_jobs(settings: Settings) -> Sequence[Any]:
    """Both jobs, of the assets of this schema."""
    assets, tags = AssetKeys(settings.student), {SCHEMA: settings.schema_name}
    return [
        dg.define_asset_job(
            TAXI_PIPELINE,
            selection=dg.AssetSelection.assets(assets.raw_trips)
            | dg.AssetSelection.tag("materialized", "month_window"),
            tags=tags,
            description=(
                "One month: raw_trips and all tables that are filled from it; views and seeds that are missing, or "
                "whose code changed, are made with them. For a range materialize the assets instead, where a month "
                "that cannot be loaded keeps no other from the models."
            ),
        ),
        dg.define_asset_job(
            TAXI_REFERENCE,
            selection=dg.AssetSelection.assets(assets.raw_zones, assets.raw_zone_shapes)
            | dg.AssetSelection.tag("materialized", "seed"),
            tags=tags,
            description="What knows no months: the zones and their shapes, and the TLC's code lists.",
        ),
    ]
