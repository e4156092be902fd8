"""The dbt models and seeds as assets, their tests as asset checks. dbt itself is run by dbt_runner.py."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from dagster import (
    AssetCheckResult,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    AssetsDefinition,
    AutomationCondition,
    BackfillPolicy,
    Failure,
    MetadataValue,
    Output,
    ResourceParam,
)
from dagster_dbt import DagsterDbtTranslator, dbt_assets
from dagster_dbt.asset_utils import get_asset_check_key_for_test
from dagster_dbt.core.dbt_cli_event import DbtCoreCliEventMessage

from taxi_orchestration.assets.builds import BUILT_FROM, MONTHLY_TABLES
from taxi_orchestration.assets.column_lineage import ColumnLineage
from taxi_orchestration.assets.dagster_names import ROWS
from taxi_orchestration.assets.interruption import canceled_by_interrupt
from taxi_orchestration.assets.markdown import as_markdown
from taxi_orchestration.assets.retries import translate_to_failure
from taxi_orchestration.dbt_retry import invoke_with_retries
from taxi_orchestration.dbt_runner import FAILED_STATUSES, DbtOutcome, invoke_dbt
from taxi_orchestration.loading import Progress, create_raw_tables
from taxi_orchestration.partitions import Window, key_of, month_of, monthly_partitions, next_month
from taxi_orchestration.settings import PostgresTarget, Settings
from taxi_orchestration.warehouse.connection import WarehouseError, advice_on_text
from taxi_orchestration.warehouse.months import (
    LoadedFile,
    count_by_month,
    loaded_files,
    refuse_foreign_relations,
    rows_of,
)
from taxi_orchestration.warehouse.relations import TABLE, VIEW, Relation
from taxi_orchestration.warehouse.target import warehouse_target

# Two dbt runs in one schema at the same time break each other; dagster.yaml gives the pool one slot.
DBT_POOL = "dbt"

DBT_MODELS = "dbt_models"
SEEDS = "resource_type:seed"
# What the project's materialization of seeds says of one that it left alone.
SEED_UNCHANGED = "SEED UNCHANGED"
BUILD_ATTEMPTS = 3
MAX_FAILING_ROWS = 1000
SAMPLE_ROWS = 5


class TaxiDbtTranslator(DagsterDbtTranslator):
    """dbt's nodes under their own plain names, so that the tables of the warehouse and the assets are called alike."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> AssetKey:
        """The name of the model, seed or source table."""
        return AssetKey(dbt_resource_props["name"])

    def __init__(self, monthly: AutomationCondition | None = None) -> None:
        super().__init__()
        self.monthly = monthly

    def get_automation_condition(self, dbt_resource_props: Mapping[str, Any]) -> AutomationCondition | None:
        """The models are built when their month changed; the seeds know no months."""
        return self.monthly if dbt_resource_props["resource_type"] == "model" else None

    def get_tags(self, dbt_resource_props: Mapping[str, Any]) -> Mapping[str, str]:
        """dbt's own tags and how the node is materialized, so that the UI can filter by it."""
        materialized = str(dbt_resource_props.get("config", {}).get("materialized") or "source")
        return {**super().get_tags(dbt_resource_props), "materialized": materialized}


def build_dbt_assets(
    manifest: Mapping[str, Any], artifacts: Path, monthly: AutomationCondition | None = None
) -> list[AssetsDefinition]:
    """The assets of a parsed dbt project: the monthly models, and the seeds, which know no months.

    `artifacts` is the directory that `dbt_runner.prepared_project` returned for the manifest; `monthly` says when the
    models of a month are built without anybody asking.
    """
    translator = TaxiDbtTranslator(monthly)

    @dbt_assets(
        manifest=manifest,
        exclude=f"{SEEDS} resource_type:unit_test",
        name=DBT_MODELS,
        partitions_def=monthly_partitions,
        backfill_policy=BackfillPolicy.single_run(),
        dagster_dbt_translator=translator,
        pool=DBT_POOL,
    )
    def dbt_models(
        context: AssetExecutionContext, settings: ResourceParam[Settings], progress: ResourceParam[Progress]
    ) -> Iterator[Any]:
        keys = context.partition_key_range
        window = Window(month_of(keys.start), next_month(month_of(keys.end)))
        with translate_to_failure():
            yield from run_dbt(context, settings, progress, manifest, translator, artifacts, window)

    @dbt_assets(manifest=manifest, select=SEEDS, name="dbt_seeds", dagster_dbt_translator=translator, pool=DBT_POOL)
    def dbt_seeds(
        context: AssetExecutionContext, settings: ResourceParam[Settings], progress: ResourceParam[Progress]
    ) -> Iterator[Any]:
        with translate_to_failure():
            yield from run_dbt(context, settings, progress, manifest, translator, artifacts, None)

    return [dbt_seeds, dbt_models]


def run_dbt(
    context: AssetExecutionContext,
    settings: Settings,
    progress: Progress,
    manifest: Mapping[str, Any],
    translator: DagsterDbtTranslator,
    artifacts: Path,
    window: Window | None,
) -> Iterator[Output[None] | AssetCheckResult]:
    """`dbt build` of what this step selects, for the months of `window`, as Dagster's events."""
    target = warehouse_target(settings)
    schema = settings.schema_name
    create_raw_tables(target, schema)
    names = _selected(context, manifest, translator)
    if window:
        # Models need the seeds, and need them as their files are now; dbt leaves alone one that is.
        names += [node["name"] for node in manifest["nodes"].values() if node["resource_type"] == "seed"]
    refuse_foreign_relations(target, schema, _relations(manifest, names))
    options = ["--indirect-selection", "empty"]
    if window:
        options += ["--vars", json.dumps({"window_start": str(window.start), "window_end": str(window.end)})]

    def invoke(some: Sequence[str]) -> DbtOutcome:
        # Asked for anew each time: an embedded server that went down is started again.
        args = ["build", "--select", *some, *options]
        return invoke_dbt(args, warehouse_target(settings), schema, artifacts, on_node=lambda _: progress.built())

    # dbt builds the models in several transactions: a month that is replaced between two of them is built once more.
    for _ in range(BUILD_ATTEMPTS):
        files = _files_of(target, schema, window)
        progress.building(len(names))
        with canceled_by_interrupt(context):
            outcome = invoke_with_retries(invoke, names, manifest, context.log.warning)
        if files == _files_of(target, schema, window):
            break
    else:
        raise Failure(
            f"dbt for {window} in schema {schema}: each of the {BUILD_ATTEMPTS} times that it ran, months of raw_trips "
            "were replaced meanwhile, so its tables may hold parts of two files. Run it again once nobody loads them.",
            allow_retries=False,
        )
    if window:
        _add_month_metadata(context, target, schema, window, files)
    lineage = ColumnLineage(artifacts, manifest, translator)
    for raw_event in outcome.events:
        for event in DbtCoreCliEventMessage(dict(raw_event), {}).to_default_asset_events(manifest, translator, context):
            match event:
                case Output() if event.output_name in context.op_execution_context.selected_output_names:
                    yield event.with_metadata({**event.metadata, **lineage.metadata_of(raw_event)})
                case Output() if raw_event["data"]["result_message"] != SEED_UNCHANGED:
                    seed = manifest["nodes"][raw_event["data"]["node_info"]["unique_id"]]
                    context.log_event(AssetMaterialization(translator.get_asset_key(seed), metadata=event.metadata))
                case AssetCheckResult(passed=False):
                    yield _with_failing_rows(event, raw_event, outcome, target)
                case AssetCheckResult():
                    yield event
    lineage.save()
    if outcome.error:
        what = f" for {window}" if window else ""
        advice = _advice(outcome, target)
        raise Failure(f"dbt{what} in schema {schema}: {outcome.error}{advice}", allow_retries=False)


def _selected(
    context: AssetExecutionContext, manifest: Mapping[str, Any], translator: DagsterDbtTranslator
) -> list[str]:
    """The names of the dbt nodes, tests among them, that this step was asked for."""
    names = []
    for unique_id, node in manifest["nodes"].items():
        if node["resource_type"] == "test":
            key = get_asset_check_key_for_test(manifest, translator, unique_id, project=None)
            chosen = key in context.selected_asset_check_keys
        else:
            chosen = translator.get_asset_key(node) in context.selected_asset_keys
        if chosen:
            names.append(node["name"])
    return names


def _relations(manifest: Mapping[str, Any], names: Collection[str]) -> list[Relation]:
    """The tables and views that dbt makes of these nodes."""
    return [
        Relation(node["alias"], VIEW if node["config"]["materialized"] == "view" else TABLE, list(node["columns"]))
        for node in manifest["nodes"].values()
        if node["resource_type"] in ("model", "seed") and node["name"] in names
    ]


def _advice(outcome: DbtOutcome, target: PostgresTarget) -> str:
    """What to do about the first failed node of which more is known than dbt passes on: PostgreSQL's text."""
    for result in outcome.results:
        if result.status in FAILED_STATUSES:
            try:
                advice = advice_on_text(str(result.message), result.execution_time, target)
            except WarehouseError:
                return ""
            if advice:
                return f" {advice}"
    return ""


def _files_of(target: PostgresTarget, schema: str, window: Window | None) -> dict[date, LoadedFile]:
    """The files that raw_trips holds in the window; none where dbt builds what knows no months."""
    if window is None:
        return {}
    return {m: file for m, file in loaded_files(target, schema).items() if window.start <= m < window.end}


def _add_month_metadata(
    context: AssetExecutionContext,
    target: PostgresTarget,
    schema: str,
    window: Window,
    files: Mapping[date, LoadedFile],
) -> None:
    """Rows of each month, for the tables among the selected models; a view would have to be computed for it.

    And which rows of raw_trips they come from, so that anyone can tell whether these are still the rows that are there.
    """
    for table in MONTHLY_TABLES:
        if table in context.selected_asset_keys:
            counts = count_by_month(target, schema, table.path[-1], window.start, window.end)
            for month in window.months:
                metadata: dict[str, Any] = {ROWS: counts.get(month, 0)}
                if month in files:
                    metadata[BUILT_FROM] = files[month].rows_sha256
                context.add_asset_metadata(metadata, asset_key=table, partition_key=key_of(month))


def _with_failing_rows(
    result: AssetCheckResult, raw_event: Mapping[str, Any], outcome: DbtOutcome, target: PostgresTarget
) -> AssetCheckResult:
    """The failed check with the months in which it fails and some of the rows: dbt itself tells only how many."""
    unique_id = raw_event["data"]["node_info"]["unique_id"]
    query = next((r.node.compiled_code for r in outcome.results if r.node.unique_id == unique_id), None)
    if not query:
        return result
    shown: dict[str, MetadataValue] = {}
    try:
        rows = rows_of(target, query, limit=MAX_FAILING_ROWS)
        months = sorted({str(row["source_month"])[:7] for row in rows if row.get("source_month")})
        shown["months"] = MetadataValue.text(", ".join(months) or "not told by this test")
        shown["sample"] = MetadataValue.md(as_markdown(rows[:SAMPLE_ROWS]))
    except WarehouseError as error:
        # That there are such rows is known, and the rest of what dbt did has still to be told.
        shown["sample"] = MetadataValue.text(str(error))
    return AssetCheckResult(
        passed=False,
        asset_key=result.asset_key,
        check_name=result.check_name,
        severity=result.severity,
        metadata={**result.metadata, **shown},
    )
