"""What a check found: said once, shown by Dagster, told by an alert."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from dagster import AssetCheckEvaluation, AssetCheckSeverity, AssetCheckSpec, EventLogRecord, MetadataValue

# Dagster exports the evaluation, but not what says which materialization it is of.
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData

from taxi_orchestration.assets.markdown import as_markdown

Level = Literal["good", "warn", "error"]

SAMPLE_ROWS = 5


@dataclass(frozen=True)
class Finding:
    """One sentence on what is so, what to do now, the numbers behind it, a few rows and a picture.

    `warn` is worth a look, `error` means that somebody who reads the data would be misled.
    """

    level: Level
    says: str
    to_do: str = "Nothing."
    counts: Mapping[str, int | float | str] = field(default_factory=dict)
    sample: Sequence[Mapping[str, Any]] = ()
    plot: str = ""
    # Of a check of all months, those that it is about.
    months: str = ""


def evaluation_of(
    spec: AssetCheckSpec, finding: Finding, month: str | None = None, of: EventLogRecord | None = None
) -> AssetCheckEvaluation:
    """The finding as Dagster records it: of the partition `month`, or of all months.

    `of` is the materialization that was checked: without it no condition takes the check for one of what is there now.
    """
    metadata: dict[str, MetadataValue] = {"to do": MetadataValue.text(finding.to_do)}
    if months := month or finding.months:
        metadata["months"] = MetadataValue.text(months)
    for name, value in finding.counts.items():
        match value:
            case int():
                metadata[name] = MetadataValue.int(value)
            case float():
                metadata[name] = MetadataValue.float(value)
            case _:
                metadata[name] = MetadataValue.text(value)
    if finding.sample:
        metadata["sample"] = MetadataValue.md(as_markdown(finding.sample[:SAMPLE_ROWS]))
    if finding.plot:
        metadata["plot"] = MetadataValue.md(finding.plot)
    return AssetCheckEvaluation(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=finding.level == "good",
        severity=AssetCheckSeverity.ERROR if finding.level == "error" else AssetCheckSeverity.WARN,
        description=finding.says,
        metadata=metadata,
        blocking=spec.blocking,
        partition=month,
        target_materialization_data=AssetCheckEvaluationTargetMaterializationData(
            storage_id=of.storage_id, run_id=of.run_id, timestamp=of.timestamp
        )
        if of
        else None,
    )
