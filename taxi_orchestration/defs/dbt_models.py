"""The dbt models and seeds as assets, and dbt tests as asset checks. dbt/runner.py runs dbt."""

import json
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from dagster import (
    AssetCheckEvaluation,
    AssetCheckResult,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    AssetsDefinition,
    AutomationCondition,
    BackfillPolicy,
    BetaWarning,
    DagsterInstance,
    DataVersion,
    Failure,
    MetadataValue,
    Output,
    PartitionsDefinition,
    ResourceParam,
)
from dagster_dbt import DagsterDbtTranslator, dbt_assets

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.dbt.column_lineage import ColumnLineage
from taxi_orchestration.dbt.dagster_dbt_internals import DbtCoreCliEventMessage, get_asset_check_key_for_test
from taxi_orchestration.dbt.runner import FAILED_STATUSES, DbtOutcome, invoke_dbt
from taxi_orchestration.defs.dbt_translator import TaxiDbtTranslator
from taxi_orchestration.defs.interruption import canceled_by_interrupt
from taxi_orchestration.defs.markdown import as_markdown
from taxi_orchestration.defs.retries import RETRIES, translate_to_failure
from taxi_orchestration.defs.table_metadata import check_metadata, months_metadata, node_metadata
from taxi_orchestration.defs.views import CODE_VERSION_KEY, code_versions_made, is_monthly, views_to_make
from taxi_orchestration.defs.warehouse_resource import WarehouseResource
from taxi_orchestration.instance.dagster_names import CHECKED_MONTHS, data_version_tags, input_version_tags
from taxi_orchestration.loading import Progress
from taxi_orchestration.months import Window, parse_partition_key, partition_key
from taxi_orchestration.postgres.connection import WarehouseError, advice_on_text
from taxi_orchestration.quality.finding import SAMPLE_ROWS
from taxi_orchestration.settings import PostgresTarget
from taxi_orchestration.warehouse.dbt_tables import drop_tables, find_tables_of_0_1
from taxi_orchestration.warehouse.load_log import LoadedFile, loaded_files
from taxi_orchestration.warehouse.raw_tables import create_raw_tables
from taxi_orchestration.warehouse.relations import TABLE, VIEW, Relation, refuse_foreign_relations
from taxi_orchestration.warehouse.warehouse import Warehouse

DBT_MODELS = "dbt_models"
DBT_VIEWS = "dbt_views"
BUILD_ATTEMPTS = 3
MAX_FAILING_ROWS = 1000


def build_dbt_assets(
    manifest: Mapping[str, Any],
    artifacts: Path,
    assets: AssetKeys,
    months: PartitionsDefinition,
    monthly: AutomationCondition,
    monthless: AutomationCondition,
) -> list[AssetsDefinition]:
    """Build the assets of a parsed dbt project: monthly tables, and views and seeds without partitions.

    `artifacts` is the directory that `prepared_project` returned for the manifest; `monthly` and `monthless` are the
    automation conditions of the two kinds.
    """
    translator = TaxiDbtTranslator(manifest, assets, monthly, monthless)
    # Concurrent dbt runs in one schema break each other; dagster.yaml gives each pool one slot.
    pool = f"dbt_{assets.student}" if assets.student else "dbt"

    @dbt_assets(
        manifest=manifest,
        select="config.materialized:month_window",
        exclude="resource_type:unit_test",
        name=DBT_MODELS,
        partitions_def=months,
        backfill_policy=BackfillPolicy.single_run(),
        dagster_dbt_translator=translator,
        pool=pool,
        retry_policy=RETRIES,
    )
    def dbt_models(
        context: AssetExecutionContext, warehouse: WarehouseResource, progress: ResourceParam[Progress]
    ) -> Iterator[Any]:
        with canceled_by_interrupt(context), translate_to_failure():
            yield from run_dbt(context, warehouse.open(), progress, manifest, translator, artifacts, window_of(context))

    @dbt_assets(
        manifest=manifest,
        select="config.materialized:view config.materialized:seed",
        exclude="resource_type:unit_test",
        name=DBT_VIEWS,
        dagster_dbt_translator=translator,
        pool=pool,
        retry_policy=RETRIES,
    )
    def dbt_views(
        context: AssetExecutionContext, warehouse: WarehouseResource, progress: ResourceParam[Progress]
    ) -> Iterator[Any]:
        with canceled_by_interrupt(context), translate_to_failure():
            yield from run_dbt(context, warehouse.open(), progress, manifest, translator, artifacts, None)

    return [dbt_views, dbt_models]


def window_of(context: AssetExecutionContext) -> Window | None:
    """Return the months of the run; None, which dbt reads as all months, for tests without a month."""
    if context.has_partition_key or context.has_partition_key_range:
        keys = context.partition_key_range
        return Window.through(parse_partition_key(keys.start), parse_partition_key(keys.end))
    if context.selected_asset_keys:
        raise Failure("These models are built by month. Choose the months in the dialog.", allow_retries=False)
    return None


def run_dbt(
    context: AssetExecutionContext,
    warehouse: Warehouse,
    progress: Progress,
    manifest: Mapping[str, Any],
    translator: TaxiDbtTranslator,
    artifacts: Path,
    window: Window | None,
) -> Iterator[Output[None] | AssetCheckResult]:
    """Run `dbt build` on the step's selection for the months of `window`, and yield Dagster's events.

    Missing or outdated views and seeds are built and recorded too. A schema of version 0.1 is taken over: everything is
    made anew and recorded, for every loaded month.
    """
    create_raw_tables(warehouse)
    nodes = manifest["nodes"]
    selected = _selected(context, manifest, translator)
    views = _views_beside(context.instance, warehouse, nodes, translator, selected)
    tables_of_0_1 = find_tables_of_0_1(warehouse)
    if tables_of_0_1:
        place = f"The tables of schema {warehouse.schema} are of version 0.1"
        text = f"{place}: dbt makes all tables and views anew, for every loaded month."
        context.log.warning(text)
        progress.warned(text)
        views = [key for key, node in nodes.items() if node["resource_type"] != "test" and key not in selected]
    months = [*(window.months if window else ()), *(loaded_files(warehouse) if tables_of_0_1 else ())]
    built = Window.through(min(months), max(months)) if months else None
    # No other step runs the tests of a view that was not selected.
    tests = [unique_id for unique_id, node in nodes.items() if node.get("attached_node") in views]
    names = [nodes[unique_id]["name"] for unique_id in [*selected, *views, *tests]]
    relations = _relations(manifest, names)
    # Version 0.1 had views with few of today's columns.
    refuse_foreign_relations(warehouse, [replace(r, columns=()) for r in relations] if tables_of_0_1 else relations)
    # dbt adds the unit tests of a selected model to any selection.
    options = ["--indirect-selection", "empty", "--exclude-resource-type", "unit_test"]
    if tables_of_0_1:
        options.append("--full-refresh")
    elif window:
        options += ["--vars", json.dumps({"window_start": str(window.start), "window_end": str(window.end)})]

    args = ["build", "--select", *names, *options]

    # dbt builds the models in several transactions: a month that is replaced between two of them is built again.
    for _ in range(BUILD_ATTEMPTS):
        files = _files_of(warehouse, built)
        progress.building(len(names))
        outcome = invoke_dbt(args, warehouse, artifacts, lambda _: progress.built(), context.log.info, progress.logged)
        if outcome.is_transient and context.retry_number < RETRIES.max_retries:
            # Nothing of this attempt is recorded: the next one builds all of it again.
            reason = "a temporary reason, such as a lost connection"
            raise Failure(f"dbt failed for {reason}, and is retried: {outcome.error}")
        if files == _files_of(warehouse, built):
            break
    else:
        raise Failure(
            f"dbt for {window} in schema {warehouse.schema} failed: months of raw_trips were replaced during each of "
            f"{BUILD_ATTEMPTS} attempts, so that its tables may hold parts of two files. Run it again once no load of "
            "these months is in progress.",
            allow_retries=False,
        )

    def view_version(node: Mapping[str, Any]) -> str:
        return str(translator.get_code_version(node))

    lineage = ColumnLineage(artifacts, manifest, translator.assets, translator)
    sql = {result.node.unique_id: getattr(result.node, "compiled_code", None) for result in outcome.results}
    for raw_event in outcome.events:
        unique_id = raw_event["data"].get("node_info", {}).get("unique_id")
        # dagster-dbt warns of each test outside the step's selection, but not if no step is passed.
        of_step = None if unique_id in tests else context
        for event in DbtCoreCliEventMessage(dict(raw_event), {}).to_default_asset_events(manifest, translator, of_step):
            match event:
                case Output():
                    node = nodes[unique_id]
                    if is_monthly(node):
                        of_output = window.months if window and unique_id in selected else []
                        if built:
                            of_months = months_metadata(warehouse, node, built, files, event.metadata, sql[unique_id])
                            _record_months(context, translator.get_asset_key(node), of_months, of_output, files)
                        if not of_output:
                            continue
                        made = [nodes[parent] for parent in manifest["parent_map"][unique_id] if parent in views]
                        yield Output(
                            None,
                            output_name=event.output_name,
                            metadata=lineage.metadata_of(raw_event),
                            # Dagster recorded the versions before this step, and would show the month as out of sync.
                            tags=input_version_tags(
                                {translator.get_asset_key(view): view_version(view) for view in made}
                            ),
                        )
                        continue
                    version = view_version(node)
                    shown = node_metadata(event.metadata, sql.get(unique_id), {CODE_VERSION_KEY: version})
                    metadata = {**shown, **lineage.metadata_of(raw_event)}
                    yield from _materialized(context, translator.get_asset_key(node), version, event, metadata)
                case AssetCheckResult(passed=False):
                    yield _with_failing_rows(event, raw_event, outcome, warehouse)
                case AssetCheckResult():
                    yield event._replace(metadata=check_metadata(event.metadata))
                case AssetCheckEvaluation():
                    context.log_event(
                        AssetCheckEvaluation(
                            asset_key=event.asset_key,
                            check_name=event.check_name,
                            passed=event.passed,
                            severity=event.severity,
                            metadata=check_metadata(event.metadata),
                        )
                    )
    lineage.save()
    # Last: a build that did not make everything is begun again by the next one.
    if tables_of_0_1 and all(r.status == "success" for r in outcome.results if r.node.resource_type != "test"):
        drop_tables(warehouse, tables_of_0_1)
        context.log.warning(f"Dropped, as version 0.1 alone filled them: {', '.join(tables_of_0_1)}.")
    if outcome.error:
        what = f" for {window}" if window else ""
        advice = _advice(outcome, warehouse.target)
        raise Failure(f"dbt{what} in schema {warehouse.schema}: {outcome.error}{advice}", allow_retries=False)


def _selected(
    context: AssetExecutionContext, manifest: Mapping[str, Any], translator: DagsterDbtTranslator
) -> list[str]:
    """Return the selected dbt nodes of this step, tests included."""
    selected = []
    for unique_id, node in manifest["nodes"].items():
        if node["resource_type"] == "test":
            key = get_asset_check_key_for_test(manifest, translator, unique_id, project=None)
            chosen = key in context.selected_asset_check_keys
        else:
            chosen = translator.get_asset_key(node) in context.selected_asset_keys
        if chosen:
            selected.append(unique_id)
    return selected


def _views_beside(
    instance: DagsterInstance,
    warehouse: Warehouse,
    nodes: Mapping[str, Any],
    translator: DagsterDbtTranslator,
    selected: Sequence[str],
) -> list[str]:
    """Return the views and seeds to build beside the selection: missing ones, and those outdated in the record."""
    made_of = {unique_id: node for unique_id, node in nodes.items() if node["resource_type"] in ("model", "seed")}
    existing = warehouse.existing_tables([node["name"] for node in made_of.values()])
    versions = code_versions_made(instance, [translator.get_asset_key(node) for node in made_of.values()])
    return views_to_make(
        made_of,
        [unique_id for unique_id in selected if unique_id in made_of],
        there={unique_id for unique_id, node in made_of.items() if node["name"] in existing},
        current={
            unique_id
            for unique_id, node in made_of.items()
            if versions.get(translator.get_asset_key(node)) == translator.get_code_version(node)
        },
    )


def _materialized(
    context: AssetExecutionContext,
    key: AssetKey,
    version: str,
    output: Output[None],
    metadata: Mapping[str, Any],
) -> Iterator[Output[None]]:
    """Record a view or seed, as an output of this step if selected, else as an event of its own.

    Its data version is its code: a rebuild from the same code changes nothing downstream.
    """
    if key in context.selected_asset_keys:
        with warnings.catch_warnings():
            # Dagster warns that data versions of outputs are beta, which a user cannot change.
            warnings.simplefilter("ignore", BetaWarning)
            made = Output(None, output_name=output.output_name, metadata=metadata, data_version=DataVersion(version))
        yield made
    else:
        context.log_event(AssetMaterialization(key, metadata=metadata, tags=data_version_tags(version)))


def _relations(manifest: Mapping[str, Any], names: Collection[str]) -> list[Relation]:
    """Return the tables and views that dbt makes of these nodes."""
    return [
        Relation(node["alias"], VIEW if node["config"]["materialized"] == "view" else TABLE, list(node["columns"]))
        for node in manifest["nodes"].values()
        if node["resource_type"] in ("model", "seed") and node["name"] in names
    ]


def _advice(outcome: DbtOutcome, target: PostgresTarget) -> str:
    """Return advice on the first failed node whose PostgreSQL error is recognized."""
    for result in outcome.results:
        if result.status in FAILED_STATUSES:
            try:
                advice = advice_on_text(str(result.message), result.execution_time, target)
            except WarehouseError:
                return ""
            if advice:
                return f" {advice}"
    return ""


def _files_of(warehouse: Warehouse, window: Window | None) -> dict[date, LoadedFile]:
    """Return the loaded files of the window; none for a build without months."""
    if window is None:
        return {}
    return {m: file for m, file in loaded_files(warehouse).items() if window.start <= m < window.end}


def _record_months(
    context: AssetExecutionContext,
    key: AssetKey,
    of_months: Mapping[date, Mapping[str, MetadataValue]],
    of_output: Collection[date],
    files: Collection[date],
) -> None:
    """Record a table's months: those of this step's output with it, all others that are loaded as events."""
    for month, metadata in of_months.items():
        if month in of_output:
            context.add_asset_metadata(metadata, asset_key=key, partition_key=partition_key(month))
        elif month in files:
            context.log_event(AssetMaterialization(key, partition=partition_key(month), metadata=metadata))


def _with_failing_rows(
    result: AssetCheckResult, raw_event: Mapping[str, Any], outcome: DbtOutcome, warehouse: Warehouse
) -> AssetCheckResult:
    """Return the failed check with its failing months and sample rows; dbt reports only their number."""
    unique_id = raw_event["data"]["node_info"]["unique_id"]
    query = next((r.node.compiled_code for r in outcome.results if r.node.unique_id == unique_id), None)
    if not query:
        return result
    shown: dict[str, MetadataValue] = {}
    try:
        rows = warehouse.rows_of(query, limit=MAX_FAILING_ROWS)
        months = sorted({str(row["source_month"])[:7] for row in rows if row.get("source_month")})
        shown[CHECKED_MONTHS] = MetadataValue.text(", ".join(months) or "not reported by this test")
        shown["sample"] = MetadataValue.md(as_markdown(rows[:SAMPLE_ROWS]))
    except WarehouseError as error:
        # The failure itself is known, and the other results of dbt must still be recorded.
        shown["sample"] = MetadataValue.text(str(error))
    return AssetCheckResult(
        passed=False,
        asset_key=result.asset_key,
        check_name=result.check_name,
        severity=result.severity,
        metadata={**check_metadata(result.metadata), **shown},
    )
