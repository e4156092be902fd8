"""The upstream columns of every column of a dbt model, computed once for a parsed project.

dagster-dbt parses the compiled SQL for the lineage, which takes longer than most models take to build. The lineage
changes only with the project, so it is stored beside the manifest.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dagster import TableColumnDep, TableColumnLineage, TableColumnLineageMetadataValue
from dagster_dbt import DagsterDbtTranslator

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.dbt.dagster_dbt_internals import DbtCoreCliEventMessage

METADATA_KEY = "dagster/column_lineage"


class ColumnLineage:
    """The column lineage of one manifest, stored in `artifacts`."""

    def __init__(
        self, artifacts: Path, manifest: Mapping[str, Any], assets: AssetKeys, translator: DagsterDbtTranslator
    ) -> None:
        self._path = artifacts / "column_lineage.json"
        self._artifacts = artifacts
        self._manifest = manifest
        self._assets = assets
        self._translator = translator
        self._known: dict[str, dict[str, list[list[str]]]] = (
            json.loads(self._path.read_text()) if self._path.exists() else {}
        )
        self._changed = False

    def metadata_of(self, raw_event: Mapping[str, Any]) -> dict[str, TableColumnLineage]:
        """Return the lineage metadata of the model of the result `raw_event`; empty for a node without lineage."""
        unique_id = raw_event["data"]["node_info"]["unique_id"]
        if unique_id not in self._known:
            self._known[unique_id] = self._read(raw_event, self._manifest["nodes"][unique_id])
            self._changed = True
        lineage = self._known[unique_id]
        if not lineage:
            return {}
        return {
            METADATA_KEY: TableColumnLineage(
                {
                    column: [TableColumnDep(asset_key=self._assets.of(table), column_name=name) for table, name in deps]
                    for column, deps in lineage.items()
                }
            )
        }

    def save(self) -> None:
        """Store newly computed lineage for the next run."""
        if self._changed:
            unfinished = self._path.with_suffix(".new")
            unfinished.write_text(json.dumps(self._known))
            unfinished.rename(self._path)

    def _read(self, raw_event: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, list[list[str]]]:
        nodes = {**self._manifest["nodes"], **self._manifest["sources"]}
        history = {
            "columns": node["columns"],
            "parents": {
                nodes[parent]["relation_name"]: {"columns": nodes[parent]["columns"]}
                for parent in node["depends_on"].get("nodes", [])
                if nodes[parent]["columns"]
            },
        }
        message = DbtCoreCliEventMessage(dict(raw_event), history)
        for event in message.to_default_asset_events(self._manifest, self._translator, target_path=self._artifacts):
            found = event.metadata.get(METADATA_KEY)
            if isinstance(found, TableColumnLineageMetadataValue):
                return {
                    column: sorted([dep.asset_key.path[-1], dep.column_name] for dep in deps)
                    for column, deps in found.column_lineage.deps_by_column.items()
                }
        return {}
