"""The translation of dbt nodes to assets: key, dependencies, code version, automation condition."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from dagster import AssetCheckSpec, AssetDep, AssetKey, AssetSpec, AutomationCondition
from dagster_dbt import DagsterDbtTranslator

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.defs.code_references import file_metadata
from taxi_orchestration.defs.views import is_monthly
from taxi_orchestration.settings import DBT_PROJECT_DIRECTORY


class TaxiDbtTranslator(DagsterDbtTranslator):
    """Translates dbt nodes to assets with the names of their tables."""

    def __init__(
        self,
        manifest: Mapping[str, Any],
        assets: AssetKeys,
        monthly: AutomationCondition,
        monthless: AutomationCondition,
    ) -> None:
        super().__init__()
        self.assets = assets
        self.macros = manifest["macros"]
        self.monthly = monthly
        self.monthless = monthless

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> AssetKey:
        """Return the name of the model, seed or source table, prefixed by the student."""
        return self.assets.of(dbt_resource_props["name"])

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: Any) -> AssetSpec:
        """Return dbt's dependencies, with tables that read raw_trips through a view depending on its months directly.

        The view itself does not depend on months: in a backfill from the UI one failed month would keep all others from
        the tables, because Dagster ignores partition mappings to an asset without partitions there.
        """
        spec = super().get_asset_spec(manifest, unique_id, project)
        raw_trips = self.assets.raw_trips
        deps = [dep for dep in spec.deps if dep.asset_key != raw_trips]
        parents = manifest["parent_map"].get(unique_id, ())
        behind = {grandparent for parent in parents for grandparent in manifest["parent_map"].get(parent, ())}
        sources = [manifest["sources"][source] for source in behind if source in manifest["sources"]]
        is_table = unique_id in manifest["nodes"] and is_monthly(manifest["nodes"][unique_id])
        if is_table and any(self.get_asset_key(source) == raw_trips for source in sources):
            deps.append(AssetDep(raw_trips))
        path = DBT_PROJECT_DIRECTORY / self.get_resource_props(manifest, unique_id)["original_file_path"]
        return spec.replace_attributes(deps=deps, metadata={**spec.metadata, **file_metadata(path)})

    def get_asset_check_spec(
        self, asset_spec: AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: Any
    ) -> AssetCheckSpec | None:
        """Return the check's spec with the description of its yml; the default reads only the description in meta."""
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        if spec is None or spec.description:
            return spec
        return AssetCheckSpec(
            spec.name,
            asset=spec.asset_key,
            description=manifest["nodes"][unique_id].get("description") or None,
            additional_deps=spec.additional_deps,
            blocking=spec.blocking,
            metadata=spec.metadata,
        )

    def get_automation_condition(self, dbt_resource_props: Mapping[str, Any]) -> AutomationCondition | None:
        """Return the condition: tables are built when their month changed, views and seeds when their code changed."""
        if dbt_resource_props["resource_type"] == "source":
            return None
        return self.monthly if is_monthly(dbt_resource_props) else self.monthless

    def get_code_version(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """Return a digest of the node's inputs: its file, its columns with descriptions, and its macros."""
        if dbt_resource_props["resource_type"] == "source":
            return None
        macros, to_see = set(), list(dbt_resource_props["depends_on"]["macros"])
        while to_see:
            macro = self.macros[to_see.pop()]
            if macro["unique_id"] not in macros and macro["package_name"] == dbt_resource_props["package_name"]:
                macros.add(macro["unique_id"])
                to_see += macro["depends_on"]["macros"]
        code = [
            dbt_resource_props["checksum"],
            dbt_resource_props["description"],
            dbt_resource_props["columns"],
            dbt_resource_props["config"],
            [self.macros[unique_id]["macro_sql"] for unique_id in sorted(macros)],
        ]
        return hashlib.sha256(json.dumps(code, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def get_tags(self, dbt_resource_props: Mapping[str, Any]) -> Mapping[str, str]:
        """Return dbt's tags and the materialization, as filters for the UI."""
        materialized = str(dbt_resource_props.get("config", {}).get("materialized") or "source")
        return {**super().get_tags(dbt_resource_props), "materialized": materialized}
