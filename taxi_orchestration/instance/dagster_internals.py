"""What the project needs of Dagster that Dagster does not export: imported here, and nowhere else.

An upgrade of Dagster that moves or changes one of these fails the test of this module.
"""

from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.local_compute_log_manager import CapturedLogContext, LocalComputeLogManager

__all__ = [
    "AssetCheckEvaluationTargetMaterializationData",
    "AssetCheckExecutionRecordStatus",
    "CapturedLogContext",
    "CheckRunHealthResult",
    "LocalComputeLogManager",
    "WorkerStatus",
]
