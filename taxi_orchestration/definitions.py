"""The definitions of the code location: all assets, checks, jobs, schedules, sensors and resources together."""

import gc
import os
import warnings

import dagster as dg

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.dbt.runner import prepared_project, read_manifest
from taxi_orchestration.defs.clock import Clock
from taxi_orchestration.defs.code_references import repository_url, with_code_references
from taxi_orchestration.defs.conditions import automation_sensor, changed_code, changed_months
from taxi_orchestration.defs.dbt_models import build_dbt_assets
from taxi_orchestration.defs.exposures import client_specs
from taxi_orchestration.defs.jobs import TAXI_PIPELINE, build_jobs
from taxi_orchestration.defs.month_watch import build_freshness_check, build_month_watch
from taxi_orchestration.defs.raw_trips import build_raw_trips
from taxi_orchestration.defs.raw_zones import build_raw_zones
from taxi_orchestration.defs.schedules import build_monthly_schedule
from taxi_orchestration.defs.sensors import build_tlc_publications
from taxi_orchestration.defs.settings_resource import build_given_resource, build_settings_resource
from taxi_orchestration.defs.taxi_report import build_taxi_report
from taxi_orchestration.defs.tlc_source import build_tlc_files
from taxi_orchestration.defs.warehouse_resource import build_warehouse_resource
from taxi_orchestration.instance.partitions import monthly_partitions
from taxi_orchestration.loading import Progress
from taxi_orchestration.settings import PROJECT_DIRECTORY, Settings, dagster_home, load_settings
from taxi_orchestration.warehouse.warehouse import describe_warehouse


def build_definitions(
    settings: Settings, progress: Progress | None = None, clock: Clock | None = None
) -> dg.Definitions:
    """Build the definitions for production, `taxi` and tests alike. Starts no server.

    Raises SettingsError or DbtError if the environment or the dbt project cannot be used.
    """
    artifacts = prepared_project(settings)
    manifest = read_manifest(artifacts)
    assets, months = AssetKeys(settings.student), monthly_partitions(settings.first_month)
    qualified_schema = f"{describe_warehouse(settings).target.dbname}.{settings.schema_name}"
    settings_of_a_run = build_settings_resource(settings)
    definitions = dg.Definitions(
        assets=with_code_references(
            [
                build_raw_trips(assets, months, qualified_schema, settings.taxi_months_per_run),
                *build_raw_zones(assets, qualified_schema),
                build_taxi_report(manifest, assets),
            ],
            [
                build_tlc_files(months, assets),
                *build_dbt_assets(manifest, artifacts, assets, months, changed_months(settings), changed_code()),
                *client_specs(manifest, assets),
            ],
            repository_url(PROJECT_DIRECTORY),
        ),
        asset_checks=[build_freshness_check(assets)],
        jobs=build_jobs(settings),
        schedules=[build_monthly_schedule(settings.taxi_schedule_cron)],
        sensors=[
            build_tlc_publications(assets),
            automation_sensor(),
            build_month_watch(assets, runs_by_itself=bool(settings.alert_urls)),
            *_alerts(settings),
        ],
        resources={
            "settings": settings_of_a_run,
            "warehouse": build_warehouse_resource(settings, settings_of_a_run),
            "progress": build_given_resource(progress or Progress(), "Receives a run's progress: taxi, or nothing."),
            "clock": build_given_resource(clock or Clock(), "The current time: the clock of this machine."),
        },
        executor=dg.in_process_executor,
    )
    with warnings.catch_warnings():
        # Dagster warns of every job with two backfill policies. Both are needed: with one policy, a failed month of a
        # range would block the models of the others.
        warnings.filterwarnings("ignore", "Asset job .* varying BackfillPolicies", UserWarning)
        definitions.resolve_job_def(TAXI_PIPELINE)
    return definitions


def _alerts(settings: Settings) -> list[dg.SensorDefinition]:
    """Return the sensor that reports incidents, if alert services are set."""
    if not settings.alert_urls:
        return []
    # Imported here: apprise loads a hundred services, and most processes send no alerts.
    from taxi_orchestration.defs.alerts import build_alerts

    return [build_alerts()]


@dg.definitions
def defs() -> dg.Definitions:
    """Build the definitions that `dagster dev` loads; importing this module alone has no side effects."""
    # As in `taxi` (cli/commands.py): 0.75 of 12.5 s of CPU of a run that the UI launched (measured by hand).
    gc.set_threshold(100_000, 20, 100)
    if os.environ.get("DAGSTER_IS_DEV_CLI"):
        # In a home without a dagster.yaml, `dagster dev` would start an empty history, without the pool limits of dbt.
        dagster_home()
    return build_definitions(load_settings())
