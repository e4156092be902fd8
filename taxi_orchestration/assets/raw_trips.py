"""raw_trips: exactly the rows of the newest accepted file of every month."""

import os
from collections.abc import Iterator, Mapping
from datetime import date

from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    AssetSpec,
    Backoff,
    BackfillPolicy,
    Config,
    Failure,
    Jitter,
    MaterializeResult,
    MetadataValue,
    ResourceParam,
    RetryPolicy,
    TableColumn,
    TableSchema,
    multi_asset,
)
from dagster import DataVersion
from pydantic import Field

from taxi_orchestration.assets.markdown import as_markdown
from taxi_orchestration.loading import MonthLoad, Progress, open_loader
from taxi_orchestration.partitions import key_of, month_of, monthly_partitions
from taxi_orchestration.settings import Settings
from taxi_orchestration.tlc.contract import COLUMNS
from taxi_orchestration.warehouse.connection import WarehouseUnavailableError
from taxi_orchestration.warehouse.months import loaded_files

RAW_TRIPS = AssetKey("raw_trips")

# A range from the UI becomes runs of so many months: one process start for all of them, and still something to see.
MONTHS_PER_RUN = 24

# What PostgreSQL could not take now it may take in a minute. Downloads are retried by the client alone.
RETRIES = RetryPolicy(max_retries=3, delay=5, backoff=Backoff.EXPONENTIAL, jitter=Jitter.PLUS_MINUS)


class LoadConfig(Config):
    """How the months of one run are loaded."""

    months_at_once: int = Field(
        default_factory=lambda: os.cpu_count() or 1, ge=1, le=32, description="How many months are loaded side by side."
    )
    newest_first: bool = Field(default=False, description="Begin with the newest month.")


def table_schema() -> TableSchema:
    """The columns of raw_trips with their PostgreSQL types and meanings."""
    key = [
        TableColumn("source_month", "date", description="First day of the month of the file that the row came in."),
        TableColumn("source_row", "integer", description="Position of the row in its file, from 1."),
    ]
    return TableSchema([*key, *(TableColumn(c.name, c.postgres_type, description=c.description) for c in COLUMNS)])


raw_trips_spec = AssetSpec(
    key=RAW_TRIPS,
    description=(
        "Every row of the TLC's green-taxi files, as published: one partition a file. A month is the month of its file, "
        "never of a pickup, and holds exactly the rows of the newest file that was accepted. "
        "Key: source_month, source_row."
    ),
    partitions_def=monthly_partitions,
    group_name="raw",
    owners=["team:data-engineering"],
    kinds={"postgres", "parquet", "python"},
    code_version="1",
    metadata={"dagster/column_schema": table_schema(), "dagster/table_name": "raw_trips"},
    # A run over several months records each by itself and leaves the output out.
    skippable=True,
)


@multi_asset(
    name="raw_trips",
    specs=[raw_trips_spec],
    backfill_policy=BackfillPolicy.multi_run(max_partitions_per_run=MONTHS_PER_RUN),
    retry_policy=RETRIES,
)
def raw_trips(
    context: AssetExecutionContext,
    config: LoadConfig,
    settings: ResourceParam[Settings],
    progress: ResourceParam[Progress],
) -> Iterator[MaterializeResult]:
    """Load the months of the run; each that can be loaded is, whatever becomes of the others."""
    months = sorted((month_of(key) for key in context.partition_keys), reverse=config.newest_first)
    loads: list[MonthLoad] = []
    failures: dict[date, Exception] = {}
    with open_loader(settings) as loader:
        if context.retry_number:
            files = loaded_files(loader.target, loader.schema)
            months = [m for m in months if m not in files or files[m].dagster_run_id != context.run.run_id]
        for month, outcome in loader.load_months(months, config.months_at_once, context.run.run_id, progress):
            if isinstance(outcome, Exception):
                failures[month] = outcome
                context.log.error(str(outcome))
            else:
                loads.append(outcome)
                if not context.has_partition_key:
                    context.log_event(month_materialization(outcome))
    if failures:
        raise failure_of(failures)
    if context.has_partition_key:
        (load,) = loads
        yield MaterializeResult(RAW_TRIPS, metadata=month_metadata(load), data_version=data_version(load))
    elif context.run.asset_selection != {RAW_TRIPS}:
        # Steps after this one run only if there is an output; but that records one data version for all months, so the
        # records of each follow it and count.
        yield MaterializeResult(RAW_TRIPS)
        for load in loads:
            context.log_event(month_materialization(load))


def data_version(load: MonthLoad) -> DataVersion:
    """The sha256 of the month's rows: another file with the same rows is no other data."""
    return DataVersion(load.file.rows_sha256 or "")


def month_materialization(load: MonthLoad) -> AssetMaterialization:
    """The record of one month of a run over several; its data version is the sha256 of its rows."""
    return AssetMaterialization(
        asset_key=RAW_TRIPS,
        partition=key_of(load.file.source_month),
        metadata=month_metadata(load),
        tags={
            "dagster/data_version": data_version(load).value,
            "dagster/data_version_is_user_provided": "true",
            "dagster/code_version": raw_trips_spec.code_version or "",
        },
    )


def month_metadata(load: MonthLoad) -> dict[str, MetadataValue]:
    """What the UI shows of a loaded month."""
    file = load.file
    drift = file.drift.get("summary") or "none"
    metadata: dict[str, MetadataValue] = {
        "dagster/partition_row_count": MetadataValue.int(file.rows),
        "rows before": MetadataValue.int(load.rows_before),
        "pickups outside the month": MetadataValue.int(load.pickups_outside),
        "era": MetadataValue.text(load.era),
        "drift": MetadataValue.text(str(drift)),
        "url": MetadataValue.url(file.url),
        "etag": MetadataValue.text(file.etag or "none sent"),
        "bytes": MetadataValue.int(file.bytes),
        "sha256": MetadataValue.text(file.sha256),
        "sha256 of the rows": MetadataValue.text(file.rows_sha256 or ""),
        "seconds": MetadataValue.float(round(load.seconds, 3)),
        "rows a second": MetadataValue.int(round(load.rows_per_second)),
        "preview": MetadataValue.md(as_markdown(load.preview.to_pylist())),
    }
    if file.last_modified:
        metadata["last modified"] = MetadataValue.timestamp(file.last_modified)
    return metadata


def failure_of(failures: Mapping[date, Exception]) -> Failure:
    """The failure of a run in which these months could not be loaded; retried only where that can help."""
    months = ", ".join(key_of(month) for month in sorted(failures))
    reasons = "\n".join(f"{key_of(month)}: {failures[month]}" for month in sorted(failures))
    return Failure(
        description=f"Not loaded: {months}. Every other month of this run is.\n{reasons}",
        metadata={key_of(month): MetadataValue.text(str(failures[month])) for month in sorted(failures)},
        allow_retries=any(isinstance(error, WarehouseUnavailableError) for error in failures.values()),
    )
