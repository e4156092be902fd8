"""The asset raw_trips: exactly the rows of the newest accepted file of every month."""

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from datetime import date
from typing import cast

from dagster import (
    AssetCheckEvaluation,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    AssetObservation,
    AssetsDefinition,
    AssetSpec,
    BackfillPolicy,
    Config,
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DataVersion,
    Failure,
    MaterializeResult,
    MetadataValue,
    Output,
    PartitionsDefinition,
    ResourceParam,
    multi_asset,
)
from pydantic import Field

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.defs.coverage import coverage_evaluation, coverage_spec
from taxi_orchestration.defs.interruption import canceled_by_interrupt
from taxi_orchestration.defs.markdown import as_markdown
from taxi_orchestration.defs.month_checks import (
    FILE_IS_WHOLE,
    Findings,
    evaluations,
    raw_checks,
    raw_findings,
)
from taxi_orchestration.defs.raw_zones import load_missing_zones
from taxi_orchestration.defs.retries import RETRIES, translate_to_failure
from taxi_orchestration.defs.table_metadata import file_details, raw_table_metadata
from taxi_orchestration.defs.tlc_source import source_tags
from taxi_orchestration.defs.warehouse_resource import WarehouseResource
from taxi_orchestration.instance.builds import DETAILS, rows_built_from
from taxi_orchestration.instance.dagster_names import (
    BACKFILL,
    DATA_VERSION,
    FROM_FAILURE,
    ROWS,
    WITHDRAWS_PLAN,
    data_version_tags,
)
from taxi_orchestration.loading import MonthLoad, Progress, open_loader
from taxi_orchestration.months import (
    MOST_MONTHS_AT_ONCE,
    default_months_at_once,
    parse_partition_key,
    partition_key,
)
from taxi_orchestration.postgres.connection import WarehouseError, WarehouseUnavailableError
from taxi_orchestration.report.formats import format_bytes
from taxi_orchestration.settings import Settings
from taxi_orchestration.tlc.client import Publication
from taxi_orchestration.tlc.dataset import DATASET, KEY_COLUMNS
from taxi_orchestration.tlc.errors import NotPublishedError
from taxi_orchestration.warehouse.load_log import loaded_files
from taxi_orchestration.warehouse.warehouse import Warehouse

# More partitions than there will be.
ALL_MONTHS = 9_999
CODE_VERSION = "1"
# Begins the reason on the page of a month that is not published.
NOT_YET_PUBLISHED = "Not yet published."

# The metadata of a loaded month: the rows that the load replaced.
ROWS_BEFORE = "rows before"

# The tag of automatic runs: a file with the rows that the models were built from already runs nothing downstream. A
# user's "materialize" always materializes.
ONLY_IF_CHANGED = ".dagster/taxi_only_if_changed"


class LoadConfig(Config):
    """The configuration of the loading step."""

    months_at_once: int = Field(
        default_factory=default_months_at_once,
        ge=1,
        le=MOST_MONTHS_AT_ONCE,
        description="How many months are loaded side by side.",
    )
    newest_first: bool = Field(default=False, description="Begin with the newest month.")
    is_of_a_range: bool = Field(
        default=False,
        description="Do not fail a run whose only month is not published, as one of a requested range.",
    )


def build_raw_trips(
    assets: AssetKeys, months: PartitionsDefinition, qualified_schema: str, months_per_run: int | None = None
) -> AssetsDefinition:
    """Build the asset with its checks, for these months and this schema, written as database.schema.

    A range becomes runs of `months_per_run` months, or one run.
    """
    checks = [*raw_checks(assets, months), coverage_spec(assets)]

    @multi_asset(
        name="raw_trips",
        specs=[_spec(assets, months, qualified_schema)],
        check_specs=checks,
        # Subsettable, so that checks can run by month and without a load.
        can_subset=True,
        # Another policy than that of the models: with the same policy Dagster puts both into one run, where a failed
        # month stops dbt for all months.
        backfill_policy=BackfillPolicy.multi_run(max_partitions_per_run=months_per_run or ALL_MONTHS),
        retry_policy=RETRIES,
    )
    def raw_trips(
        context: AssetExecutionContext,
        config: LoadConfig,
        settings: ResourceParam[Settings],
        warehouse: WarehouseResource,
        progress: ResourceParam[Progress],
    ) -> Iterator[MaterializeResult | AssetCheckEvaluation | Output[None]]:
        """Load and check the months of the run; a failed month does not affect the others."""
        with canceled_by_interrupt(context), translate_to_failure():
            yield from _load_and_check(context, config, settings, warehouse.open(), progress)

    return raw_trips


def _spec(assets: AssetKeys, months: PartitionsDefinition, qualified_schema: str) -> AssetSpec:
    return AssetSpec(
        key=assets.raw_trips,
        description=(
            f"Every row of the TLC's files of {DATASET.label}, as published, one partition a file. The partition is "
            "the month of the file, not of a pickup, and holds exactly the rows of the newest accepted file. "
            "Key: source_month, source_row."
        ),
        partitions_def=months,
        deps=[assets.tlc_files],
        group_name="raw",
        kinds={"postgres", "parquet", "python"},
        code_version=CODE_VERSION,
        metadata=raw_table_metadata(qualified_schema, "raw_trips", [*KEY_COLUMNS, *DATASET.columns]),
        # A run of several months records each month itself and omits the output.
        skippable=True,
    )


def _load_and_check(
    context: AssetExecutionContext,
    config: LoadConfig,
    settings: Settings,
    warehouse: Warehouse,
    progress: Progress,
) -> Iterator[MaterializeResult | AssetCheckEvaluation | Output[None]]:
    """Load and check the months; expected errors are raised unchanged."""

    assets = AssetKeys(warehouse.student)
    outputs = {spec.key: spec.get_python_identifier() for spec in (*raw_checks(assets), coverage_spec(assets))}
    # Evaluations are not outputs of the step, and Dagster would log each check as skipped.
    for key in context.selected_asset_check_keys:
        yield Output(None, output_name=outputs[key])
    months = sorted(_months_of_run(context, settings, warehouse), reverse=config.newest_first)
    if assets.raw_trips not in context.selected_asset_keys:
        yield from _check_months(context, settings, warehouse, months)
        return
    made, failures, not_published = _load(context, config, settings, warehouse, progress, months)
    if not failures and not not_published:
        yield from _record_months(context, assets, made)
    findings: Findings = {}
    try:
        findings = raw_findings(warehouse, made, _count_rows(made)) if made else {}
        yield from _evaluate_selected(context, settings, warehouse, findings)
    except WarehouseError as error:
        if not failures:
            # A retry would load nothing, and so evaluate no check.
            raise Failure(f"Loaded, but not checked. {error}", allow_retries=False) from error
    failures |= {
        month: WarehouseError(f"{found.summary} {found.to_do}.")
        for month, of_month in findings.items()
        if (found := of_month[FILE_IS_WHOLE]).level == "error"
    }
    if failures or (not_published and len(months) > 1 and _builds_models(context, assets.raw_trips)):
        # The next step would build all months of the run, or none.
        raise failure_of(failures, made.keys(), not_published)


def _load(
    context: AssetExecutionContext,
    config: LoadConfig,
    settings: Settings,
    warehouse: Warehouse,
    progress: Progress,
    months: Sequence[date],
) -> tuple[dict[date, AssetMaterialization], dict[date, Exception], set[date]]:
    """Load the months that no earlier attempt of the run has loaded.

    Return the records of the loaded months, the errors of the failed ones, and those that are not published.
    """

    def warn(text: str) -> None:
        context.log.warning(text)
        progress.warned(text)

    assets = AssetKeys(warehouse.student)
    made: dict[date, AssetMaterialization] = {}
    failures: dict[date, Exception] = {}
    not_published: set[date] = set()
    is_alone = len(months) == 1 and not (config.is_of_a_range or _is_chunk_of_range(context, assets.raw_trips))
    with open_loader(settings, warehouse, on_retry=warn) as loader:
        load_missing_zones(context, loader, warn)
        attempts = _find_attempts(context)
        if attempts and not context.has_partition_key:
            made = _find_loaded(context.instance, assets.raw_trips, attempts, warehouse)
        to_load = [month for month in months if month not in made]
        for month, outcome in loader.load_months(to_load, config.months_at_once, context.run.run_id, progress):
            if isinstance(outcome, NotPublishedError) and not is_alone:
                not_published.add(month)
                context.log_event(
                    _observation(assets.raw_trips, month, NOT_YET_PUBLISHED, outcome, {WITHDRAWS_PLAN: "true"})
                )
            elif isinstance(outcome, Exception):
                failures[month] = outcome
                context.log.error(str(outcome))
                context.log_event(_observation(assets.raw_trips, month, "Not loaded.", outcome))
                if isinstance(outcome, WarehouseUnavailableError) and context.retry_number < RETRIES.max_retries:
                    progress.warned(f"{partition_key(month)} is loaded again in a moment. {outcome}")
            else:
                made[month] = _materialization(context, assets, outcome)
                if not context.has_partition_key:
                    context.log_event(made[month])
    return made, failures, not_published


def _months_of_run(context: AssetExecutionContext, settings: Settings, warehouse: Warehouse) -> list[date]:
    """Return the months of the run; all loaded months for a run of checks without a month."""
    if context.has_partition_key or context.has_partition_key_range:
        return [parse_partition_key(key) for key in context.partition_keys]
    if AssetKeys(warehouse.student).raw_trips in context.selected_asset_keys:
        raise Failure("raw_trips is loaded by month. Choose the months in the dialog.", allow_retries=False)
    return [month for month in loaded_files(warehouse) if month >= settings.first_month]


def _check_months(
    context: AssetExecutionContext, settings: Settings, warehouse: Warehouse, months: Collection[date]
) -> Iterator[AssetCheckEvaluation]:
    """Check the loaded months among these."""
    loaded = loaded_files(warehouse).keys() & set(months)
    yield from _evaluate_selected(context, settings, warehouse, raw_findings(warehouse, loaded) if loaded else {})


def _evaluate_selected(
    context: AssetExecutionContext, settings: Settings, warehouse: Warehouse, findings: Findings
) -> Iterator[AssetCheckEvaluation]:
    """Yield the evaluations of the selected checks."""
    assets, selected = AssetKeys(warehouse.student), context.selected_asset_check_keys
    specs = [spec for spec in raw_checks(assets) if spec.key in selected]
    yield from evaluations(context.instance, specs, findings)
    if assets.coverage_check in selected:
        yield coverage_evaluation(context.instance, warehouse, settings.first_month)


def _is_chunk_of_range(context: AssetExecutionContext, raw_trips: AssetKey) -> bool:
    """Return whether the single month of this run is a chunk of a range, which Dagster splits into runs."""
    id_ = context.run.tags.get(BACKFILL)
    backfill = context.instance.get_backfill(id_) if id_ else None
    if backfill is None:
        return False
    if backfill.asset_backfill_data is None:
        # A backfill of a job, which makes a run of each month.
        return len(backfill.partition_names or ()) > 1
    return len(backfill.asset_backfill_data.target_subset.get_partitions_subset(raw_trips)) > 1


def _builds_models(context: AssetExecutionContext, raw_trips: AssetKey) -> bool:
    """Return whether this run builds models too."""
    return context.run.asset_selection != {raw_trips}


def _observation(
    raw_trips: AssetKey, month: date, found: str, error: Exception, tags: Mapping[str, str] | None = None
) -> AssetObservation:
    """Return the observation with the reason of a failed month, for its partition's page."""
    reason = f"{found} {error}"
    return AssetObservation(
        asset_key=raw_trips,
        partition=partition_key(month),
        description=reason,
        metadata={"reason": MetadataValue.text(reason)},
        tags=tags,
    )


def _find_attempts(context: AssetExecutionContext) -> list[str]:
    """Return this run and the runs that it re-executes from failure, newest first."""
    run: DagsterRun | None = context.run
    attempts = [context.run.run_id] if context.retry_number else []
    while run and run.parent_run_id and FROM_FAILURE & run.tags.keys():
        attempts.append(run.parent_run_id)
        run = context.instance.get_run_by_id(run.parent_run_id)
    return attempts


def _find_loaded(
    instance: DagsterInstance, raw_trips: AssetKey, attempts: Sequence[str], warehouse: Warehouse
) -> dict[date, AssetMaterialization]:
    """Return the months that these runs loaded and recorded, and that are unchanged and whole since."""
    files = loaded_files(warehouse)
    made: dict[date, AssetMaterialization] = {}
    for run_id in attempts:
        for entry in instance.all_logs(run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION):
            materialization = entry.asset_materialization
            if materialization and materialization.asset_key == raw_trips and materialization.partition:
                month = parse_partition_key(materialization.partition)
                if month in files and files[month].dagster_run_id == run_id:
                    made[month] = materialization
    findings = raw_findings(warehouse, made, _count_rows(made)) if made else {}
    return {month: made[month] for month in findings if findings[month][FILE_IS_WHOLE].level != "error"}


def _count_rows(made: Mapping[date, AssetMaterialization]) -> dict[date, int]:
    """Return the row counts of the loaded files."""
    return {month: cast(int, materialization.metadata[ROWS].value) for month, materialization in made.items()}


def _record_months(
    context: AssetExecutionContext, assets: AssetKeys, made: Mapping[date, AssetMaterialization]
) -> Iterator[MaterializeResult]:
    """Yield the output events of a run in which every month was loaded."""
    if context.has_partition_key:
        ((month, materialization),) = made.items()
        tags = materialization.tags or {}
        # The tables of a month without rows before are gone too, as after `drop schema`.
        is_reissue = ONLY_IF_CHANGED in context.run.tags and materialization.metadata[ROWS_BEFORE].value
        if is_reissue and _is_built(context, assets, month, tags[DATA_VERSION]):
            context.log.info(
                f"{partition_key(month)}: another file with the same rows. Nothing downstream is built again."
            )
            context.log_event(materialization)
            return
        yield MaterializeResult(
            assets.raw_trips,
            metadata=materialization.metadata,
            data_version=DataVersion(tags[DATA_VERSION]),
            tags={name: value for name, value in tags.items() if name.startswith("dagster/input_")},
        )
    elif _builds_models(context, assets.raw_trips):
        # The next step runs only if there is an output, which records one data version for all months; the records of
        # each month follow it and take precedence.
        yield MaterializeResult(assets.raw_trips)
        for materialization in made.values():
            context.log_event(materialization)


def _is_built(context: AssetExecutionContext, assets: AssetKeys, month: date, rows_sha256: str) -> bool:
    """Return whether the models were last built from exactly these rows."""
    return rows_built_from(context.instance, assets, [month]).get(month) == rows_sha256


def _materialization(context: AssetExecutionContext, assets: AssetKeys, load: MonthLoad) -> AssetMaterialization:
    """Return the materialization of one month, with the sha256 of its rows as data version."""
    file = load.file
    publication = Publication(file.url, True, file.etag, file.last_modified, file.bytes)
    return AssetMaterialization(
        asset_key=assets.raw_trips,
        partition=partition_key(file.source_month),
        metadata=_metadata(load),
        tags={
            **data_version_tags(file.rows_sha256 or ""),
            "dagster/code_version": CODE_VERSION,
            **source_tags(context, assets, file.source_month, publication),
        },
    )


def _metadata(load: MonthLoad) -> dict[str, MetadataValue]:
    """Return the metadata of a loaded month."""
    file = load.file
    drift = "; ".join(f"{kind.replace('_', ' ')}: {', '.join(found)}" for kind, found in file.drift.items() if found)
    metadata: dict[str, MetadataValue] = {
        ROWS: MetadataValue.int(file.rows),
        ROWS_BEFORE: MetadataValue.int(load.rows_before),
        "pickups outside the month": MetadataValue.int(load.pickups_outside),
        "layout": MetadataValue.text(DATASET.label_of(load.era)),
        "drift": MetadataValue.text(drift or "none"),
        "url": MetadataValue.url(file.url),
        "size": MetadataValue.text(format_bytes(file.bytes)),
        "seconds": MetadataValue.float(round(load.seconds, 2)),
        "rows a second": MetadataValue.int(round(load.rows_per_second)),
        "preview": MetadataValue.md(as_markdown(load.preview)),
    }
    if file.last_modified:
        metadata["last modified"] = MetadataValue.timestamp(file.last_modified)
    return metadata | {DETAILS: MetadataValue.json(file_details(file))}


def failure_of(failures: Mapping[date, Exception], made: Set[date], not_published: Set[date] = frozenset()) -> Failure:
    """Return the failure of a run with these failed months, of which `made` were loaded; retryable if that can help."""
    kinds = {
        "Not yet published, so that everything downstream of raw_trips is skipped": not_published,
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
