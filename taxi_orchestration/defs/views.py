"""The views and seeds that a dbt step builds beside its selection. No dbt runs here."""

from collections.abc import Collection, Iterable, Mapping
from graphlib import TopologicalSorter
from typing import Any

from dagster import AssetKey, DagsterInstance

from taxi_orchestration.instance.dagster_names import data_version

Node = Mapping[str, Any]


def is_monthly(node: Node) -> bool:
    """Return whether dbt fills the node by month; views and seeds have no months."""
    return node["config"]["materialized"] == "month_window"


def code_versions_made(instance: DagsterInstance, keys: Iterable[AssetKey]) -> dict[AssetKey, str]:
    """Return the code version of the last materialization of each of these views and seeds that has one.

    It is their data version: that of the SQL or the file that they were made from.
    """
    entries = [record.asset_entry for record in instance.get_asset_records(list(keys))]
    return {entry.asset_key: version for entry in entries if (version := data_version(entry.last_materialization))}


def views_to_make(
    nodes: Mapping[str, Node], selected: Collection[str], existing: Collection[str], current: Collection[str]
) -> list[str]:
    """Return the views and seeds that a step builds beside the `selected` nodes.

    These are the nodes not `existing` or not `current` whose upstream tables all exist or are selected, and the views
    that depend on a built view: dbt replaces a view by renaming, and drops the old view with its dependents.
    """
    parents = {
        unique_id: [parent for parent in node["depends_on"].get("nodes", ()) if parent in nodes]
        for unique_id, node in nodes.items()
        if node["resource_type"] in ("model", "seed")
    }
    made = set(selected)
    for unique_id in TopologicalSorter(parents).static_order():
        below = parents[unique_id]
        can_be_made = all(parent in made or parent in existing for parent in below)
        is_dropped = any(parent in made and nodes[parent]["config"]["materialized"] == "view" for parent in below)
        is_up_to_date = unique_id in existing and unique_id in current and not is_dropped
        if not is_monthly(nodes[unique_id]) and can_be_made and not is_up_to_date:
            made.add(unique_id)
    return sorted(made - set(selected))
