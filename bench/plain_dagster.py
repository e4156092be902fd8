"""The same pipeline with Dagster's defaults: dbt as a subprocess, and a process for each step."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliResource, DbtProject, dbt_assets

from taxi_orchestration.dbt.runner import dbt_environment
from taxi_orchestration.instance.partitions import monthly_partitions
from taxi_orchestration.loading import open_loader
from taxi_orchestration.months import next_month, parse_partition_key
from taxi_orchestration.settings import DBT_PROJECT_DIRECTORY, load_settings
from taxi_orchestration.warehouse.warehouse import open_warehouse

settings = load_settings()
os.environ.update(dbt_environment(open_warehouse(settings), Path(os.environ["DAGSTER_HOME"]) / "target"))
project = DbtProject(project_dir=DBT_PROJECT_DIRECTORY, target_path=Path(os.environ["DBT_TARGET_PATH"]))
# dagster-dbt finds dbt only on PATH. The environment may not be activated.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
project.prepare_if_dev()


@dg.asset(partitions_def=monthly_partitions(), key=["raw", "raw_trips"])
def raw_trips(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """A month, loaded by the project's loader: the benchmark compares everything around the load."""
    with open_loader(settings, open_warehouse(settings)) as loader:
        load = loader.load_month(parse_partition_key(context.partition_key))
    return dg.MaterializeResult(metadata={"dagster/partition_row_count": load.file.rows})


@dbt_assets(manifest=project.manifest_path, exclude="resource_type:unit_test", partitions_def=monthly_partitions())
def models(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
    """`dbt build` of the month."""
    month = parse_partition_key(context.partition_key)
    window = {"window_start": str(month), "window_end": str(next_month(month))}
    yield from dbt.cli(["build", "--vars", json.dumps(window)], context=context).stream()


defs = dg.Definitions(
    assets=[raw_trips, models],
    jobs=[dg.define_asset_job("taxi_pipeline", selection=dg.AssetSelection.all())],
    resources={"dbt": DbtCliResource(project_dir=project)},
)
