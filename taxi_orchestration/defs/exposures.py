"""dbt's exposures as assets, which dagster-dbt does not make: the end of the lineage."""

from collections.abc import Mapping
from typing import Any

from dagster import AssetSpec

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.defs.code_references import file_metadata
from taxi_orchestration.settings import DBT_PROJECT_DIRECTORY

# raw_loads is no asset: each load of raw_trips writes it.
_NO_ASSET = {"raw_loads"}


def exposure_spec(manifest: Mapping[str, Any], assets: AssetKeys, name: str) -> AssetSpec:
    """Translate one exposure of the dbt project, which defines upstream and description."""
    (exposure,) = (found for found in manifest["exposures"].values() if found["name"] == name)
    nodes = {**manifest["nodes"], **manifest["sources"]}
    upstream = {nodes[unique_id]["name"] for unique_id in exposure["depends_on"]["nodes"]}
    return AssetSpec(
        assets.of(name),
        deps=[assets.of(table) for table in sorted(upstream - _NO_ASSET)],
        description=exposure["description"],
        group_name="reporting",
        kinds={"postgres", exposure["type"]},
    )


def client_specs(manifest: Mapping[str, Any], assets: AssetKeys) -> list[AssetSpec]:
    """Return the exposures that the pipeline does not make: tools that connect to the warehouse."""
    names = {exposure["name"] for exposure in manifest["exposures"].values()} - {assets.taxi_report.path[-1]}
    file = file_metadata(DBT_PROJECT_DIRECTORY / "models" / "exposures.yml")
    return [exposure_spec(manifest, assets, name).replace_attributes(metadata=file) for name in sorted(names)]
