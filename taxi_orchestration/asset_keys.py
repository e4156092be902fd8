"""Every asset's key, and those of the checks of all months. What an asset is belongs to defs/ and dbt_project/."""

from dagster import AssetCheckKey, AssetKey

from taxi_orchestration.tlc.dataset import DATASET

TLC_FILES = AssetKey(f"tlc_{DATASET.name}")
RAW_TRIPS = AssetKey("raw_trips")
RAW_ZONES = AssetKey("raw_zones")
RAW_ZONE_SHAPES = AssetKey("raw_zone_shapes")
FCT_TRIPS = AssetKey("fct_trips")
TAXI_REPORT = AssetKey("taxi_report")

COVERAGE_CHECK = AssetCheckKey(RAW_TRIPS, "every_month_is_loaded")
"""The one check of raw_trips that is of all months at once."""
# Of the source, not of raw_trips: else every run that loads a month would ask the TLC for others.
FRESHNESS_CHECK = AssetCheckKey(TLC_FILES, "newest_month_is_loaded")
CHECKS_OF_ALL_MONTHS = (FRESHNESS_CHECK, COVERAGE_CHECK)
"""Of these the last record counts, whoever made it."""
