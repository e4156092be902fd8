"""raw_trips: exactly the rows of the newest accepted file of every month."""

import os
from collections.abc import Iterator, Mapping, Set
from datetime import date
from typing import cast

from dagster import (
    AssetCheckEvaluation,
    AssetExecutionContext,
    AssetMaterialization,
    AssetSpec,
    BackfillPolicy,
    Config,
    DagsterEventType,
    DataVersion,
    Failure,
    MaterializeResult,
    MetadataValue,
    ResourceParam,
    multi_asset,
)
from pydantic import Field

from taxi_orchestration.asset_keys import RAW_TRIPS, TLC_FILES
from taxi_orchestration.defs.coverage import COVERAGE, coverage_evaluation
from taxi_orchestration.defs.interruption import canceled_by_interrupt
from taxi_orchestration.defs.markdown import as_markdown
from taxi_orchestration.defs.month_checks import FILE_IS_WHOLE, RAW_CHECKS, Findings, evaluations, raw_findings
from taxi_orchestration.defs.raw_zones import load_missing_zones, table_metadata
from taxi_orchestration.defs.retries import RETRIES, translate_to_failure
from taxi_orchestration.defs.tlc_source import source_tags
from taxi_orchestration.defs.warehouse_resource import WarehouseResource
from taxi_orchestration.instance.builds import rows_built_from
from taxi_orchestration.instance.dagster_names import DATA_VERSION, ROWS, data_version_tags
from taxi_orchestration.instance.partitions import monthly_partitions
from taxi_orchestration.loading import MonthLoad, Progress, open_loader
from taxi_orchestration.months import parse_partition_key, partition_key
from taxi_orchestration.postgres.connection import WarehouseError, WarehouseUnavailableError
from taxi_orchestration.settings import Settings
from taxi_orchestration.tlc.client import Publication
from taxi_orchestration.tlc.dataset import DATASET, KEY_COLUMNS
from taxi_orchestration.warehouse.load_log import LoadedFile, loaded_files
from taxi_orchestration.warehouse.warehouse import Warehouse

# A range from the UI becomes runs of so many months: one process start for all of them, and still something to see.
MONTHS_PER_RUN = 24

# On a run that nobody asked for in person: a file with the rows that everything was built from already changes nothing
# downstream, so nothing there is run. Who presses "materialize" gets it materialized.
ONLY_IF_CHANGED = ".dagster/taxi_only_if_changed"


class LoadConfig(Config):
    """How the months of one run are loaded."""

    months_at_once: int = Field(
        default_factory=lambda: os.cpu_count() or 1, ge=1, le=32, description="How many months are loaded side by side."
    )
    newest_first: bool = Field(default=False, description="Begin with the newest month.")


raw_trips_spec = AssetSpec(
    key=RAW_TRIPS,
    description=(
        f"Every row of the TLC's files of {DATASET.label}, as published: one partition a file. A month is the month "
        "of its file, never of a pickup, and holds exactly the rows of the newest file that was accepted. "
        "Key: source_month, source_row."
    ),
    partitions_def=monthly_partitions,
    deps=[TLC_FILES],
    group_name="raw",
    owners=["team:data-engineering"],
    kinds={"postgres", "parquet", "python"},
    code_version="1",
    metadata=table_metadata("raw_trips", [*KEY_COLUMNS, *DATASET.columns]),
    # A run over several months records each by itself and leaves the output out.
    skippable=True,
)


@multi_asset(
    name="raw_trips",
    specs=[raw_trips_spec],
    check_specs=[*RAW_CHECKS, COVERAGE],
    # So that the months of a run can have their checks one by one, and these can be made without loading anything.
    can_subset=True,
    backfill_policy=BackfillPolicy.multi_run(max_partitions_per_run=MONTHS_PER_RUN),
    retry_policy=RETRIES,
)
def raw_trips(
    context: AssetExecutionContext,
    config: LoadConfig,
    settings: ResourceParam[Settings],
    warehouse: WarehouseResource,
    progress: ResourceParam[Progress],
) -> Iterator[MaterializeResult | AssetCheckEvaluation]:
    """Load and check the months of the run; each that can be loaded is, whatever becomes of the others."""
    with translate_to_failure():
        yield from load_and_check(context, config, settings, warehouse.open(), progress)


def load_and_check(
    context: AssetExecutionContext,
    config: LoadConfig,
    settings: Settings,
    warehouse: Warehouse,
    progress: Progress,
) -> Iterator[MaterializeResult | AssetCheckEvaluation]:
    """Do what `raw_trips` is for; errors written for people are raised as they are."""

    def warn(text: str) -> None:
        context.log.warning(text)
        progress.warned(text)

    if RAW_TRIPS not in context.selected_asset_keys:
        months = [parse_partition_key(key) for key in context.partition_keys]
        yield from evaluations(context.instance, RAW_CHECKS, raw_findings(warehouse, months))
        yield coverage_evaluation(context.instance, warehouse)
        return
    months = sorted((parse_partition_key(key) for key in context.partition_keys), reverse=config.newest_first)
    made: dict[date, AssetMaterialization] = {}
    failures: dict[date, Exception] = {}
    with canceled_by_interrupt(context), open_loader(settings, warehouse, on_retry=warn) as loader:
        load_missing_zones(context, loader, warn)
        if context.retry_number and not context.has_partition_key:
            made = made_before(context, loaded_files(warehouse))
        to_load = [month for month in months if month not in made]
        for month, outcome in loader.load_months(to_load, config.months_at_once, context.run.run_id, progress):
            if isinstance(outcome, Exception):
                failures[month] = outcome
                context.log.error(str(outcome))
            else:
                made[month] = month_materialization(context, outcome)
                if not context.has_partition_key:
                    context.log_event(made[month])
    if not failures:
        yield from records(context, made)
    findings: Findings = {}
    footer_rows = {month: cast(int, made[month].metadata[ROWS].value) for month in made}
    try:
        findings = raw_findings(warehouse, footer_rows, footer_rows) if made else {}
        yield from evaluations(context.instance, RAW_CHECKS, findings)
        yield coverage_evaluation(context.instance, warehouse)
    except WarehouseError as error:
        if not failures:
            # A retry would load nothing, and so check nothing.
            raise Failure(f"Loaded, but not checked. {error}", allow_retries=False) from error
    failures |= {
        month: WarehouseError(of_month[FILE_IS_WHOLE].summary)
        for month, of_month in findings.items()
        if of_month[FILE_IS_WHOLE].level == "error"
    }
    if failures:
        raise failure_of(failures, made.keys())


def made_before(context: AssetExecutionContext, files: Mapping[date, LoadedFile]) -> dict[date, AssetMaterialization]:
    """What earlier attempts of this run have loaded and told Dagster of, of the months that are still that."""
    made = {}
    for entry in context.instance.all_logs(context.run.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION):
        materialization = entry.asset_materialization
        if materialization and materialization.asset_key == RAW_TRIPS and materialization.partition:
            month = parse_partition_key(materialization.partition)
            if month in files and files[month].dagster_run_id == context.run.run_id:
                made[month] = materialization
    return made


def records(context: AssetExecutionContext, made: Mapping[date, AssetMaterialization]) -> Iterator[MaterializeResult]:
    """What Dagster has to hear of a run in which every month was loaded, and had not heard when each of them was."""
    if context.has_partition_key:
        ((month, materialization),) = made.items()
        tags = materialization.tags or {}
        if ONLY_IF_CHANGED in context.run.tags and is_built(context, month, tags[DATA_VERSION]):
            context.log.info(
                f"{partition_key(month)}: another file with the same rows. Nothing downstream is built again."
            )
            context.log_event(materialization)
            return
        yield MaterializeResult(
            RAW_TRIPS,
            metadata=materialization.metadata,
            data_version=DataVersion(tags[DATA_VERSION]),
            tags={name: value for name, value in tags.items() if name.startswith("dagster/input_")},
        )
    elif context.run.asset_selection != {RAW_TRIPS}:
        # Steps after this one run only if there is an output; but that records one data version for all months, so the
        # records of each follow it and count.
        yield MaterializeResult(RAW_TRIPS)
        for materialization in made.values():
            context.log_event(materialization)


def is_built(context: AssetExecutionContext, month: date, rows_sha256: str) -> bool:
    """Whether the models were last built from exactly these rows."""
    return rows_built_from(context.instance, [month]).get(month) == rows_sha256


def month_materialization(context: AssetExecutionContext, load: MonthLoad) -> AssetMaterialization:
    """The record of one month. Its data version is the sha256 of its rows: another file of the same is no new data."""
    file = load.file
    publication = Publication(file.url, True, file.etag, file.last_modified, file.bytes)
    return AssetMaterialization(
        asset_key=RAW_TRIPS,
        partition=partition_key(file.source_month),
        metadata=month_metadata(load),
        tags={
            **data_version_tags(file.rows_sha256 or ""),
            "dagster/code_version": raw_trips_spec.code_version or "",
            **source_tags(context, file.source_month, publication),
        },
    )


def month_metadata(load: MonthLoad) -> dict[str, MetadataValue]:
    """What the UI shows of a loaded month."""
    file = load.file
    drift = "; ".join(f"{kind.replace('_', ' ')}: {names_of(found)}" for kind, found in file.drift.items() if found)
    metadata: dict[str, MetadataValue] = {
        ROWS: MetadataValue.int(file.rows),
        "rows before": MetadataValue.int(load.rows_before),
        "pickups outside the month": MetadataValue.int(load.pickups_outside),
        "era": MetadataValue.text(load.era),
        "drift": MetadataValue.text(drift or "none"),
        "url": MetadataValue.url(file.url),
        "etag": MetadataValue.text(file.etag or "none sent"),
        "bytes": MetadataValue.int(file.bytes),
        "sha256": MetadataValue.text(file.sha256),
        "sha256 of the rows": MetadataValue.text(file.rows_sha256 or ""),
        "seconds": MetadataValue.float(round(load.seconds, 3)),
        "rows a second": MetadataValue.int(round(load.rows_per_second)),
        "preview": MetadataValue.md(as_markdown(load.preview)),
    }
    if file.last_modified:
        metadata["last modified"] = MetadataValue.timestamp(file.last_modified)
    return metadata


def names_of(columns: object) -> str:
    """The columns of one kind of drift."""
    return ", ".join(columns) if isinstance(columns, Mapping) else str(columns)


def failure_of(failures: Mapping[date, Exception], made: Set[date]) -> Failure:
    """The failure of a run in which these months failed, of which `made` were loaded; retried where that can help."""
    kinds = {
        "Not loaded": failures.keys() - made,
        "Loaded, but not whole": failures.keys() & made,
        "Loaded": made - failures.keys(),
    }
    result = " ".join(
        f"{kind}: {', '.join(map(partition_key, sorted(months)))}." for kind, months in kinds.items() if months
    )
    reasons = "\n".join(f"{partition_key(month)}: {failures[month]}" for month in sorted(failures))
    return Failure(
        description=f"{result}\n{reasons}",
        metadata={partition_key(month): MetadataValue.text(str(failures[month])) for month in sorted(failures)},
        allow_retries=any(isinstance(error, WarehouseUnavailableError) for error in failures.values()),
    )
