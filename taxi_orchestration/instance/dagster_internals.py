"""The only uses of Dagster's and dagster-postgres's unexported names.

An upgrade of Dagster that moves or changes one of them fails the test of this module.
"""

from typing import Any

from dagster._config.pythonic_config import ConfigurableResourceFactory
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.definitions.partitions.subset import PartitionsSubset
from dagster._core.definitions.timestamp import TimestampWithTimezone
from dagster._core.execution.api import execute_run_iterator
from dagster._core.execution.asset_backfill import AssetBackfillData
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus, PartitionBackfill
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._core.remote_origin import RemoteRepositoryOrigin
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.local_compute_log_manager import CapturedLogContext, LocalComputeLogManager
from dagster._core.workspace.load import location_origins_from_config
from dagster_postgres.utils import DagsterPostgresException

__all__ = [
    "AssetBackfillData",
    "AssetCheckEvaluationTargetMaterializationData",
    "AssetCheckExecutionRecordStatus",
    "AssetCheckExecutionsTable",
    "AssetGraphSubset",
    "BulkActionStatus",
    "BulkActionsFilter",
    "CapturedLogContext",
    "CheckRunHealthResult",
    "ConfigurableResourceFactory",
    "DagsterPostgresException",
    "InMemoryJob",
    "LocalComputeLogManager",
    "PartitionBackfill",
    "PartitionsSubset",
    "RemoteRepositoryOrigin",
    "SqlEventLogStorageTable",
    "TimestampWithTimezone",
    "WorkerStatus",
    "close_pooled_connections",
    "execute_run_iterator",
    "location_origins_from_config",
]


def close_pooled_connections(storage: Any) -> None:
    """Close the pooled connections of a storage of dagster-postgres; those of runs and schedules have no method."""
    storage._engine.dispose()
