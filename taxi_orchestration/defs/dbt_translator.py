"""What a node of dbt is in Dagster: its key, its dependencies, its code version, when it is built by itself."""

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
    """dbt's nodes under their own names, so that the tables of the warehouse and the assets are called alike."""

    def __init__(
        self,
        manifest: Mapping[str, Any],
        assets: AssetKeys,
        monthly: AutomationCondition | None,
        monthless: AutomationCondition | None,
    ) -> None:
        super().__init__()
        self.assets = assets
        self.macros = manifest["macros"]
        self.monthly = monthly
        self.monthless = monthless

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> AssetKey:
        """The name of the model, seed or source table, behind the student's."""
        return self.assets.of(dbt_resource_props["name"])

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: Any) -> AssetSpec:
        """dbt's own, but that tables which read raw_trips through a view depend on its months, and the view does not.

        A view is there whatever months are. Downstream of them it would keep all from the tables, in a backfill from
        the UI, where one cannot be loaded: Dagster ignores partition mappings to an asset without partitions there.
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
        """dbt's own, with the description that a test has in its yml: dbt's own takes that of its meta alone."""
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
        """Tables are built when their month changed; views and seeds when their code did."""
        if dbt_resource_props["resource_type"] == "source":
            return None
        return self.monthly if is_monthly(dbt_resource_props) else self.monthless

    def get_code_version(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """A digest of all that the node is made from: its file, its columns and what they mean, and its macros."""
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
        """dbt's own tags and how the node is materialized, so that the UI can filter by it."""
        materialized = str(dbt_resource_props.get("config", {}).get("materialized") or "source")
        return {**super().get_tags(dbt_resource_props), "materialized": materialized}
