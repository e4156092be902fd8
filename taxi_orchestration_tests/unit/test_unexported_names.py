"""The contract with Dagster, dbt and dagster-dbt: unexported names in use, and names that the package overrides."""

import importlib
import re
from functools import reduce
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from dbt.include import global_project, postgres

from taxi_orchestration.instance.docker_launcher import TaxiDockerRunLauncher
from taxi_orchestration.instance.launcher import TaxiRunLauncher
from taxi_orchestration.instance.storage import TaxiEventLog, TaxiStepLogs, TaxiStorage
from taxi_orchestration.settings import DBT_PROJECT_DIRECTORY, PROJECT_DIRECTORY

MODULES = [
    importlib.import_module(f"taxi_orchestration.{name}")
    for name in ("instance.dagster_internals", "dbt.dbt_internals", "dbt.dagster_dbt_internals")
]
NAMES = {name: getattr(module, name) for module in MODULES for name in module.__all__}

# How the package calls these names: the number of positional arguments, and the keywords.
CALLS: dict[str, tuple[int, set[str]]] = {
    "AssetBackfillData": (
        0,
        {
            "target_subset",
            "requested_runs_for_target_roots",
            "requested_subset",
            "materialized_subset",
            "failed_and_downstream_subset",
            "latest_storage_id",
            "backfill_start_time",
        },
    ),
    "AssetCheckEvaluationTargetMaterializationData": (0, {"storage_id", "run_id", "timestamp"}),
    "BulkActionsFilter": (0, {"statuses"}),
    "CapturedLogContext": (1, set()),
    "CheckRunHealthResult": (2, set()),
    "DbtCoreCliEventMessage": (2, set()),
    "DbtCoreCliEventMessage.to_default_asset_events": (4, {"target_path"}),
    "InMemoryJob": (1, set()),
    "LocalComputeLogManager": (0, {"base_dir", "inst_data"}),
    "LocalComputeLogManager.complete_artifact_path": (2, set()),
    "LocalComputeLogManager.get_captured_local_path": (3, {"partial"}),
    "Manifest.from_msgpack": (1, {"decoder"}),
    "PartitionBackfill": (
        0,
        {
            "backfill_id",
            "status",
            "from_failure",
            "tags",
            "backfill_timestamp",
            "asset_selection",
            "title",
            "asset_backfill_data",
        },
    ),
    "PartitionsSubset.empty_subset": (1, set()),
    "PartitionsSubset.get_partition_keys": (1, set()),
    "PartitionsSubset.with_partition_keys": (2, set()),
    "RemoteRepositoryOrigin": (2, set()),
    "RemoteRepositoryOrigin.get_job_origin": (2, set()),
    "TimestampWithTimezone": (2, set()),
    "close_pooled_connections": (1, set()),
    "execute_run_iterator": (3, set()),
    "extended_mashumuro_decoder": (1, set()),
    "get_asset_check_key_for_test": (3, {"project"}),
    "location_origins_from_config": (2, set()),
    "msg_to_dict": (1, set()),
}

# The attributes that the package reads from these names.
MEMBERS = {
    "AssetBackfillData": "_replace latest_storage_id materialized_subset target_subset",
    "AssetCheckExecutionRecordStatus": "FAILED PLANNED SUCCEEDED",
    "AssetCheckExecutionsTable.c": "asset_key execution_status partition run_id",
    "AssetGraphSubset": "__or__ _replace create_empty_subset partitions_subsets_by_asset_key",
    "BulkActionStatus": "CANCELED CANCELING COMPLETED_FAILED COMPLETED_SUCCESS FAILING REQUESTED",
    "ConfigurableResourceFactory": "create_resource",
    "DagsterPostgresException": "__cause__",
    "LocalComputeLogManager": "capture_logs config_type from_config_value",
    "PartitionBackfill": "_replace asset_backfill_data asset_selection backfill_id partition_names tags",
    "PartitionsSubset": "__or__ __sub__",
    "SqlEventLogStorageTable.c": "asset_key dagster_event_type partition run_id",
    "WorkerStatus": "FAILED RUNNING",
}


def resolve(path: str) -> Any:
    """Return the object at a dotted path that starts with an unexported name."""
    first, *others = path.split(".")
    return reduce(getattr, others, NAMES[first])


def test_every_unexported_name_has_a_contract_test() -> None:
    assert {path.split(".")[0] for path in (*CALLS, *MEMBERS)} == NAMES.keys()


@pytest.mark.parametrize("path", CALLS)
def test_an_unexported_name_takes_the_arguments_of_the_package(path: str) -> None:
    positional, keywords = CALLS[path]
    signature(resolve(path)).bind(*range(positional), **dict.fromkeys(keywords))


@pytest.mark.parametrize("path", MEMBERS)
def test_an_unexported_name_has_the_members_that_the_package_reads(path: str) -> None:
    assert [name for name in MEMBERS[path].split() if not hasattr(resolve(path), name)] == []


# The documented methods with which Dagster creates an object of a class that dagster.yaml names.
CONFIGURABLE = {"__init__", "config_type", "from_config_value"}


def find_overridden_methods(subclass: type) -> set[str]:
    """Return the methods and properties of a class that override those of its base classes."""
    return {
        name
        for name in vars(subclass)
        if callable(getattr(subclass, name)) or isinstance(vars(subclass)[name], property)
    } & {name for base in subclass.__mro__[1:-1] for name in vars(base) if not name.startswith("__")}


def find_macros(directory: Path) -> set[str]:
    found = (re.findall(r"{%-?\s*macro\s+(\w+)", path.read_text()) for path in directory.rglob("*.sql"))
    return {name for names in found for name in names}


def test_every_override_of_a_tool_is_in_the_page_on_the_architecture() -> None:
    methods = {
        name
        for subclass in (TaxiEventLog, TaxiStorage, TaxiStepLogs, TaxiRunLauncher, TaxiDockerRunLauncher)
        for name in find_overridden_methods(subclass)
    }
    dbt_macros = find_macros(Path(global_project.PACKAGE_PATH)) | find_macros(Path(postgres.PACKAGE_PATH))
    # dbt prefers the adapter's macro, with the prefix postgres__, to its default macro.
    own_macros = {
        name for name in find_macros(DBT_PROJECT_DIRECTORY / "macros") if name.removeprefix("postgres__") in dbt_macros
    }
    assert {"store_event", "has_table"} <= methods
    assert {"generate_schema_name", "postgres__get_test_sql"} <= own_macros
    page = (PROJECT_DIRECTORY / "docs" / "architecture.md").read_text()
    assert [name for name in sorted((methods | own_macros) - CONFIGURABLE) if f"`{name}`" not in page] == []
