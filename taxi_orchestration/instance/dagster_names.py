"""Names of tags and metadata, Dagster's unexported ones among them, the tags of data versions, and the workspace."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from taxi_orchestration.settings import LOCATION

if TYPE_CHECKING:
    from dagster import AssetCheckEvaluation, AssetKey, EventLogEntry

PARTITION = "dagster/partition"
RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
ROWS = "dagster/partition_row_count"
ROWS_OF_ASSET = "dagster/row_count"
DATA_VERSION = "dagster/data_version"
BACKFILL = "dagster/backfill"
# The tags of a run that is re-executed "from failure": of its steps, or of its assets.
FROM_FAILURE = frozenset({"dagster/is_resume_retry", "dagster/is_asset_resume_retry"})
# Shown in the list of runs under "Launched by".
LAUNCHED_BY = "user"
# The tag of a run in a terminal, which Ctrl-C cancels.
TAXI_BACKFILL = "taxi backfill"
# The tag of an observation that withdraws its run's plan for the month (instance/storage.py).
WITHDRAWS_PLAN = ".dagster/taxi_withdraws_plan"
# Metadata of a check: the months that it is about, and what a person has to do.
CHECKED_MONTHS = "months"
TO_DO = "to do"
# The module that a code server loads.
MODULE = "taxi_orchestration.definitions"


def workspace(student: str | None) -> dict[str, Any]:
    """Return the workspace of a student's code location, like workspace.yaml for the default schema."""
    return {"load_from": [{"python_module": {"module_name": MODULE, "location_name": student or LOCATION}}]}


def data_version_tags(version: str) -> dict[str, str]:
    """Return the tags that record the data version of an event."""
    return {DATA_VERSION: version, "dagster/data_version_is_user_provided": "true"}


def data_version(event: EventLogEntry | None) -> str | None:
    """Return the data version that the event of a materialization records."""
    materialization = event.asset_materialization if event else None
    return (materialization.tags or {}).get(DATA_VERSION) if materialization else None


def checked_months(evaluation: AssetCheckEvaluation) -> set[str]:
    """Return the partition keys of the months that an evaluation names."""
    months = evaluation.metadata.get(CHECKED_MONTHS)
    return set(re.findall(r"\b\d{4}-\d{2}\b", str(months.value))) if months else set()


def is_about(evaluation: AssetCheckEvaluation, key: str) -> bool:
    """Return whether an evaluation is about the month of this partition key: it names the month, or none at all."""
    named = checked_months(evaluation)
    return not named or key in named


def input_version_tags(versions: Mapping[AssetKey, str]) -> dict[str, str]:
    """Return the tags that record the data versions of a materialization's inputs."""
    return {f"dagster/input_data_version/{key.to_user_string()}": version for key, version in versions.items()}
