"""A step that runs dbt: what it builds, the build, and the events that Dagster gets of it."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from dagster import (
    AssetCheckEvaluation,
    AssetCheckResult,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    BetaWarning,
    DataVersion,
    Failure,
    MetadataValue,
    Output,
)
from dagster_dbt import DagsterDbtTranslator

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.dbt.column_lineage import lineage_metadata
from taxi_orchestration.dbt.dagster_dbt_internals import DbtCoreCliEventMessage, get_asset_check_key_for_test
from taxi_orchestration.dbt.runner import FAILED_STATUSES, DbtOutcome, invoke_dbt
from taxi_orchestration.defs.markdown import as_markdown
from taxi_orchestration.defs.retries import RETRIES
from taxi_orchestration.defs.table_metadata import check_metadata, months_metadata, node_metadata
from taxi_orchestration.defs.views import code_versions_made, is_monthly, views_to_make
from taxi_orchestration.instance.dagster_names import CHECKED_MONTHS, data_version_tags, input_version_tags
from taxi_orchestration.loading import Progress
from taxi_orchestration.months import Window, partition_key
from taxi_orchestration.postgres.connection import WarehouseError, advice_on_text
from taxi_orchestration.quality.finding import SAMPLE_ROWS
from taxi_orchestration.warehouse.dbt_tables import drop_tables, find_tables_of_0_1
from taxi_orchestration.warehouse.load_log import LoadedFile, loaded_files
from taxi_orchestration.warehouse.raw_tables import create_raw_tables
from taxi_orchestration.warehouse.relations import TABLE, VIEW, Relation, refuse_foreign_relations
from taxi_orchestration.warehouse.warehouse import Warehouse

BUILD_ATTEMPTS = 3


@dataclass(frozen=True)
class ParsedProject:
    """The parsed dbt project: its manifest, dbt's directory of artifacts, and its translation to Dagster."""

    manifest: Mapping[str, Any]
    artifacts: Path
    assets: AssetKeys
    translator: DagsterDbtTranslator

    @property
    def nodes(self) -> Mapping[str, Any]:
        """Return the models, seeds and tests by their unique ids."""
        return self.manifest["nodes"]

    def asset_key(self, unique_id: str) -> AssetKey:
        """Return the asset key of a model or seed."""
        return self.translator.get_asset_key(self.nodes[unique_id])

    def code_version(self, unique_id: str) -> str:
        """Return the version of a node's SQL or file."""
        return str(self.translator.get_code_version(self.nodes[unique_id]))


@dataclass(frozen=True)
class Plan:
    """What one build makes, by dbt's unique ids.

    `beside` are the models and seeds that are built without being selected, and `tests` their tests, which no other
    step runs. `window` are the months of the run, `recorded` those whose tables get a record. With `obsolete` tables,
    all is made anew, and they are dropped at the end.
    """

    selected: Sequence[str]
    beside: Sequence[str]
    tests: Sequence[str]
    window: Window | None
    recorded: Window | None
    obsolete: Sequence[str]

    @property
    def everything(self) -> list[str]:
        """Return the unique ids of all that dbt runs."""
        return [*self.selected, *self.beside, *self.tests]


class DbtStep:
    """A step of a run: `build` makes its selection for months, and yields Dagster's events."""

    def __init__(
        self, context: AssetExecutionContext, warehouse: Warehouse, progress: Progress, project: ParsedProject
    ) -> None:
        self._context = context
        self._warehouse = warehouse
        self._progress = progress
        self._project = project

    def build(self, window: Window | None) -> Iterator[Output[None] | AssetCheckResult]:
        """Run `dbt build` on the step's selection for the months of `window`, and yield Dagster's events.

        Missing or outdated views and seeds are built and recorded too. A schema of version 0.1 is taken over:
        everything is made anew and recorded, for every loaded month. Raises Failure if a node failed, once everything
        else is recorded.
        """
        create_raw_tables(self._warehouse)
        plan = self._plan(window)
        self._refuse_foreign(plan)
        outcome, files = self._run(plan)
        yield from self._events(plan, outcome, files)
        self._drop_obsolete(plan, outcome)
        if outcome.error:
            what = f" for {window}" if window else ""
            advice = self._advice(outcome)
            raise Failure(f"dbt{what} in schema {self._warehouse.schema}: {outcome.error}{advice}", allow_retries=False)

    def _plan(self, window: Window | None) -> Plan:
        nodes, selected = self._project.nodes, self._selected()
        if obsolete := find_tables_of_0_1(self._warehouse):
            place = f"The tables of schema {self._warehouse.schema} are of version 0.1"
            text = f"{place}: dbt makes all tables and views anew, for every loaded month."
            self._context.log.warning(text)
            self._progress.warned(text)
            beside = [key for key, node in nodes.items() if node["resource_type"] != "test" and key not in selected]
            months = [*(window.months if window else ()), *loaded_files(self._warehouse)]
            recorded = Window.through(min(months), max(months)) if months else None
        else:
            beside, recorded = self._views_beside(selected), window
        tests = [unique_id for unique_id, node in nodes.items() if node.get("attached_node") in beside]
        return Plan(selected, beside, tests, window, recorded, obsolete)

    def _selected(self) -> list[str]:
        """Return the selected dbt nodes of this step, tests included."""
        project, context = self._project, self._context
        selected = []
        for unique_id, node in project.nodes.items():
            if node["resource_type"] == "test":
                key = get_asset_check_key_for_test(project.manifest, project.translator, unique_id, project=None)
                chosen = key in context.selected_asset_check_keys
            else:
                chosen = project.asset_key(unique_id) in context.selected_asset_keys
            if chosen:
                selected.append(unique_id)
        return selected

    def _views_beside(self, selected: Sequence[str]) -> list[str]:
        """Return the views and seeds to build beside the selection: missing ones, and those outdated in the record."""
        project = self._project
        made_of = {key: node for key, node in project.nodes.items() if node["resource_type"] in ("model", "seed")}
        existing = self._warehouse.existing_tables([node["name"] for node in made_of.values()])
        versions = code_versions_made(self._context.instance, map(project.asset_key, made_of))
        return views_to_make(
            made_of,
            [unique_id for unique_id in selected if unique_id in made_of],
            existing={unique_id for unique_id, node in made_of.items() if node["name"] in existing},
            current={
                unique_id
                for unique_id in made_of
                if versions.get(project.asset_key(unique_id)) == project.code_version(unique_id)
            },
        )

    def _refuse_foreign(self, plan: Plan) -> None:
        """Raise WarehouseError where a foreign object has the name of a table or view that dbt makes."""
        nodes = [self._project.nodes[unique_id] for unique_id in plan.everything]
        relations = [
            Relation(node["alias"], VIEW if node["config"]["materialized"] == "view" else TABLE, list(node["columns"]))
            for node in nodes
            if node["resource_type"] in ("model", "seed")
        ]
        # Version 0.1 had views with few of today's columns.
        of_any_columns = [replace(relation, columns=()) for relation in relations]
        refuse_foreign_relations(self._warehouse, of_any_columns if plan.obsolete else relations)

    def _run(self, plan: Plan) -> tuple[DbtOutcome, Mapping[date, LoadedFile]]:
        """Run dbt, and return its outcome with the loaded files that the tables were built from.

        dbt builds the models in several transactions: a month that is replaced between two of them is built again.
        """
        context, window = self._context, plan.window
        names = [self._project.nodes[unique_id]["name"] for unique_id in plan.everything]
        # dbt adds the unit tests of a selected model to any selection.
        options = ["--indirect-selection", "empty", "--exclude-resource-type", "unit_test"]
        if plan.obsolete:
            options.append("--full-refresh")
        elif window:
            options += ["--vars", json.dumps({"window_start": str(window.start), "window_end": str(window.end)})]
        for _ in range(BUILD_ATTEMPTS):
            files = self._files_of(plan.recorded)
            self._progress.building(len(names))
            outcome = invoke_dbt(
                ["build", "--select", *names, *options],
                self._warehouse,
                self._project.artifacts,
                lambda _: self._progress.built(),
                self._report_wait,
                self._progress.logged,
            )
            if outcome.is_transient and context.retry_number < RETRIES.max_retries:
                # Nothing of this attempt is recorded: the next one builds all of it again.
                reason = "a temporary reason, such as a lost connection"
                raise Failure(f"dbt failed for {reason}, and is retried: {outcome.error}")
            if files == self._files_of(plan.recorded):
                return outcome, files
        raise Failure(
            f"dbt for {window} in schema {self._warehouse.schema} failed: months of raw_trips were replaced during "
            f"each of {BUILD_ATTEMPTS} attempts, so that its tables may hold parts of two files. Run it again once no "
            "load of these months is in progress.",
            allow_retries=False,
        )

    def _report_wait(self, message: str) -> None:
        self._context.log.info(message)
        self._progress.warned(message)

    def _files_of(self, window: Window | None) -> dict[date, LoadedFile]:
        """Return the loaded files of the window; none for a build without months."""
        if window is None:
            return {}
        return {m: file for m, file in loaded_files(self._warehouse).items() if window.start <= m < window.end}

    def _events(
        self, plan: Plan, outcome: DbtOutcome, files: Mapping[date, LoadedFile]
    ) -> Iterator[Output[None] | AssetCheckResult]:
        """Yield the events of the step's selection, and record those of other assets."""
        sql = {result.node.unique_id: getattr(result.node, "compiled_code", None) for result in outcome.results}
        for raw_event in outcome.events:
            unique_id = raw_event["data"].get("node_info", {}).get("unique_id")
            # dagster-dbt warns of each test outside the step's selection, but not if no step is passed.
            of_step = None if unique_id in plan.tests else self._context
            message = DbtCoreCliEventMessage(dict(raw_event), {})
            for event in message.to_default_asset_events(self._project.manifest, self._project.translator, of_step):
                match event:
                    case Output() if is_monthly(self._project.nodes[unique_id]):
                        yield from self._built_table(plan, unique_id, event, files, sql.get(unique_id))
                    case Output():
                        yield from self._built_view(unique_id, event, sql.get(unique_id))
                    case AssetCheckResult(passed=False):
                        yield self._with_failing_rows(event, sql.get(unique_id))
                    case AssetCheckResult():
                        yield event._replace(metadata=check_metadata(event.metadata))
                    case AssetCheckEvaluation():
                        self._context.log_event(
                            AssetCheckEvaluation(
                                asset_key=event.asset_key,
                                check_name=event.check_name,
                                passed=event.passed,
                                severity=event.severity,
                                metadata=check_metadata(event.metadata),
                            )
                        )

    def _built_table(
        self,
        plan: Plan,
        unique_id: str,
        event: Output[None],
        files: Mapping[date, LoadedFile],
        sql: str | None,
    ) -> Iterator[Output[None]]:
        """Record a table's months: those of this step's output with it, all others that are loaded as events."""
        key, node = self._project.asset_key(unique_id), self._project.nodes[unique_id]
        of_output = plan.window.months if plan.window and unique_id in plan.selected else []
        if plan.recorded:
            of_months = months_metadata(self._warehouse, node, plan.recorded, files, event.metadata, sql)
            for month, metadata in of_months.items():
                if month in of_output:
                    self._context.add_asset_metadata(metadata, asset_key=key, partition_key=partition_key(month))
                elif month in files:
                    self._context.log_event(
                        AssetMaterialization(key, partition=partition_key(month), metadata=metadata)
                    )
        if of_output:
            made = [parent for parent in self._project.manifest["parent_map"][unique_id] if parent in plan.beside]
            versions = {self._project.asset_key(view): self._project.code_version(view) for view in made}
            yield Output(
                None,
                output_name=event.output_name,
                metadata=lineage_metadata(self._project.manifest, unique_id, sql, self._project.assets),
                # Dagster recorded the versions before this step, and would show the month as out of sync.
                tags=input_version_tags(versions),
            )

    def _built_view(self, unique_id: str, event: Output[None], sql: str | None) -> Iterator[Output[None]]:
        """Record a view or seed, as an output of this step if selected, else as an event of its own.

        Its data version is its code: a rebuild from the same code changes nothing downstream.
        """
        key, version = self._project.asset_key(unique_id), self._project.code_version(unique_id)
        lineage = lineage_metadata(self._project.manifest, unique_id, sql, self._project.assets)
        metadata: dict[str, Any] = {**node_metadata(event.metadata, sql), **lineage}
        if key in self._context.selected_asset_keys:
            with warnings.catch_warnings():
                # Dagster warns that data versions of outputs are beta, which a user cannot change.
                warnings.simplefilter("ignore", BetaWarning)
                made = Output(None, output_name=event.output_name, metadata=metadata, data_version=DataVersion(version))
            yield made
        else:
            self._context.log_event(AssetMaterialization(key, metadata=metadata, tags=data_version_tags(version)))

    def _with_failing_rows(self, result: AssetCheckResult, query: str | None) -> AssetCheckResult:
        """Return the failed check with its failing months and sample rows; dbt reports only their number."""
        if not query:
            return result
        shown: dict[str, MetadataValue] = {}
        try:
            months = self._warehouse.months_of(query)
            shown[CHECKED_MONTHS] = MetadataValue.text(", ".join(months) or "not reported by this test")
            shown["sample"] = MetadataValue.md(as_markdown(self._warehouse.rows_of(query, limit=SAMPLE_ROWS)))
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

    def _drop_obsolete(self, plan: Plan, outcome: DbtOutcome) -> None:
        """Drop the tables of version 0.1, if all was made: a build that failed is begun again by the next one."""
        of_nodes = [result for result in outcome.results if result.node.resource_type != "test"]
        if plan.obsolete and all(result.status == "success" for result in of_nodes):
            drop_tables(self._warehouse, plan.obsolete)
            self._context.log.warning(f"Dropped, as version 0.1 alone filled them: {', '.join(plan.obsolete)}.")

    def _advice(self, outcome: DbtOutcome) -> str:
        """Return advice on the first failed node whose PostgreSQL error is recognized."""
        for result in outcome.results:
            if result.status in FAILED_STATUSES:
                try:
                    advice = advice_on_text(str(result.message), result.execution_time, self._warehouse.target)
                except WarehouseError:
                    return ""
                if advice:
                    return f" {advice}"
        return ""
