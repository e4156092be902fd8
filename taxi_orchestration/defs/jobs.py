"""The jobs: what a schedule, a sensor, `taxi` or a person starts as one thing."""

import dagster as dg

from taxi_orchestration.asset_keys import RAW_TRIPS, RAW_ZONE_SHAPES, RAW_ZONES

TAXI_PIPELINE = "taxi_pipeline"
TAXI_REFERENCE = "taxi_reference"


taxi_pipeline = dg.define_asset_job(
    TAXI_PIPELINE,
    selection=dg.AssetSelection.assets(RAW_TRIPS) | dg.AssetSelection.tag("materialized", "month_window"),
    description=(
        "One month: raw_trips and all tables that are filled from it; views and seeds that are missing, or whose code "
        "changed, are made with them. For a range materialize the assets instead, where a month that cannot be loaded "
        "keeps no other from the models."
    ),
)

taxi_reference = dg.define_asset_job(
    TAXI_REFERENCE,
    selection=dg.AssetSelection.assets(RAW_ZONES, RAW_ZONE_SHAPES) | dg.AssetSelection.tag("materialized", "seed"),
    description="What knows no months: the zones and their shapes, and the TLC's code lists.",
)
