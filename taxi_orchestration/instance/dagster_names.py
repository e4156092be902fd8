"""Names that Dagster goes by: of tags and metadata, which it exports no constant for, and of the code it serves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from taxi_orchestration.settings import LOCATION

if TYPE_CHECKING:
    from dagster import AssetKey

ROWS = "dagster/partition_row_count"
DATA_VERSION = "dagster/data_version"
BACKFILL = "dagster/backfill"
# Of a run that somebody re-executes "from failure": of its steps, or of its assets.
FROM_FAILURE = frozenset({"dagster/is_resume_retry", "dagster/is_asset_resume_retry"})
# What the list of runs shows under "Launched by".
LAUNCHED_BY = "user"
# Of a run in a terminal, where Ctrl-C is how a person cancels it.
TAXI_BACKFILL = "taxi backfill"
# Of an observation: its run plans nothing for the month any more (instance/storage.py).
WITHDRAWS_PLAN = ".dagster/taxi_withdraws_plan"
# What a code server of this project serves.
MODULE = "taxi_orchestration.definitions"


def workspace(student: str | None) -> dict[str, Any]:
    """A workspace of the code location of one student, as workspace.yaml has it for the default schema."""
    return {"load_from": [{"python_module": {"module_name": MODULE, "location_name": student or LOCATION}}]}


def data_version_tags(version: str) -> dict[str, str]:
    """The tags by which an event says which version of the data it is of."""
    return {DATA_VERSION: version, "dagster/data_version_is_user_provided": "true"}


def input_version_tags(versions: Mapping[AssetKey, str]) -> dict[str, str]:
    """The tags by which a materialization says from which versions of other assets it was made."""
    return {f"dagster/input_data_version/{key.to_user_string()}": version for key, version in versions.items()}
