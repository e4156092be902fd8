"""The one place where everything meets."""

import dagster as dg

from taxi_orchestration.assets.dbt import build_dbt_assets
from taxi_orchestration.assets.raw_trips import raw_trips
from taxi_orchestration.assets.raw_zones import raw_zones
from taxi_orchestration.automation.jobs import taxi_pipeline, taxi_reference
from taxi_orchestration.automation.schedules import monthly_schedule
from taxi_orchestration.dbt_runner import prepared_project, read_manifest
from taxi_orchestration.loading import Progress
from taxi_orchestration.settings import Settings, load_settings


def build_definitions(settings: Settings, progress: Progress | None = None) -> dg.Definitions:
    """Every asset, check, job and schedule, for production, `taxi` and tests alike. Starts no server.

    Raises SettingsError or DbtError where the environment or the dbt project cannot be used.
    """
    artifacts = prepared_project(settings)
    manifest = read_manifest(artifacts)
    return dg.Definitions(
        assets=[raw_trips, raw_zones, *build_dbt_assets(manifest, artifacts)],
        jobs=[taxi_pipeline, taxi_reference],
        schedules=[monthly_schedule],
        resources={"settings": settings, "progress": progress or Progress()},
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What `dagster dev` loads; nothing happens when this module is only imported."""
    return build_definitions(load_settings())
